"""ACPI tables (ACPI specification 6.4, 5.2): how a kernel finds CPUs, interrupt controllers and the PM block.

    RSDP --> XSDT, RSDT --> FADT --> FACS, DSDT
                        --> MADT: a local APIC per CPU, the I/O APIC, IRQ 0 on pin 2, the SCI, NMI on LINT1

Every table begins with the same header, and its bytes add up to 0 modulo 256.
"""

import struct

from devices.board import ACPI_PM_PORT, IOAPIC_BASE, SCI_IRQ, TIMER_IRQ, TIMER_PIN
from devices.interrupts.lapic_registers import DEFAULT_BASE as APIC_BASE
from devices.pci import acpi_pm
from vmm.boot.firmware.dsdt import dsdt_body

OEM_ID, OEM_TABLE_ID, CREATOR_ID = b"SIDECO", b"SIDECORE", b"SDCR"
HEADER = struct.Struct("<4sIBB6s8sI4sI")
CHECKSUM_OFFSET = 9
RSDP_BYTES = 36
FACS_BYTES, FACS_ALIGNMENT_BYTES = 64, 64
RESET_PORT, RESET_VALUE = 0xCF9, 6  # a hard reset, at once

# FADT flags and boot architecture flags (tables 5.10, 5.11): no buttons, no second RTC alarm, a 32-bit timer
WBINVD_WORKS, C1_WORKS, NO_POWER_BUTTON, NO_SLEEP_BUTTON = 1 << 0, 1 << 2, 1 << 4, 1 << 5
RTC_WAKES_NOTHING, TIMER_HAS_32_BITS, HAS_RESET_REGISTER = 1 << 6, 1 << 8, 1 << 10
FADT_FLAGS = (
    WBINVD_WORKS | C1_WORKS | NO_POWER_BUTTON | NO_SLEEP_BUTTON | RTC_WAKES_NOTHING | TIMER_HAS_32_BITS
    | HAS_RESET_REGISTER
)  # fmt: skip
LEGACY_DEVICES, NO_VGA, NO_MSI = 1 << 0, 1 << 2, 1 << 3  # and no 8042
NO_C2, NO_C3 = 101, 1001  # latencies that say so, in us

# MADT: flags, structure types, MPS INTI flags (tables 5.19 to 5.26)
PCAT_COMPATIBLE = 1  # there are 8259s too
LOCAL_APIC, IO_APIC, SOURCE_OVERRIDE, LOCAL_NMI = 0, 1, 2, 4
CPU_ENABLED = 1
CONFORMS, ACTIVE_HIGH_LEVEL = 0, 0xD
ALL_PROCESSORS = 0xFF
NMI_LINT = 1


def checksum(data: bytes | bytearray) -> int:
    """The byte that makes the sum 0."""
    return -sum(data) & 0xFF


def table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A table with its header."""
    length = HEADER.size + len(body)
    header = HEADER.pack(signature, length, revision, 0, OEM_ID, OEM_TABLE_ID, 1, CREATOR_ID, 1)
    data = bytearray(header + body)
    data[CHECKSUM_OFFSET] = checksum(data)
    return bytes(data)


def rsdp(rsdt_gpa: int, xsdt_gpa: int) -> bytes:
    """Root pointer, version 2: two checksums, the first over the 20 bytes of version 1."""
    first = bytearray(struct.pack("<8sB6sBI", b"RSD PTR ", 0, OEM_ID, 2, rsdt_gpa))
    first[8] = checksum(first)
    data = bytearray(first + struct.pack("<IQB3x", RSDP_BYTES, xsdt_gpa, 0))
    data[32] = checksum(data)
    return bytes(data)


def facs() -> bytes:
    """Firmware control structure, version 2; it has no checksum."""
    return struct.pack("<4sI", b"FACS", FACS_BYTES).ljust(32, b"\0") + b"\x02" + bytes(FACS_BYTES - 33)


def dsdt() -> bytes:
    """Differentiated system description."""
    return table(b"DSDT", 2, dsdt_body())


def fadt(facs_gpa: int, dsdt_gpa: int, *, has_messages: bool) -> bytes:
    """Fixed description, revision 3 (ACPI 2.0): the PM block, and what hardware there is not."""
    without = NO_VGA if has_messages else NO_VGA | NO_MSI
    status, control, timer = (ACPI_PM_PORT + at for at in (acpi_pm.STATUS, acpi_pm.CONTROL, acpi_pm.TIMER))
    # fmt: off
    rows = (  # format, values: table 5.9
        ("II", (facs_gpa, dsdt_gpa)),
        ("BBH", (0, 0, SCI_IRQ)),                      # reserved, PM profile, SCI interrupt
        ("IBBBB", (0, 0, 0, 0, 0)),                    # SMI command port: none, always in ACPI mode
        ("IIIIIIII", (status, 0, control, 0, 0, timer, 0, 0)),  # PM1a and b event, PM1a and b control, PM2, timer, GPEs
        ("BBBBBBBB", (4, 2, 0, 4, 0, 0, 0, 0)),        # their lengths, GPE1 base, _CST
        ("HHHH", (NO_C2, NO_C3, 0, 0)),                # C2, C3, cache flush size and stride
        ("BBBBB", (0, 0, 0, 0, 0)),                    # duty cycle, RTC alarms, century
        ("HBI", (LEGACY_DEVICES | without, 0, FADT_FLAGS)),
        ("12sB3x", (_port(RESET_PORT, 8), RESET_VALUE)),
        ("QQ", (0, dsdt_gpa)),  # only one of the two names the FACS
        ("12s12s12s12s12s12s12s12s", (_port(status, 32), bytes(12), _port(control, 16), bytes(12), bytes(12),
                                      _port(timer, 32), bytes(12), bytes(12))),
    )
    # fmt: on
    return table(b"FACP", 3, b"".join(struct.pack("<" + layout, *values) for layout, values in rows))


def _port(port: int, bits: int) -> bytes:
    """Generic address structure of an I/O port (5.2.3.2)."""
    return struct.pack("<BBBBQ", 1, bits, 0, 0, port)


def madt(cpu_count: int) -> bytes:
    """Multiple APIC description; APIC IDs are the CPUs' numbers, and that of the I/O APIC comes behind them."""
    structures = [struct.pack("<BBBBI", LOCAL_APIC, 8, number, number, CPU_ENABLED) for number in range(cpu_count)]
    structures += [
        struct.pack("<BBBBII", IO_APIC, 12, io_apic_id(cpu_count), 0, IOAPIC_BASE, 0),
        struct.pack("<BBBBIH", SOURCE_OVERRIDE, 10, 0, TIMER_IRQ, TIMER_PIN, CONFORMS),
        struct.pack("<BBBBIH", SOURCE_OVERRIDE, 10, 0, SCI_IRQ, SCI_IRQ, ACTIVE_HIGH_LEVEL),
        struct.pack("<BBBHB", LOCAL_NMI, 6, ALL_PROCESSORS, CONFORMS, NMI_LINT),
    ]
    return table(b"APIC", 3, struct.pack("<II", APIC_BASE, PCAT_COMPATIBLE) + b"".join(structures))


def io_apic_id(cpu_count: int) -> int:
    """What the board gives its I/O APIC: four bits."""
    return cpu_count & 0xF


def roots(gpas: tuple[int, ...]) -> tuple[bytes, bytes]:
    """RSDT and XSDT: where the other tables are, in 32 and 64 bits."""
    return (
        table(b"RSDT", 1, struct.pack(f"<{len(gpas)}I", *gpas)),
        table(b"XSDT", 1, struct.pack(f"<{len(gpas)}Q", *gpas)),
    )
