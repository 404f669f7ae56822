"""PCI configuration mechanism #1, and bus 0 with a host bridge: which function answers, where interrupts go.

    configuration  0xcf8, 0xcfc -------+
    memory         MemoryWindow -------+--> PciBus --> PciFunction, its regions
    ports          PortBus.behind -----+       ^  |
                                               |  '-- its own requests --> upstream: memory, local APICs (dma.py)
                                               +-- pins INTA# to INTD# --(pirq_of)--> PIRQA# to PIRQD#

    CONFIG_ADDRESS, 0xcf8:  31     | 30-24 | 23-16 | 15-11  | 10-8     | 7-2      | 1 0
                            enable | 0     | bus   | device | function | register | 0
    CONFIG_DATA, 0xcfc:     the four bytes of that register

CONFIG_ADDRESS decodes 32-bit accesses at 0xcf8 alone; narrower ones, and those that start at 0xcf9-0xcfb, go to
whatever else is at those ports. So it claims the single port 0xcf8 with width 4, and the reset control register has
0xcf9 to itself.

Sources: PCI Local Bus Specification 2.2, 3.2.2.3.2 and 6.1; Intel 82441FX data sheet (290549), 3.2.
"""

from devices.pci.dma import DmaPort
from devices.pci.function import PciFunction
from emulator.bus import BusDevice, InterruptLine, SharedLine

ADDRESS_BITS = 0x80FF_FFFC  # the bits CONFIG_ADDRESS stores; the others read 0
ENABLE = 1 << 31
SLOT_COUNT, PIRQ_COUNT = 32, 4
HOST_BRIDGE_SLOT = 0
WINDOW_BASE, WINDOW_END = 0xE000_0000, 0xFEC0_0000  # where functions can be in memory
PORT_WINDOW_BASE, PORT_WINDOW_END = 0xC000, 0x1_0000  # where firmware puts them; any free port is possible

# Configuration header of the 82441FX (PMC): offset, size in bytes, value, bits that can be written.
# fmt: off
HOST_BRIDGE = (
    (0x00, 2, 0x8086, 0),       # vendor: Intel
    (0x02, 2, 0x1237, 0),       # device: 82441FX (PMC)
    (0x04, 2, 0x0006, 0x0140),  # command: memory and bus master always on; parity, SERR# enable
    (0x06, 2, 0x0200, 0),       # status: medium DEVSEL# timing
    (0x08, 1, 0x02, 0),         # revision
    (0x09, 3, 0x06_00_00, 0),   # class: host bridge
    (0x0D, 1, 0x00, 0xF8),      # latency timer
    (0x0E, 1, 0x00, 0),         # header type: one function
)
# fmt: on

# MODEL: of the 82441FX only the header exists: DRAM and shadowing registers read 0, the first megabyte is all RAM.


def pirq_of(slot: int, pin: int) -> int:
    """Which of PIRQA# to PIRQD# (0 to 3) pin INTA# to INTD# (1 to 4) of the device in `slot` is wired to.

    Boards rotate the wires from slot to slot, so that the INTA# of neighbours do not share one.
    """
    return (slot + pin - 1) % PIRQ_COUNT


class PciBus:
    """Bus 0: functions by slot (one each), and the wires from their interrupt pins to `pirqs`, four of them.

    Their own requests go to `upstream`.
    An address is decoded by the first slot that claims it; `find_port` and `window` give what a bridge passes on.
    """

    def __init__(self, pirqs: tuple[InterruptLine, ...], upstream: DmaPort) -> None:
        self.functions: dict[int, PciFunction] = {}
        self.window = MemoryWindow(self)
        self._upstream = upstream
        self._pirqs = tuple(SharedLine(pirq) for pirq in pirqs)
        self.attach(HOST_BRIDGE_SLOT, PciFunction(HOST_BRIDGE))

    def attach(self, slot: int, function: PciFunction) -> None:
        """Put a device of one function into a slot. Raises ValueError when there is no such slot, or it is taken."""
        if not 0 <= slot < SLOT_COUNT or slot in self.functions:
            raise ValueError(f"PCI slot {slot} cannot be claimed")
        self.functions[slot] = function
        function.bus_master.port = self._upstream
        if function.pin:
            function.line = self._pirqs[pirq_of(slot, function.pin)].input()

    @property
    def has_messages(self) -> bool:
        """Whether any function can interrupt by MSI."""
        return any(function.has_messages for function in self.functions.values())

    def find(self, address: int) -> PciFunction | None:
        """The function that a CONFIG_ADDRESS names."""
        if not address & ENABLE or address >> 16 & 0xFF or address >> 8 & 7:  # another bus, another function
            return None
        return self.functions.get(address >> 11 & 0x1F)

    def find_port(self, port: int, size_bytes: int) -> tuple[BusDevice, int] | None:
        """The device that decodes an access at `port` whole, and the offset."""
        return self._find(port, size_bytes, is_ports=True)

    def find_memory(self, address: int, size_bytes: int) -> tuple[BusDevice, int] | None:
        """The device that decodes an aligned access at `address` whole, and the offset."""
        return None if address % size_bytes else self._find(address, size_bytes, is_ports=False)

    def _find(self, address: int, size_bytes: int, *, is_ports: bool) -> tuple[BusDevice, int] | None:
        for function in self.functions.values():
            for region in function.placed:
                if region.is_ports == is_ports and region.start <= address and address + size_bytes <= region.end:
                    is_decoded = size_bytes in region.device.widths_bytes
                    return (region.device, address - region.start) if is_decoded else None
        return None


class MemoryWindow:
    """The addresses from WINDOW_BASE on, which the host bridge passes to the bus."""

    widths_bytes: tuple[int, ...] = (1, 2, 4, 8)

    def __init__(self, bus: PciBus) -> None:
        self._bus = bus

    def read(self, offset: int, size_bytes: int) -> int:
        """What the function there answers; all ones where none is. Split in two where it does not decode it whole."""
        found = self._bus.find_memory(WINDOW_BASE + offset, size_bytes)
        if found is not None:
            return found[0].read(found[1], size_bytes) & (1 << 8 * size_bytes) - 1
        if size_bytes == 1:
            return 0xFF
        half = size_bytes // 2
        return self.read(offset, half) | self.read(offset + half, half) << 8 * half

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store in the function there; split in two where it does not decode it whole."""
        found = self._bus.find_memory(WINDOW_BASE + offset, size_bytes)
        if found is not None:
            found[0].write(found[1], size_bytes, value)
        elif size_bytes > 1:
            half = size_bytes // 2
            self.write(offset, half, value & (1 << 8 * half) - 1)
            self.write(offset + half, half, value >> 8 * half)


class PciConfigAddress:
    """CONFIG_ADDRESS: the latch at 0xcf8, one port, 32-bit accesses."""

    widths_bytes: tuple[int, ...] = (4,)

    def __init__(self) -> None:
        self.address = 0

    def read(self, offset: int, size_bytes: int) -> int:
        """The latched address."""
        return self.address

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Latch `value` without its reserved bits."""
        self.address = value & ADDRESS_BITS


class PciConfigData:
    """CONFIG_DATA: 0xcfc-0xcff. Where no function is, a read ends in a master abort, all ones."""

    widths_bytes: tuple[int, ...] = (1, 2, 4)

    def __init__(self, bus: PciBus, latch: PciConfigAddress) -> None:
        self._bus = bus
        self._latch = latch

    def read(self, offset: int, size_bytes: int) -> int:
        """The selected register's bytes from `offset` on; what runs beyond the register reads as ones."""
        function = self._bus.find(self._latch.address)
        inside = min(size_bytes, 4 - offset)
        ones = (1 << 8 * size_bytes) - 1
        if function is None:
            return ones
        value = function.read((self._latch.address & 0xFC) + offset, inside)
        return value | ones >> 8 * inside << 8 * inside

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store in the selected register; what runs beyond it is dropped."""
        function = self._bus.find(self._latch.address)
        inside = min(size_bytes, 4 - offset)
        if function is not None:
            function.write((self._latch.address & 0xFC) + offset, inside, value & (1 << 8 * inside) - 1)
