"""The DSDT: what the board's devices are, and how to turn the power off.

    DefinitionBlock ("", "DSDT", 2, "SIDECO", "SIDECORE", 1)
    {
        Name (\\_S5, Package () {5, 5, 0, 0})
        Scope (\\_SB)
        {
            Device (TMR)  { Name (_HID, EisaId ("PNP0100")) Name (_CRS, ResourceTemplate () {IO 0x40..0x43, IRQ 0}) }
            Device (RTC)  { Name (_HID, EisaId ("PNP0B00")) Name (_CRS, ResourceTemplate () {IO 0x70..0x71, IRQ 8}) }
            Device (COM1) { Name (_HID, EisaId ("PNP0501")) Name (_UID, 1)
                            Name (_CRS, ResourceTemplate () {IO 0x3f8..0x3ff, IRQ 4}) }
            Device (PCI0) { Name (_HID, EisaId ("PNP0A03")) Name (_CRS, ResourceTemplate () {bus 0, IO 0xcf8..0xcff}) }
        }
    }

No processor objects: they would offer power states, of which there are none.
"""

from devices.acpi_pm import S5_TYPE
from devices.board import RTC_IRQ, TIMER_IRQ, UART_IRQ
from vmm.firmware import aml


def dsdt_body() -> bytes:
    """The AML behind the table's header."""
    return aml.name("\\_S5", aml.package(*(aml.integer(value) for value in (S5_TYPE, S5_TYPE, 0, 0)))) + aml.scope(
        "\\_SB",
        _device("TMR", "PNP0100", aml.io_ports(0x40, 4), aml.irq(TIMER_IRQ)),
        _device("RTC", "PNP0B00", aml.io_ports(0x70, 2), aml.irq(RTC_IRQ)),
        _device("COM1", "PNP0501", aml.io_ports(0x3F8, 8), aml.irq(UART_IRQ), unique_id=1),
        _device("PCI0", "PNP0A03", aml.bus_numbers(0, 1), aml.io_ports(0xCF8, 8)),
    )


def _device(name: str, hardware_id: str, *resources: bytes, unique_id: int | None = None) -> bytes:
    unique = b"" if unique_id is None else aml.name("_UID", aml.integer(unique_id))
    terms = aml.name("_HID", aml.eisa_id(hardware_id)), unique, aml.name("_CRS", aml.resources(*resources))
    return aml.device(name, *terms)
