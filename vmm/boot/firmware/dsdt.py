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
            Device (PCI0) { Name (_HID, EisaId ("PNP0A03"))
                            Name (_CRS, ResourceTemplate () {bus 0, IO 0xcf8..0xcff, the windows it passes on})
                            Name (PRTP, Package () {...}) Name (PRTA, Package () {...})
                            Method (_PRT) { If (PICM) {Return (PRTA)} Return (PRTP) } }
        }
        Name (PICM, 0)
        Method (_PIC, 1) { Store (Arg0, PICM) }     the kernel says: 0 it uses the 8259s, 1 the I/O APIC
    }

PRTP and PRTA have a package for each pin of each slot, {slot << 16 | 0xffff, pin - 1, 0, interrupt}: IRQs of the 8259s,
as firmware routed them, and pins of the I/O APIC. There are no link devices: nobody has to route anything anew.
No processor objects: they would offer power states, of which there are none.
"""

from collections.abc import Sequence

from devices.board import PIRQ_PIN, RTC_IRQ, TIMER_IRQ, UART_IRQ
from devices.pci.acpi_pm import S5_TYPE
from devices.pci.bus import PIRQ_COUNT, SLOT_COUNT, WINDOW_BASE, WINDOW_END, pirq_of
from devices.pci.setup import IRQ_OF_PIRQ
from vmm.boot.firmware import aml

CONFIGURATION_PORTS = 0xCF8, 0xCFF
ANY_FUNCTION = 0xFFFF  # of an address in a routing package: slot << 16 | function
PINS = (1, 2, 3, 4)


def dsdt_body() -> bytes:
    """The AML behind the table's header."""
    return (
        aml.name("\\_S5", aml.package(*(aml.integer(value) for value in (S5_TYPE, S5_TYPE, 0, 0))))
        + _devices()
        + aml.name("PICM", aml.integer(0))
        + aml.method("_PIC", 1, aml.store_argument("PICM"))
    )


def _devices() -> bytes:
    return aml.scope(
        "\\_SB",
        _device("TMR", "PNP0100", aml.io_ports(0x40, 4), aml.irq(TIMER_IRQ)),
        _device("RTC", "PNP0B00", aml.io_ports(0x70, 2), aml.irq(RTC_IRQ)),
        _device("COM1", "PNP0501", aml.io_ports(0x3F8, 8), aml.irq(UART_IRQ), unique_id=1),
        _pci_root(),
    )


def _pci_root() -> bytes:
    first, last = CONFIGURATION_PORTS
    resources = (
        aml.bus_numbers(0, 1),
        aml.io_ports(first, last - first + 1),
        aml.port_window(0, first - 1),
        aml.port_window(last + 1, 0xFFFF),
        aml.memory_window(WINDOW_BASE, WINDOW_END - 1),
    )
    return aml.device(
        "PCI0",
        aml.name("_HID", aml.eisa_id("PNP0A03")),
        aml.name("_CRS", aml.resources(*resources)),
        aml.name("PRTP", _routes(IRQ_OF_PIRQ)),
        aml.name("PRTA", _routes(range(PIRQ_PIN, PIRQ_PIN + PIRQ_COUNT))),
        aml.method("_PRT", 0, aml.if_then("PICM", aml.return_name("PRTA")), aml.return_name("PRTP")),
    )


def _routes(interrupt_of_pirq: Sequence[int]) -> bytes:
    """A package for each pin of each slot but the host bridge's."""
    rows = (
        (slot << 16 | ANY_FUNCTION, pin - 1, 0, interrupt_of_pirq[pirq_of(slot, pin)])
        for slot in range(1, SLOT_COUNT)
        for pin in PINS
    )
    return aml.package(*(aml.package(*map(aml.integer, row)) for row in rows))


def _device(name: str, hardware_id: str, *resources: bytes, unique_id: int | None = None) -> bytes:
    unique = b"" if unique_id is None else aml.name("_UID", aml.integer(unique_id))
    terms = aml.name("_HID", aml.eisa_id(hardware_id)), unique, aml.name("_CRS", aml.resources(*resources))
    return aml.device(name, *terms)
