"""PCI configuration space as Linux and test kernels probe it."""

import random

import pytest

from devices.pci.bus import PIRQ_COUNT, WINDOW_BASE, PciBus, PciConfigAddress, PciConfigData, pirq_of
from devices.pci.dma import Nowhere
from devices.pci.function import DECODES_MEMORY, DECODES_PORTS, PciFunction, Region
from tests.devices.registers import Registers
from tests.devices.wire import Wire


class Pci:
    """The two ports and the bus behind them."""

    def __init__(self) -> None:
        self.pirqs = [Wire() for _ in range(PIRQ_COUNT)]
        self.bus = PciBus(tuple(self.pirqs), Nowhere())
        self.address = PciConfigAddress()
        self.data = PciConfigData(self.bus, self.address)

    def select(self, device: int, register: int, *, bus: int = 0, function: int = 0, enable: int = 1) -> None:
        self.address.write(0, 4, enable << 31 | bus << 16 | device << 11 | function << 8 | register)

    def read(self, device: int, register: int, size_bytes: int = 4, **place: int) -> int:
        self.select(device, register & ~3, **place)
        return self.data.read(register & 3, size_bytes)

    def write(self, device: int, register: int, size_bytes: int, value: int) -> None:
        self.select(device, register & ~3)
        self.data.write(register & 3, size_bytes, value)


def test_the_address_reads_back_without_its_reserved_bits() -> None:
    address = PciConfigAddress()
    address.write(0, 4, 0x8000_0000)
    assert address.read(0, 4) == 0x8000_0000
    address.write(0, 4, 0xFFFF_FFFF)
    assert address.read(0, 4) == 0x80FF_FFFC


def test_the_host_bridge_is_device_0() -> None:
    """What Linux's sanity check of mechanism #1 looks for."""
    pci = Pci()
    assert (pci.read(0, 0), pci.read(0, 2, 2), pci.read(0, 0x0A, 2), pci.read(0, 0x0E, 1)) == (
        0x1237_8086,
        0x1237,
        0x0600,
        0,
    )
    assert pci.read(0, 0x08) == 0x0600_0002


def test_nothing_else_answers() -> None:
    pci = Pci()
    for device in range(1, 32):
        assert pci.read(device, 0) == 0xFFFF_FFFF
    assert pci.read(0, 0, bus=1) == pci.read(0, 0, function=1) == pci.read(0, 0, enable=0) == 0xFFFF_FFFF
    assert [pci.read(5, 1, size) for size in (1, 2)] == [0xFF, 0xFFFF]


def test_only_the_bits_that_can_be_written_change() -> None:
    pci = Pci()
    pci.write(0, 0x00, 4, 0)
    pci.write(0, 0x04, 2, 0xFFFF)
    pci.write(0, 0x0D, 1, 0xFF)
    pci.write(0, 0x10, 4, 0xFFFF_FFFF)
    pci.write(7, 0x04, 4, 0xFFFF_FFFF)
    assert [pci.read(0, at) for at in (0, 4, 0x0C, 0x10)] == [0x1237_8086, 0x0200_0146, 0xF800, 0]
    pci.write(0, 0x04, 2, 0)
    assert pci.read(0, 4, 2) == 6


def test_an_access_that_runs_beyond_the_register_ends_with_it() -> None:
    pci = Pci()
    assert pci.read(0, 3, 2) == 0xFF12
    assert pci.read(0, 1, 4) == 0xFF12_3780
    pci.write(0, 0x07, 4, 0xFFFF_FFFF)
    assert pci.read(0, 8) == 0x0600_0002


def test_a_place_on_the_bus_is_for_one() -> None:
    bus = Pci().bus
    bus.attach(3, PciFunction(()))
    for slot in (0, 3, 32, -1):
        with pytest.raises(ValueError, match="cannot be claimed"):
            bus.attach(slot, PciFunction(()))


def placed(device: Registers, start: int, *, is_ports: bool = False) -> PciFunction:
    """A function with one region of 256 bytes that it decodes at `start`."""
    command = DECODES_PORTS if is_ports else DECODES_MEMORY
    function = PciFunction(((4, 2, 0, command),), regions=[Region(device, 0x100, is_ports)])
    function.write(0x10, 4, start)
    function.write(0x04, 2, command)
    return function


def test_memory_is_decoded_where_the_register_says() -> None:
    pci, device = Pci(), Registers((1, 4))
    pci.bus.attach(3, placed(device, WINDOW_BASE + 0x1200))
    window = pci.bus.window
    device.values = {0x04: 0x1122_3344, 0x08: 0x5566_7788, 0x0D: 0x99}
    assert window.read(0x1204, 4) == 0x1122_3344
    assert window.read(0x1208, 8) == 0x5566_7788 | device.NOTHING << 32  # by halves
    assert window.read(0x120C, 2) == device.NOTHING & 0xFF | 0x99 << 8  # by bytes
    window.write(0x12F8, 8, 0x0102_0304_0506_0708)
    assert (device.values[0xF8], device.values[0xFC]) == (0x0506_0708, 0x0102_0304)
    before = dict(device.values)
    for offset in (0x1100, 0x11FC, 0x1300):
        assert window.read(offset, 4) == 0xFFFF_FFFF
        window.write(offset, 4, 0)
    assert device.values == before


def test_ports_are_decoded_apart_from_memory() -> None:
    pci, device = Pci(), Registers((1, 2))
    pci.bus.attach(3, placed(device, 0xC100, is_ports=True))
    assert pci.bus.find_port(0xC1FE, 2) == (device, 0xFE)
    assert pci.bus.find_port(0xC100, 4) is None  # its bytes are asked for one by one then
    assert pci.bus.find_port(0xC1FF, 2) is None
    assert pci.bus.find_port(0xC0FF, 1) is None
    assert pci.bus.find_memory(0xC100, 1) is None


def test_of_two_at_the_same_address_the_lower_slot_answers() -> None:
    pci, first, second = Pci(), Registers((4,)), Registers((4,))
    pci.bus.attach(2, placed(first, WINDOW_BASE))
    pci.bus.attach(3, placed(second, WINDOW_BASE))
    assert pci.bus.find_memory(WINDOW_BASE, 4) == (first, 0)


def test_interrupt_pins_rotate_from_slot_to_slot() -> None:
    assert [pirq_of(slot, 1) for slot in range(4, 9)] == [0, 1, 2, 3, 0]
    assert [pirq_of(4, pin) for pin in (1, 2, 3, 4)] == [0, 1, 2, 3]


def test_functions_that_share_a_wire_hold_it_until_the_last_lets_go() -> None:
    pci = Pci()
    one, other, third = PciFunction((), pin=1), PciFunction((), pin=1), PciFunction((), pin=2)
    for slot, function in ((4, one), (8, other), (12, third)):
        pci.bus.attach(slot, function)
    one.set_interrupt(True)
    other.set_interrupt(True)
    one.set_interrupt(False)
    assert [wire.level for wire in pci.pirqs] == [True, False, False, False]
    other.set_interrupt(False)
    third.set_interrupt(True)
    assert [wire.level for wire in pci.pirqs] == [False, True, False, False]
    assert [level for _, level in pci.pirqs[0].changes] == [True, False]


def test_random_traffic_stays_inside() -> None:
    rng, pci = random.Random(5), Pci()
    for _ in range(3000):
        pci.address.write(0, 4, rng.getrandbits(32) & rng.choice((0xFFFF_FFFF, 0x8000_00FF)))
        offset, size = rng.randrange(4), rng.choice((1, 2, 4))
        if rng.random() < 0.5:
            pci.data.write(offset, size, rng.getrandbits(8 * size))
        else:
            assert 0 <= pci.data.read(offset, size) < 1 << 8 * size
