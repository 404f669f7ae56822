"""PCI configuration space as Linux and test kernels probe it."""

import random

import pytest

from devices.pci import ConfigurationSpace, PciBus, PciConfigAddress, PciConfigData


class Pci:
    """The two ports and the bus behind them."""

    def __init__(self) -> None:
        self.bus = PciBus()
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
    bus = PciBus()
    bus.attach(3, ConfigurationSpace(()))
    for device in (0, 3, 32, -1):
        with pytest.raises(ValueError, match="cannot be claimed"):
            bus.attach(device, ConfigurationSpace(()))


def test_random_traffic_stays_inside() -> None:
    rng, pci = random.Random(5), Pci()
    for _ in range(3000):
        pci.address.write(0, 4, rng.getrandbits(32) & rng.choice((0xFFFF_FFFF, 0x8000_00FF)))
        offset, size = rng.randrange(4), rng.choice((1, 2, 4))
        if rng.random() < 0.5:
            pci.data.write(offset, size, rng.getrandbits(8 * size))
        else:
            assert 0 <= pci.data.read(offset, size) < 1 << 8 * size
