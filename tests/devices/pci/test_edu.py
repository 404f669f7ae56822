"""The educational device as its driver sees it."""

import pytest

from devices.pci.edu import Edu
from emulator.events import EventQueue
from tests.devices.pci.memory import FakeMemory
from tests.devices.wire import Wire

SOURCE, DESTINATION, COUNT, COMMAND, BUFFER = 0x80, 0x88, 0x90, 0x98, 0x40000


class Rig:
    def __init__(self) -> None:
        self.events, self.wire = EventQueue(), Wire()
        self.edu = Edu(self.events)
        self.edu.function.line = self.wire
        self.memory = FakeMemory()
        self.edu.function.bus_master.port = self.memory
        self.edu.function.write(0x04, 2, 6)

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
    assert [rig.read(at) for at in (0x60, 0x64, 0x40000)] == [0xFFFF_FFFF] * 3


def transfer(rig: Rig, source: int, destination: int, count: int, command: int) -> None:
    for register, value in ((SOURCE, source), (DESTINATION, destination), (COUNT, count)):
        rig.edu.write(register, 8, value)
    rig.write(COMMAND, command | 1)


def test_a_transfer_takes_a_microsecond_and_its_bytes_on_a_bus_of_33_mhz() -> None:
    rig = Rig()
    rig.memory.bytes[0x100:0x110] = bytes(range(16))
    transfer(rig, 0x100, BUFFER + 0x20, 16, 0)
    rig.events.run_until(1_000_000 + 16 * 7_576 - 1)
    assert (rig.read(COMMAND), rig.memory.accesses) == (1, [])
    rig.events.run_until(1_000_000 + 16 * 7_576)
    assert (rig.read(COMMAND), rig.memory.accesses) == (0, [(0x100, 16, False)])
    transfer(rig, BUFFER + 0x24, 0x2000, 4, 2)
    rig.events.run_until(10_000_000)
    assert rig.memory.bytes[0x1FFF:0x2005] == bytes([0, 4, 5, 6, 7, 0])
    assert rig.read(COMMAND) == 2


def test_nothing_changes_a_transfer_that_runs() -> None:
    rig = Rig()
    transfer(rig, 0x100, BUFFER, 16, 0)
    transfer(rig, BUFFER, 0x200, 32, 2)
    assert [rig.edu.read(register, 8) for register in (SOURCE, DESTINATION, COUNT, COMMAND)] == [0x100, BUFFER, 16, 1]
    rig.events.run_until(10_000_000)
    rig.write(COMMAND, 6)  # not a start
    assert (rig.read(COMMAND), rig.events.next_ps()) == (0, None)


@pytest.mark.parametrize(
    ("source", "destination", "count", "command"),
    [
        (0, BUFFER, 4097, 0),
        (0, BUFFER + 4096, 1, 0),
        (0, BUFFER - 1, 1, 0),
        (0, 0, 1, 0),
        (BUFFER + 1, 0, 4096, 2),
        (0, BUFFER, (1 << 64) - 1, 0),
        ((1 << 64) - 1, 0, 1, 2),
    ],
)
def test_a_transfer_that_does_not_fit_the_buffer_moves_nothing(
    source: int, destination: int, count: int, command: int
) -> None:
    rig = Rig()
    transfer(rig, source, destination, count, command | 4)
    rig.events.run_until(1_000_000)
    assert (rig.read(0x24), rig.memory.accesses) == (0x100, [])


def test_halves_of_an_address_can_be_written_low_half_first() -> None:
    rig = Rig()
    rig.edu.write(SOURCE, 8, (1 << 64) - 1)
    rig.write(SOURCE, 0x1234_5678)
    assert rig.edu.read(SOURCE, 8) == 0x1234_5678
    rig.write(SOURCE + 4, 0x9ABC)
    assert (rig.edu.read(SOURCE, 8), rig.read(SOURCE + 4)) == (0x9ABC_1234_5678, 0x9ABC)
    assert rig.edu.read(0x20, 8) == (1 << 64) - 1


def test_with_msi_each_cause_is_a_message_and_the_pin_is_silent() -> None:
    rig = Rig()
    function = rig.edu.function
    assert function.read(0x40, 4) == 0x0080_0005
    function.write(0x44, 4, 0x300)
    function.write(0x4C, 2, 0x99)
    function.write(0x42, 2, 1)
    rig.write(0x60, 1)
    rig.write(0x60, 1)
    assert (rig.memory.accesses, rig.wire.level) == ([(0x300, 4, True)] * 2, False)
    transfer(rig, 0, BUFFER, 0, 4)
    rig.events.run_until(1_000_000)
    assert (rig.read(0x24), rig.memory.accesses[2:]) == (0x101, [(0x300, 4, True)])
