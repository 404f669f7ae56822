"""The guest's set-up function as its driver sees it."""

import pytest

from devices.nic.board import load_board
from devices.nic.nic import Nic
from devices.nic.vif_function import VifFunction
from emulator.events import EventQueue
from tests.devices.nic.rig import RAM_BYTES, Ram

ALL_ONES = 0xFFFF_FFFF


class Rig:
    def __init__(self) -> None:
        events = EventQueue()
        self.nic = Nic(events, load_board())
        self.function = VifFunction(events)
        self.vif = self.nic.create_vif(b"\2\x5c\0\0\1\2", Ram())
        assert self.vif is not None
        self.function.vif = self.vif

    def read(self, offset: int) -> int:
        return self.function.read(offset, 4)

    def attach(self, page_gpa: int) -> int:
        self.function.write(0x10, 8, page_gpa)
        self.function.write(0x18, 4, 1)
        return self.read(0x18)


def test_it_says_what_it_is() -> None:
    rig = Rig()
    assert [rig.read(at) for at in (0, 4, 8, 0xC, 0x18)] == [0x5C01_0001, 0, 0x0000_5C02, 0x0201, 0]
    assert rig.function.function.read(0, 4) == 0x5C01_1234
    assert rig.function.read(8, 8) == 0x0201_0000_5C02


def test_without_a_vif_it_says_so() -> None:
    rig = Rig()
    assert rig.vif is not None
    rig.nic.destroy_vif(rig.vif)
    assert [rig.read(at) for at in (4, 0x18)] == [ALL_ONES, 3]
    assert rig.attach(0x1000) == 3
    assert VifFunction(EventQueue()).read(4, 4) == ALL_ONES
    assert VifFunction(EventQueue()).read(0x20, 8) == 0


@pytest.mark.parametrize(
    "page_gpa", [1, 0x1800, RAM_BYTES, RAM_BYTES - 1, (1 << 64) - 0x1000, (1 << 64) - 1, 1 << 63], ids=hex
)
def test_a_page_that_is_not_aligned_or_not_ram_is_refused(page_gpa: int) -> None:
    rig = Rig()
    assert rig.attach(0x1000) == 1
    assert rig.attach(page_gpa) == 2
    assert rig.vif is not None
    assert not rig.vif.is_attached
    assert rig.function.read(0x10, 8) == page_gpa
    rig.function.write(0x18, 4, 0)
    assert rig.read(0x18) == 0


def test_the_page_can_be_written_in_halves() -> None:
    rig = Rig()
    rig.function.write(0x14, 4, 0x1)
    rig.function.write(0x10, 4, 0x2000)
    assert rig.function.read(0x10, 8) == 0x1_0000_2000


def test_an_upcall_vector_is_none_of_the_exceptions() -> None:
    rig = Rig()
    kept = []
    for value in (31, 32, 256, 255, ALL_ONES, 0, 7):
        rig.function.write(0x1C, 4, value)
        kept.append(rig.read(0x1C))
    assert kept == [0, 32, 32, 255, 255, 0, 0]
