"""Firmware's tables as a kernel reads them: found by search, checksums, what they say of the board.

The bytes of AML terms are those the ACPI reference compiler (iasl) makes of the ASL beside them.
"""

import struct

import pytest

from devices.pci.acpi_pm import S5_TYPE
from vmm.boot.firmware import FIRMWARE_BYTES, FIRMWARE_GPA, RSDP_GPA, acpi_tables, aml, firmware_image, mp_table
from vmm.boot.firmware.layout import MP_POINTER_GPA
from vmm.boot.loaders.low_memory import E820_RESERVED, memory_map

CPU_COUNTS = (1, 2, 4, 32, 255)


class Memory:
    """The firmware segment by guest-physical address."""

    def __init__(self, cpu_count: int) -> None:
        self._image = firmware_image(cpu_count)

    def read(self, gpa: int, length: int) -> bytes:
        data = self._image[gpa - FIRMWARE_GPA : gpa - FIRMWARE_GPA + length]
        assert len(data) == length
        return data

    def word(self, gpa: int, size_bytes: int = 4) -> int:
        return int.from_bytes(self.read(gpa, size_bytes), "little")

    def table(self, gpa: int) -> bytes:
        data = self.read(gpa, self.word(gpa + 4))
        assert sum(data) % 256 == 0
        return data


def tables(memory: Memory) -> dict[bytes, bytes]:
    """Every table that the XSDT leads to, and the DSDT."""
    root = memory.read(RSDP_GPA, 36)
    assert root.startswith(b"RSD PTR ")
    assert sum(root[:20]) % 256 == sum(root) % 256 == 0
    xsdt, rsdt = memory.table(memory.word(RSDP_GPA + 24, 8)), memory.table(memory.word(RSDP_GPA + 16))
    gpas = struct.unpack(f"<{(len(xsdt) - 36) // 8}Q", xsdt[36:])
    assert gpas == struct.unpack(f"<{(len(rsdt) - 36) // 4}I", rsdt[36:])
    found = {table[:4]: table for table in map(memory.table, gpas)}
    dsdt = memory.table(int.from_bytes(found[b"FACP"][40:44], "little"))
    return found | {dsdt[:4]: dsdt}


@pytest.mark.parametrize("cpu_count", CPU_COUNTS)
def test_the_segment_is_reserved_in_the_memory_map_and_has_room(cpu_count: int) -> None:
    size = len(firmware_image(cpu_count))
    assert size <= FIRMWARE_BYTES
    assert any(
        start <= FIRMWARE_GPA and FIRMWARE_GPA + size <= end
        for start, end, kind in memory_map(256 << 20)
        if kind == E820_RESERVED
    )


def test_the_fadt_forbids_messages_unless_a_device_sends_them() -> None:
    with_and_without = (acpi_tables.fadt(0, 0, has_messages=has_messages) for has_messages in (True, False))
    assert [table[109] & acpi_tables.NO_MSI for table in with_and_without] == [0, acpi_tables.NO_MSI]


@pytest.mark.parametrize("cpu_count", CPU_COUNTS)
def test_the_madt_lists_every_cpu_and_the_wiring_of_the_board(cpu_count: int) -> None:
    madt = tables(Memory(cpu_count))[b"APIC"]
    assert struct.unpack_from("<II", madt, 36) == (0xFEE0_0000, 1)
    structures, at = [], 44
    while at < len(madt):
        structures.append(madt[at : at + madt[at + 1]])
        at += madt[at + 1]
    cpus = [structure for structure in structures if structure[0] == 0]
    assert [tuple(cpu[2:5]) for cpu in cpus] == [(number, number, 1) for number in range(cpu_count)]
    others = [structure for structure in structures if structure[0] != 0]
    assert struct.unpack("<BBBBII", others[0]) == (1, 12, cpu_count & 0xF, 0, 0xFEC0_0000, 0)
    assert [struct.unpack("<BBBBIH", other) for other in others[1:3]] == [(2, 10, 0, 0, 2, 0), (2, 10, 0, 9, 9, 0xD)]
    assert others[3] == bytes([4, 6, 0xFF, 0, 0, 1])


def test_the_fadt_leads_to_the_pm_block_the_facs_and_the_dsdt() -> None:
    memory = Memory(1)
    fadt = tables(memory)[b"FACP"]
    assert (len(fadt), fadt[8], struct.unpack_from("<H", fadt, 46)) == (244, 3, (9,))
    facs_gpa, dsdt_gpa = struct.unpack_from("<II", fadt, 36)
    assert facs_gpa % 64 == 0
    assert memory.read(facs_gpa, 8) == b"FACS" + struct.pack("<I", 64)
    assert struct.unpack_from("<Q", fadt, 140) == (dsdt_gpa,)
    assert struct.unpack_from("<6I", fadt, 56) == (0x600, 0, 0x604, 0, 0, 0x608)
    assert tuple(fadt[88:92]) == (4, 2, 0, 4)
    assert struct.unpack_from("<BBBBQB", fadt, 116) == (1, 8, 0, 0, 0xCF9, 6)
    assert struct.unpack_from("<BBBBQ", fadt, 208) == (1, 32, 0, 0, 0x608)


def test_the_dsdt_says_how_to_enter_s5() -> None:
    dsdt = tables(Memory(1))[b"DSDT"]
    assert dsdt[36:51] == b"\x08\\_S5_\x12\x08\x04\x0a" + bytes([S5_TYPE, 0x0A, S5_TYPE, 0, 0])
    assert b"COM1\x08_HID\x0c\x41\xd0\x05\x01" in dsdt


def test_the_dsdt_routes_every_pci_pin_to_the_8259s_and_to_the_io_apic() -> None:
    dsdt = tables(Memory(1))[b"DSDT"]
    for name, interrupts in ((b"PRTP", (10, 11, 10, 11)), (b"PRTA", (16, 17, 18, 19))):
        at = dsdt.index(b"\x08" + name + b"\x12") + 8
        assert dsdt[at] == 31 * 4
        expected = [
            aml.package(*map(aml.integer, (slot << 16 | 0xFFFF, pin, 0, interrupts[(slot + pin) % 4])))
            for slot in range(1, 32)
            for pin in range(4)
        ]
        assert dsdt[at + 1 :].startswith(b"".join(expected))


@pytest.mark.parametrize("cpu_count", CPU_COUNTS)
def test_the_mp_table_says_what_the_madt_says(cpu_count: int) -> None:
    memory = Memory(cpu_count)
    pointer = memory.read(MP_POINTER_GPA, 16)
    assert (pointer[:4], pointer[8:10], sum(pointer) % 256) == (b"_MP_", b"\x01\x04", 0)
    gpa = int.from_bytes(pointer[4:8], "little")
    table = memory.read(gpa, memory.word(gpa + 4, 2))
    assert (table[:4], sum(table) % 256, memory.word(gpa + 36)) == (b"PCMP", 0, 0xFEE0_0000)
    entries, at = [], 44
    while at < len(table):
        size = 20 if table[at] == mp_table.PROCESSOR else 8
        entries.append(table[at : at + size])
        at += size
    assert len(entries) == int.from_bytes(table[34:36], "little")
    assert [entry[0] for entry in entries] == sorted(entry[0] for entry in entries)
    cpus = [entry for entry in entries if entry[0] == mp_table.PROCESSOR]
    assert [(cpu[1], cpu[3]) for cpu in cpus] == [(number, 3 if number == 0 else 1) for number in range(cpu_count)]
    buses = {entry[2:8]: entry[1] for entry in entries if entry[0] == mp_table.BUS}
    wired = [entry for entry in entries if entry[:2] == bytes([mp_table.IO_INTERRUPT, mp_table.INT])]
    pins = {entry[5]: entry[7] for entry in wired if entry[4] == buses[b"ISA   "]}
    assert pins == {irq: 2 if irq == 0 else irq for irq in range(16) if irq != 2}
    pins = {entry[5]: entry[7] for entry in wired if entry[4] == buses[b"PCI   "]}
    assert pins == {slot << 2 | pin: 16 + (slot + pin) % 4 for slot in range(1, 32) for pin in range(4)}
    local = [tuple(entry[1:2] + entry[6:]) for entry in entries if entry[0] == mp_table.LOCAL_INTERRUPT]
    assert local == [(mp_table.EXT_INT, 0xFF, 0), (mp_table.NMI, 0xFF, 1)]


TERMS = {
    'Name (_HID, EisaId ("PNP0501"))': (aml.name("_HID", aml.eisa_id("PNP0501")), "08 5f484944 0c 41d00501"),
    "Name (X, 0x1234)": (aml.name("X", aml.integer(0x1234)), "08 585f5f5f 0b 3412"),
    "Name (_UID, One)": (aml.name("_UID", aml.integer(1)), "08 5f554944 01"),
    "Package () {0, 1, 0x10}": (aml.package(*map(aml.integer, (0, 1, 0x10))), "12 06 03 00 01 0a10"),
    "Scope (\\_SB) {}": (aml.scope("\\_SB"), "10 06 5c 5f53425f"),
    "Scope (\\_SB.PCI0) {}": (aml.scope("\\_SB.PCI0"), "10 0b 5c 2e 5f53425f 50434930"),
    "Device (COM1) {}": (aml.device("COM1"), "5b82 05 434f4d31"),
    "IO (Decode16, 0x3F8, 0x3F8, 1, 8)": (aml.io_ports(0x3F8, 8), "47 01 f803 f803 01 08"),
    "WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0, 0, 1)": (
        aml.bus_numbers(0, 1),
        "88 0d00 02 0c 00 0000 0000 0000 0000 0100",
    ),
    "WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0xD00, 0xFFFF, 0, 0xF300)": (
        aml.port_window(0xD00, 0xFFFF),
        "88 0d00 01 0c 03 0000 000d ffff 0000 00f3",
    ),
    "DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, 0, 0xE0000000,"
    " 0xFEBFFFFF, 0, 0x1EC00000)": (
        aml.memory_window(0xE000_0000, 0xFEBF_FFFF),
        "87 1700 00 0c 01 00000000 000000e0 ffffbffe 00000000 0000c01e",
    ),
    "Method (_PIC, 1) {Store (Arg0, PICM)}": (
        aml.method("_PIC", 1, aml.store_argument("PICM")),
        "14 0c 5f504943 01 70 68 5049434d",
    ),
    "Method (_PRT) {If (PICM) {Return (PRTA)} Return (PRTP)}": (
        aml.method("_PRT", 0, aml.if_then("PICM", aml.return_name("PRTA")), aml.return_name("PRTP")),
        "14 16 5f505254 00 a0 0a 5049434d a4 50525441 a4 50525450",
    ),
    "IRQNoFlags () {4}": (aml.irq(4), "22 1000"),
    "ResourceTemplate () {}": (aml.resources(), "11 05 0a 02 79 00"),
}


@pytest.mark.parametrize("asl", TERMS)
def test_terms_are_encoded_as_the_compiler_does(asl: str) -> None:
    encoded, expected = TERMS[asl]
    if asl.startswith("ResourceTemplate"):
        assert encoded[-2:] == bytes.fromhex("7900")
    assert encoded == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("content_bytes", "length"),
    [(0, "01"), (62, "3f"), (63, "4104"), (0xFFD, "4fff"), (0xFFE, "810001"), (0xFFFFC, "8fffff")],
)
def test_a_length_counts_itself_in_one_to_three_bytes(content_bytes: int, length: str) -> None:
    assert aml.package_length(bytes(content_bytes)) == bytes.fromhex(length)


def test_what_cannot_be_encoded_is_refused() -> None:
    for path in ("\\_SB.PCI0.ISA", "TOOLONG"):
        with pytest.raises(ValueError, match="no name"):
            aml.name_string(path)
    with pytest.raises(ValueError, match="32 bits"):
        aml.integer(1 << 32)
    with pytest.raises(ValueError, match="too long"):
        aml.package_length(bytes(0xFFFFD))


def test_tables_name_their_length_and_maker() -> None:
    table = acpi_tables.table(b"TEST", 2, b"abc")
    assert (table[:4], len(table), table[10:16], sum(table) % 256) == (b"TEST", 39, b"SIDECO", 0)
