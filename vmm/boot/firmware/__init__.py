"""What firmware leaves in memory for an operating system: ACPI tables and the MP table, in the BIOS's own segment.

    0xf0000  MP floating pointer | 0xf0010  RSDP | 0xf0040  the tables, one behind the other | 0xfffff

The loaders' memory maps have all of it as reserved (vmm/boot/loaders/low_memory.py).
"""

from vmm.boot.firmware import acpi_tables, mp_table
from vmm.boot.firmware.layout import FIRMWARE_BYTES, FIRMWARE_GPA, MP_POINTER_GPA, RSDP_GPA, TABLES_GPA

__all__ = ["FIRMWARE_BYTES", "FIRMWARE_GPA", "RSDP_GPA", "firmware_image"]


def firmware_image(cpu_count: int, *, has_messages: bool = False) -> bytes:
    """The bytes from FIRMWARE_GPA on, for a board with so many CPUs, and whether a device there has MSI."""
    memory = bytearray(TABLES_GPA - FIRMWARE_GPA)

    def add(data: bytes, alignment_bytes: int = 16) -> int:
        memory.extend(bytes(-(FIRMWARE_GPA + len(memory)) % alignment_bytes))
        gpa = FIRMWARE_GPA + len(memory)
        memory.extend(data)
        return gpa

    def put(gpa: int, data: bytes) -> None:
        memory[gpa - FIRMWARE_GPA : gpa - FIRMWARE_GPA + len(data)] = data

    put(MP_POINTER_GPA, mp_table.floating_pointer(add(mp_table.configuration_table(cpu_count))))
    facs_gpa = add(acpi_tables.facs(), acpi_tables.FACS_ALIGNMENT_BYTES)
    fadt_gpa = add(acpi_tables.fadt(facs_gpa, add(acpi_tables.dsdt()), has_messages=has_messages))
    rsdt, xsdt = acpi_tables.roots((fadt_gpa, add(acpi_tables.madt(cpu_count))))
    put(RSDP_GPA, acpi_tables.rsdp(add(rsdt), add(xsdt)))
    assert len(memory) <= FIRMWARE_BYTES
    return bytes(memory)
