"""A PCI function as a driver sees it: header, sizes and places of its regions, interrupt pin."""

import pytest

from devices.pci.function import PciFunction, Region
from tests.devices.registers import Registers
from tests.devices.wire import Wire

ROWS = ((0x00, 2, 0x1234, 0), (0x02, 2, 0x5678, 0), (0x04, 2, 0, 0x0407))
MEMORY, PORTS = Registers((4,)), Registers((1,))


def function() -> PciFunction:
    regions = [Region(MEMORY, 0x10000), Region(PORTS, 0x20, is_ports=True)]
    return PciFunction(ROWS, regions=regions, pin=2)


def test_ones_written_to_a_base_address_tell_the_size() -> None:
    device = function()
    for register, expected in ((0x10, 0xFFFF_0000), (0x14, 0xFFFF_FFE1), (0x18, 0), (0x24, 0), (0x30, 0)):
        device.write(register, 4, 0xFFFF_FFFF)
        assert device.read(register, 4) == expected
    device.write(0x14, 4, 0xC123)
    assert device.read(0x14, 4) == 0xC121


def test_a_region_is_decoded_only_when_the_command_register_says_so() -> None:
    device = function()
    device.write(0x10, 4, 0xE123_4567)
    device.write(0x14, 4, 0xC0FF)
    assert list(device.placed) == []
    device.write(0x04, 2, 2)
    assert list(device.placed) == [(MEMORY, 0xE123_0000, 0xE124_0000, False)]
    device.write(0x04, 2, 1)
    assert list(device.placed) == [(PORTS, 0xC0E0, 0xC100, True)]
    device.write(0x15, 1, 0xD0)  # byte by byte it moves, too
    assert list(device.placed) == [(PORTS, 0xD0E0, 0xD100, True)]


def test_the_interrupt_pin_follows_the_device_and_the_command_register() -> None:
    device, wire = function(), Wire()
    device.line = wire
    assert device.read(0x3C, 2) == 0x0200
    device.write(0x3C, 2, 0x0B0B)
    assert device.read(0x3C, 2) == 0x020B
    device.set_interrupt(True)
    assert (wire.level, device.read(0x06, 2)) == (True, 8)
    device.write(0x04, 2, 0x400)
    assert (wire.level, device.read(0x06, 2)) == (False, 8)
    device.write(0x04, 2, 0)
    device.set_interrupt(False)
    assert (wire.level, device.read(0x06, 2)) == (False, 0)
    assert [level for _, level in wire.changes] == [True, False, True, False]


def test_more_than_a_function_has_is_refused() -> None:
    for regions, pin in ((7, 0), (0, 5)):
        with pytest.raises(ValueError, match="more than a function has"):
            PciFunction(ROWS, regions=[Region(MEMORY, 16)] * regions, pin=pin)
