"""The MP configuration table (MultiProcessor specification 1.4, 4): what the MADT says, for kernels without ACPI.

floating pointer "_MP_" --> "PCMP" header | processors | PCI and ISA bus | I/O APIC | its interrupts | local interrupts
"""

import struct

from devices.board import IOAPIC_BASE, PIC_PIN, PIRQ_PIN, TIMER_IRQ, TIMER_PIN
from devices.interrupts.ioapic import VERSION_VALUE as IOAPIC_VERSION
from devices.interrupts.lapic_registers import DEFAULT_BASE as APIC_BASE
from devices.interrupts.lapic_registers import VERSION_VALUE as APIC_VERSION
from devices.pci.bus import SLOT_COUNT, pirq_of
from vmm.boot.firmware.acpi_tables import checksum, io_apic_id

POINTER_BYTES = 16
SPECIFICATION_1_4 = 4
PROCESSOR, BUS, IO_APIC, IO_INTERRUPT, LOCAL_INTERRUPT = range(5)
ENABLED, BOOT_CPU = 1, 2
INT, NMI, SMI, EXT_INT = range(4)
CONFORMS = 0  # polarity and trigger mode of the bus
PCI_BUS, ISA_BUS = 0, 1  # a PCI bus has its own number here, too
CASCADE_IRQ = 2
ALL_APICS = 0xFF
CPU_SIGNATURE, CPU_FEATURES = 0x0F64, 0x201  # family, model, stepping; FPU and APIC


def floating_pointer(table_gpa: int) -> bytes:
    """16 bytes that a kernel finds by searching 0xf0000 to 0xfffff. Feature bytes 0: there is a table, no IMCR."""
    data = bytearray(struct.pack("<4sIBBB5x", b"_MP_", table_gpa, 1, SPECIFICATION_1_4, 0))
    data[10] = checksum(data)
    return bytes(data)


def configuration_table(cpu_count: int) -> bytes:
    """The table, with entries in order of type."""
    io_apic = io_apic_id(cpu_count)
    entries = [
        struct.pack(
            "<BBBBII8x", PROCESSOR, number, APIC_VERSION & 0xFF, ENABLED | (0 if number else BOOT_CPU),
            CPU_SIGNATURE, CPU_FEATURES,
        )
        for number in range(cpu_count)
    ]  # fmt: skip
    entries += [struct.pack("<BB6s", BUS, bus, kind) for bus, kind in ((PCI_BUS, b"PCI   "), (ISA_BUS, b"ISA   "))]
    entries.append(struct.pack("<BBBBI", IO_APIC, io_apic, IOAPIC_VERSION & 0xFF, ENABLED, IOAPIC_BASE))
    entries.append(_interrupt(IO_INTERRUPT, EXT_INT, 0, io_apic, PIC_PIN))
    for irq in range(16):
        if irq != CASCADE_IRQ:
            entries.append(_interrupt(IO_INTERRUPT, INT, irq, io_apic, TIMER_PIN if irq == TIMER_IRQ else irq))
    for slot in range(1, SLOT_COUNT):
        for pin in (1, 2, 3, 4):
            source = slot << 2 | pin - 1  # D.4
            entries.append(_interrupt(IO_INTERRUPT, INT, source, io_apic, PIRQ_PIN + pirq_of(slot, pin), bus=PCI_BUS))
    entries.append(_interrupt(LOCAL_INTERRUPT, EXT_INT, 0, ALL_APICS, 0))
    entries.append(_interrupt(LOCAL_INTERRUPT, NMI, 0, ALL_APICS, 1))
    body = b"".join(entries)
    header = struct.Struct("<4sHBB8s12sIHHIHBB")
    length = header.size + len(body)
    fields = (b"SIDECORE", b"sidecore    ", 0, 0, len(entries), APIC_BASE, 0, 0, 0)
    data = bytearray(header.pack(b"PCMP", length, SPECIFICATION_1_4, 0, *fields) + body)
    data[7] = checksum(data)
    return bytes(data)


def _interrupt(entry: int, kind: int, irq: int, apic: int, pin: int, *, bus: int = ISA_BUS) -> bytes:
    return struct.pack("<BBHBBBB", entry, kind, CONFORMS, bus, irq, apic, pin)
