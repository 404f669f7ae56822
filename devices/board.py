"""The PC-compatible board: every legacy device, where it sits and which interrupt it drives.

A machine has one for its hardware, and a VMM one per domain, each on its own port bus and event queue.
"""

from collections.abc import Callable
from datetime import datetime

from devices.debug_exit import DebugExit
from devices.fw_cfg import FirmwareConfiguration, firmware_items
from devices.i8254 import I8254
from devices.i8259 import I8259Pair
from devices.mc146818 import DEFAULT_START, Mc146818
from devices.ns16550 import Ns16550
from devices.pci import PciConfigAddress, PciConfigData
from devices.post import PostCode
from devices.reset import KeyboardResetPort, ResetControl
from devices.system_control import SystemControlPortA, SystemControlPortB
from emulator.bus import PortBus, PortDevice
from emulator.events import EventQueue

TIMER_IRQ, UART_IRQ, RTC_IRQ = 0, 4, 8  # IBM PC AT technical reference, "Hardware Interrupt Listing"


class Board:
    """The devices as attributes, `port_map` as the table of where they answer."""

    def __init__(
        self,
        bus: PortBus,
        events: EventQueue,
        *,
        memory_bytes: int,
        transmit: Callable[[int], None],
        on_exit: Callable[[int], None],
        on_reset: Callable[[], None],
        on_intr: Callable[[bool], None],
        start: datetime = DEFAULT_START,
    ) -> None:
        """Build the devices and attach them to `bus`.

        `transmit` gets each byte the UART sends, `on_exit` the byte written to the debug exit, `on_reset` is called for
        each reset the software orders, and `on_intr` follows the interrupt pin to the CPU. `start` is the RTC's time.
        """
        self.pic = I8259Pair(on_intr)
        self.pit = I8254(events, self.pic.line(TIMER_IRQ))
        self.uart = Ns16550(self.pic.line(UART_IRQ), transmit)
        self.rtc = Mc146818(events, self.pic.line(RTC_IRQ), memory_bytes=memory_bytes, start=start)
        self.system_control_b = SystemControlPortB(events, self.pit.counters[2])
        self.system_control_a = SystemControlPortA(on_reset)
        self.keyboard = KeyboardResetPort(on_reset)
        self.reset_control = ResetControl(on_reset)
        self.post = PostCode()
        self.debug_exit = DebugExit(on_exit)
        self.firmware_configuration = FirmwareConfiguration(firmware_items(memory_bytes=memory_bytes, cpu_count=1))
        self.pci_address = PciConfigAddress()
        self.pci_data = PciConfigData()
        # fmt: off
        self.port_map: tuple[tuple[int, int, PortDevice], ...] = (  # (base, length, device)
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
            (0xCF8, 1, self.pci_address),  # 32-bit accesses only, so 0xcf9 below is no overlap
            (0xCF9, 1, self.reset_control),
            (0xCFC, 4, self.pci_data),
        )
        # fmt: on
        for base, length, device in self.port_map:
            bus.attach(base, length, device)
