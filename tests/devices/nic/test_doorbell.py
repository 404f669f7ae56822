"""The identifier register."""

import pytest

from devices.nic.doorbell import Doorbell
from tests.devices.wire import Wire


def make(bits: int = 8) -> tuple[Doorbell, Wire]:
    wire = Wire()
    return Doorbell(bits, wire), wire


def test_bits_are_set_by_the_device_and_cleared_by_writing_ones() -> None:
    doorbell, _ = make()
    for bit in (0, 7, 7, 3):
        doorbell.ring(bit)
    assert [doorbell.read(0, size) for size in (1, 4, 8)] == [0x89] * 3
    doorbell.write(0, 4, 0x88)
    assert doorbell.read(0, 8) == 1
    doorbell.write(0, 1, 0xFE)
    assert doorbell.read(0, 8) == 1


def test_the_line_follows_the_bits_that_are_not_masked() -> None:
    doorbell, wire = make()
    doorbell.write(8, 4, 0xFFFF_FFFD)
    assert doorbell.read(8, 8) == 0xFD
    doorbell.ring(0)
    assert not wire.level
    doorbell.ring(1)
    doorbell.write(8, 1, 0xFF)
    doorbell.write(8, 1, 0xFC)
    doorbell.write(0, 8, 3)
    assert [level for _, level in wire.changes] == [True, False, True, False]


@pytest.mark.parametrize("bits", [1, 8, 33, 64])
def test_it_is_as_wide_as_it_is_made(bits: int) -> None:
    doorbell, _ = make(bits)
    doorbell.ring(bits - 1)
    assert doorbell.read(0, 8) == 1 << bits - 1
    assert doorbell.read(4, 4) == 1 << bits - 1 >> 32
    doorbell.write(8, 8, (1 << 64) - 1)
    assert doorbell.read(8, 8) == (1 << bits) - 1
    doorbell.write(4, 4, 0xFFFF_FFFF)
    doorbell.write(0, 4, 0xFFFF_FFFF)
    assert doorbell.read(0, 8) == 0


def test_elsewhere_there_is_nothing() -> None:
    doorbell, _ = make()
    doorbell.ring(0)
    doorbell.write(16, 8, 0xFF)
    assert [doorbell.read(offset, 4) for offset in (16, 0xFFC)] == [0, 0]
    for bits in (0, 65):
        with pytest.raises(ValueError, match="identifier register"):
            Doorbell(bits, Wire())
