"""fw_cfg as a driver sees it: select an item, read it byte by byte."""

import struct

import pytest

from devices.isa.fw_cfg import FirmwareConfiguration, firmware_items
from emulator.bus import PortBus


class Driver:
    def __init__(self, **files: bytes) -> None:
        self.bus = PortBus()
        items = firmware_items(memory_bytes=5 << 30, cpu_count=3, files={f"etc/{name}": files[name] for name in files})
        self.bus.attach(0x510, 2, FirmwareConfiguration(items))

    def read(self, key: int, size_bytes: int) -> bytes:
        self.bus.write(0x510, 2, key)
        return bytes(self.bus.read(0x511, 1) for _ in range(size_bytes))


def test_the_signature_says_that_it_is_there() -> None:
    assert Driver().read(0x00, 4) == b"QEMU"
    assert Driver().read(0x01, 4) == b"\1\0\0\0"  # no DMA


@pytest.mark.parametrize(("key", "layout", "value"), [(0x03, "<Q", 5 << 30), (0x05, "<H", 3), (0x0F, "<H", 3)])
def test_the_size_of_the_machine_is_told(key: int, layout: str, value: int) -> None:
    assert struct.unpack(layout, Driver().read(key, struct.calcsize(layout))) == (value,)


def test_selecting_starts_at_the_first_byte_again_and_the_end_reads_zeros() -> None:
    driver = Driver()
    assert driver.read(0x00, 2) == b"QE"
    assert driver.read(0x00, 7) == b"QEMU\0\0\0"


def test_an_item_that_is_not_there_reads_zeros() -> None:
    assert Driver().read(0x8003, 4) == bytes(4)
    assert Driver().read(0xFFFF, 1) == bytes(1)


def test_the_directory_leads_to_the_files() -> None:
    driver = Driver(b=b"second", a=b"first")
    (count,) = struct.unpack(">I", driver.read(0x19, 4))
    data = driver.read(0x19, 4 + 64 * count)
    files = [struct.unpack_from(">IHH56s", data, 4 + 64 * i) for i in range(count)]
    assert [(size, name.rstrip(b"\0")) for size, _, _, name in files] == [(5, b"etc/a"), (6, b"etc/b")]
    assert [driver.read(key, size) for size, key, _, _ in files] == [b"first", b"second"]


def test_other_widths_and_directions_do_nothing() -> None:
    driver = Driver()
    driver.bus.write(0x510, 2, 0)
    driver.bus.write(0x510, 1, 3)
    driver.bus.write(0x511, 1, 3)
    assert driver.bus.read(0x510, 2) == 0xFFFF
    assert driver.bus.read(0x510, 1) == 0xFF
    assert driver.bus.read(0x511, 1) == ord("Q")
