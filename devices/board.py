"""The PC-compatible board: every device, where it sits and which interrupt it drives.

    devices --IRQ--+--> i8259 pair ------LINT0--+--> local APIC of each CPU --INTR, NMI, INIT, SIPI--> CpuPins
       ^           +--> I/O APIC ----messages---+
       |                  ^
    i82371ab <---PIRQ-----+---- INTA# to INTD# of what is on the PCI bus ----DMA, MSI----> memory, local APICs

A PC has one around its machine (pc.py), and a VMM one per domain, each on its own port bus and event queue.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Protocol

from devices.cpu_pins import CpuPins
from devices.interrupts.i8259_pair import I8259Pair
from devices.interrupts.interrupt_bus import InterruptBus
from devices.interrupts.ioapic import IOAPIC_BYTES, IoApic
from devices.interrupts.lapic import LocalApic
from devices.interrupts.lapic_registers import VIRTUAL_WIRE
from devices.isa.debug_exit import DebugExit
from devices.isa.fw_cfg import FirmwareConfiguration, firmware_items
from devices.isa.i8254 import I8254
from devices.isa.mc146818 import DEFAULT_START, Mc146818
from devices.isa.ns16550 import Ns16550
from devices.isa.post import PostCode
from devices.isa.reset import KeyboardResetPort, ResetControl
from devices.isa.system_control import SystemControlPortA, SystemControlPortB
from devices.pci.acpi_pm import LENGTH as ACPI_PM_BYTES
from devices.pci.acpi_pm import AcpiPm
from devices.pci.bus import PIRQ_COUNT, SLOT_COUNT, WINDOW_BASE, WINDOW_END, PciBus, PciConfigAddress, PciConfigData
from devices.pci.dma import DmaPort, Upstream
from devices.pci.edu import Edu
from devices.pci.function import PciFunction
from devices.pci.i82371ab import ROUTABLE_IRQS, I82371ab
from devices.pci.setup import set_up_pci
from emulator.bus import BusDevice, InterruptLine, MmioBus, PortBus, SharedLine
from emulator.events import EventQueue

TIMER_IRQ, UART_IRQ, RTC_IRQ = 0, 4, 8  # IBM PC AT technical reference, "Hardware Interrupt Listing"
SCI_IRQ = 9
# I/O APIC pins are IRQs, but the 8259s are on pin 0, and so IRQ 0 is on pin 2 (MP specification 1.4, 3.6.2).
PIC_PIN, TIMER_PIN = 0, 2
PIRQ_PIN = 16  # of PIRQA#; the others follow (82093AA data sheet, 2.0)
IOAPIC_BASE = 0xFEC0_0000
ACPI_PM_PORT = 0x600
ISA_BRIDGE_SLOT, FIRST_FREE_SLOT = 1, 2


class PciDevice(Protocol):
    """What can be put on the PCI bus: its side of the bus."""

    function: PciFunction


PciDeviceMaker = Callable[[EventQueue], PciDevice]
PCI_DEVICES: Mapping[str, PciDeviceMaker] = MappingProxyType({"edu": Edu})  # by name
PCI_DEVICES_MAX = SLOT_COUNT - FIRST_FREE_SLOT


class Board:
    """The devices as attributes, `port_map` and `mmio_map` as the tables of where they answer."""

    def __init__(
        self,
        bus: PortBus,
        mmio: MmioBus,
        events: EventQueue,
        *,
        memory_bytes: int,
        memory: DmaPort,
        transmit: Callable[[int], None],
        on_exit: Callable[[int], None],
        on_reset: Callable[[], None],
        on_power_off: Callable[[], None],
        cpus: Sequence[CpuPins],
        apic_timer_hz: int,
        start: datetime = DEFAULT_START,
        pci_devices: Sequence[PciDeviceMaker] = (),
    ) -> None:
        """Build the devices and attach them to `bus` and `mmio`; local APICs are for each CPU's own bus.

        `memory` is what devices on the PCI bus reach by DMA. `transmit` gets each byte the UART sends, `on_exit` the
        byte written to the debug exit, `on_reset` is called for each reset the software orders, `on_power_off` when it
        turns the power off. `cpus` are the CPUs, the boot CPU first, whose local APICs have a timer clock of
        `apic_timer_hz`. `start` is the RTC's time, `pci_devices` are made with `events`, for one slot after the
        other.
        """
        self.pic = I8259Pair(self._on_pic)
        self.interrupt_bus = InterruptBus()
        self.apics = [
            LocalApic(
                number,
                self.interrupt_bus,
                pins.timers or events,
                pins=pins,
                timer_hz=apic_timer_hz,
                acknowledge_8259=self.pic.acknowledge,
            )
            for number, pins in enumerate(cpus)
        ]
        self.ioapic = IoApic(self.interrupt_bus, number=len(cpus))
        for offset, value in VIRTUAL_WIRE:  # as firmware does
            self.apics[0].write(offset, 4, value)
        self._pic_lines = {irq: SharedLine(self.pic.line(irq)) for irq in ROUTABLE_IRQS}
        self.pit = I8254(events, self._isa_line(TIMER_IRQ))
        self.uart = Ns16550(self._isa_line(UART_IRQ), transmit)
        self.rtc = Mc146818(events, self._isa_line(RTC_IRQ), memory_bytes=memory_bytes, start=start)
        self.system_control_b = SystemControlPortB(events, self.pit.counters[2])
        self.system_control_a = SystemControlPortA(on_reset)
        self.keyboard = KeyboardResetPort(on_reset)
        self.reset_control = ResetControl(on_reset)
        self.acpi_pm = AcpiPm(events, self._isa_line(SCI_IRQ), on_power_off)
        self.post = PostCode()
        self.debug_exit = DebugExit(on_exit)
        items = firmware_items(memory_bytes=memory_bytes, cpu_count=len(cpus))
        self.firmware_configuration = FirmwareConfiguration(items)
        self.isa_bridge = I82371ab({irq: line.input() for irq, line in self._pic_lines.items()})
        upstream = Upstream(memory, self.interrupt_bus)
        self.pci = PciBus(tuple(self._pirq_line(pirq) for pirq in range(PIRQ_COUNT)), upstream)
        self.pci.attach(ISA_BRIDGE_SLOT, self.isa_bridge)
        self.pci_devices = [make(events) for make in pci_devices]
        for slot, added in enumerate(self.pci_devices, FIRST_FREE_SLOT):
            self.pci.attach(slot, added.function)
        set_up_pci(self.pci, self.isa_bridge, self.pic.elcr)
        self.pci_address = PciConfigAddress()
        self.pci_data = PciConfigData(self.pci, self.pci_address)
        # fmt: off
        self.port_map: tuple[tuple[int, int, BusDevice], ...] = (  # (base, length, device)
            (0x020, 2, self.pic.master),
            (0x040, 4, self.pit),
            (0x061, 1, self.system_control_b),
            (0x064, 1, self.keyboard),
            (0x070, 2, self.rtc),
            (0x080, 1, self.post),
            (0x092, 1, self.system_control_a),
            (0x0A0, 2, self.pic.slave),
            (0x0F4, 4, self.debug_exit),
            (0x3F8, 8, self.uart),
            (0x4D0, 2, self.pic.elcr),
            (0x510, 2, self.firmware_configuration),
            (ACPI_PM_PORT, ACPI_PM_BYTES, self.acpi_pm),
            (0xCF8, 1, self.pci_address),  # 32-bit accesses only, so 0xcf9 below is no overlap
            (0xCF9, 1, self.reset_control),
            (0xCFC, 4, self.pci_data),
        )
        # fmt: on
        self.mmio_map: tuple[tuple[int, int, BusDevice], ...] = (
            (WINDOW_BASE, WINDOW_END - WINDOW_BASE, self.pci.window),
            (IOAPIC_BASE, IOAPIC_BYTES, self.ioapic),
        )
        bus.behind = self.pci
        for base, length, device in self.port_map:
            bus.attach(base, length, device)
        for base, length, mapped in self.mmio_map:
            mmio.attach(base, length, mapped)

    def _isa_line(self, irq: int) -> InterruptLine:
        """The wire of an ISA interrupt: to the 8259s and to the I/O APIC."""
        pin = TIMER_PIN if irq == TIMER_IRQ else irq
        shared = self._pic_lines.get(irq)
        to_pic = self.pic.line(irq) if shared is None else shared.input()
        return partial(_drive_both, to_pic, self.ioapic.line(pin))

    def _pirq_line(self, pirq: int) -> InterruptLine:
        """The wire of a PCI interrupt: to the bridge that routes it to the 8259s, and to the I/O APIC."""
        return partial(_drive_both, self.isa_bridge.pirq(pirq), self.ioapic.line(PIRQ_PIN + pirq))

    def _on_pic(self, level: bool) -> None:
        """The 8259s' INT pin is wired to LINT0 of every CPU, and to the I/O APIC."""
        self.ioapic.set_line(PIC_PIN, level)
        for apic in self.apics:
            apic.set_lint(0, level)


def _drive_both(first: InterruptLine, second: InterruptLine, level: bool) -> None:
    first(level)
    second(level)
