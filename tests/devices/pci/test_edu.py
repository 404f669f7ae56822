"""The educational device as its driver sees it."""

import pytest

from devices.pci.edu import Edu
from emulator.events import EventQueue
from tests.devices.wire import Wire


class Rig:
    def __init__(self) -> None:
        self.events, self.wire = EventQueue(), Wire()
        self.edu = Edu(self.events)
        self.edu.function.line = self.wire

    def read(self, offset: int) -> int:
        return self.edu.read(offset, 4)

    def write(self, offset: int, value: int) -> None:
        self.edu.write(offset, 4, value)


def test_it_says_what_it_is_and_that_it_lives() -> None:
    rig = Rig()
    rig.write(0, 5)
    rig.write(4, 0x1234_5678)
    assert (rig.read(0), rig.read(4)) == (0x0100_00ED, 0xEDCB_A987)
    assert rig.edu.function.read(0, 4) == 0x11E8_1234
    assert rig.edu.function.read(0x3D, 1) == 1
    rig.edu.function.write(0x10, 4, 0xFFFF_FFFF)
    assert rig.edu.function.read(0x10, 4) == 0xFFF0_0000


@pytest.mark.parametrize(
    ("number", "expected"), [(0, 1), (12, 479_001_600), (13, 1_932_053_504), (33, 1 << 31), (34, 0), (0xFFFF_FFFF, 0)]
)
def test_a_factorial_takes_a_microsecond(number: int, expected: int) -> None:
    rig = Rig()
    rig.write(0x08, number)
    rig.write(0x08, 3)  # dropped: it is busy
    rig.events.run_until(999_999)
    assert rig.read(0x20) == 1
    rig.events.run_until(1_000_000)
    assert (rig.read(0x20), rig.read(0x08), rig.wire.level) == (0, expected, False)


def test_a_finished_factorial_interrupts_when_asked_to() -> None:
    rig = Rig()
    rig.write(0x20, 0xFFFF_FFFF)
    rig.write(0x08, 5)
    assert rig.read(0x20) == 0x81
    rig.events.run_until(1_000_000)
    assert (rig.read(0x24), rig.wire.level) == (1, True)
    rig.write(0x64, 1)
    assert (rig.read(0x24), rig.wire.level) == (0, False)


def test_the_pin_is_held_until_every_raised_bit_is_acknowledged() -> None:
    rig = Rig()
    rig.write(0x60, 0x30)
    rig.write(0x60, 0x01)
    rig.write(0x64, 0x11)
    assert (rig.read(0x24), rig.wire.level) == (0x20, True)
    rig.write(0x64, 0xFFFF_FFFF)
    assert [level for _, level in rig.wire.changes] == [True, False]
    assert [rig.read(at) for at in (0x60, 0x64, 0x80, 0x40000)] == [0xFFFF_FFFF] * 4
