"""A PCI function: its configuration space, what its base address registers lead to, its interrupts, its own requests.

    31                     16 15                      0
    device                 | vendor                  | 0x00
    status                 | command                 | 0x04   command: 0 ports, 1 memory, 2 master, 10 no interrupts
    class, subclass, interface          | revision   | 0x08   status: 3 wants an interrupt, 4 has capabilities
    BIST | header type     | latency | cache line    | 0x0c
    base address registers 0 to 5                    | 0x10   low bits read 0; bit 0 is 1 for ports
    ...
    -                                | capabilities  | 0x34
    max_lat | min_gnt      | pin     | line          | 0x3c   line: software's own; it notes the IRQ there

Source: PCI Local Bus Specification 3.0, 6.1, 6.2. Software learns a region's size by writing ones to its register.

MODEL: only 32-bit base address registers, no expansion ROM, nothing is ever parity-wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from devices.pci.capabilities import (
    CAPABILITIES_POINTER,
    HAS_CAPABILITIES,
    HEADER_BYTES,
    Capability,
    Registers,
    Row,
    lay_out,
)
from devices.pci.dma import BusMaster
from devices.pci.msi import MSI_ID, Msi
from devices.pci.msix import MSIX_ID, MsixTable
from emulator.bus import BusDevice, InterruptLine

CONFIGURATION_BYTES = 256
COMMAND, STATUS, BARS, INTERRUPT_LINE, INTERRUPT_PIN = 0x04, 0x06, 0x10, 0x3C, 0x3D
DECODES_PORTS, DECODES_MEMORY, IS_MASTER, NO_INTERRUPTS = 1 << 0, 1 << 1, 1 << 2, 1 << 10
INTERRUPT_STATUS = 1 << 3
IS_PORTS = 1  # of a base address register
BAR_COUNT = 6


@dataclass(frozen=True)
class Region:
    """Registers that a base address register places: in memory, or at ports."""

    device: BusDevice
    length_bytes: int  # a power of two, from 16; of ports from 4 to 256
    is_ports: bool = False


class PlacedRegion(NamedTuple):
    """A region where its function decodes it now: addresses [start, end)."""

    device: BusDevice
    start: int
    end: int
    is_ports: bool


def _ignore(level: bool) -> None:
    """A pin that is connected to nothing."""


class PciFunction:
    """256 bytes from a table of rows (what is in no row reads 0), up to six regions, and pin INTA# to INTD# (1 to 4).

    Rows say which command bits can be written. `line` is the pin's wire; the bus connects it, and `bus_master`.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        regions: Sequence[Region] = (),
        pin: int = 0,
        capabilities: Sequence[Capability] = (),
        msix: MsixTable | None = None,
    ) -> None:
        """`msix` is the device of one of the regions."""
        if len(regions) > BAR_COUNT or not 0 <= pin <= 4:
            raise ValueError(f"{len(regions)} regions and pin {pin}: more than a function has")
        self.regions = tuple(regions)
        self.pin = pin
        self.line: InterruptLine = _ignore
        self.bus_master = BusMaster(self.is_master)
        self.placed: tuple[PlacedRegion, ...] = ()
        self._wants_interrupt = self._level = False
        self._bytes = bytearray(CONFIGURATION_BYTES)
        self._writable = bytearray(CONFIGURATION_BYTES)
        for row in rows:
            self._set_up(*row)
        for number, region in enumerate(regions):
            changing_bits = 0x1_0000_0000 - region.length_bytes
            self._set_up(BARS + 4 * number, 4, IS_PORTS if region.is_ports else 0, changing_bits)
        if pin:
            self._set_up(INTERRUPT_LINE, 1, 0, 0xFF)
            self._set_up(INTERRUPT_PIN, 1, pin, 0)
        self._msi: Msi | MsixTable | None = None  # MODEL: a function has one of them, or none
        if msix is not None:
            number = [region.device for region in regions].index(msix)
            capabilities = [*capabilities, msix.capability(number)]
        for at, next_at, capability in lay_out(capabilities):
            self._set_up_capability(at, next_at, capability, msix)

    def _set_up(self, offset: int, size_bytes: int, value: int, writable: int) -> None:
        self._bytes[offset : offset + size_bytes] = value.to_bytes(size_bytes, "little")
        self._writable[offset : offset + size_bytes] = writable.to_bytes(size_bytes, "little")

    def _set_up_capability(self, at: int, next_at: int, capability: Capability, msix: MsixTable | None) -> None:
        if not self._bytes[CAPABILITIES_POINTER]:
            self._bytes[CAPABILITIES_POINTER] = at
            self._bytes[STATUS] |= HAS_CAPABILITIES
        self._set_up(at, HEADER_BYTES, capability.number | next_at << 8, 0)
        for offset, size_bytes, value, writable in capability.rows:
            self._set_up(at + offset, size_bytes, value, writable)
        if capability.number == MSI_ID:
            self._msi = Msi(Registers(self._bytes, at), self.bus_master)
        if capability.number == MSIX_ID and msix is not None:
            msix.connect(Registers(self._bytes, at), self.bus_master)
            self._msi = msix

    def read(self, register: int, size_bytes: int) -> int:
        """What is at `register`, 0 to 255; an access lies inside four aligned bytes."""
        return int.from_bytes(self._bytes[register : register + size_bytes], "little")

    def write(self, register: int, size_bytes: int, value: int) -> None:
        """Change the bits that can be written, and follow what they say."""
        for at, byte in enumerate(value.to_bytes(size_bytes, "little"), register):
            self._bytes[at] = self._bytes[at] & ~self._writable[at] | byte & self._writable[at]
        if register < BARS + 4 * BAR_COUNT:
            self.placed = tuple(self._place())
        if self._msi is not None:
            self._msi.follow()
        self._follow_interrupt()

    def set_interrupt(self, wanted: bool) -> None:
        """The device wants an interrupt, or no longer: its pin follows, unless it may not, or with messages."""
        self._wants_interrupt = wanted
        self._bytes[STATUS] = self._bytes[STATUS] & ~INTERRUPT_STATUS | INTERRUPT_STATUS * wanted
        self._follow_interrupt()

    def send_message(self, vector: int = 0) -> None:
        """Something new has happened that interrupts: tell by MSI or MSI-X, if software has enabled it."""
        if self._msi is not None:
            self._msi.send(vector)

    @property
    def has_messages(self) -> bool:
        """Whether it can interrupt by MSI."""
        return self._msi is not None

    @property
    def command(self) -> int:
        """The command register."""
        return self.read(COMMAND, 2)

    def is_master(self) -> bool:
        """Whether it may reach memory by itself."""
        return bool(self._bytes[COMMAND] & IS_MASTER)

    def _follow_interrupt(self) -> None:
        is_silent = self.command & NO_INTERRUPTS or (self._msi is not None and self._msi.is_enabled)
        level = self._wants_interrupt and not is_silent
        if level != self._level:
            self._level = level
            self.line(level)

    def _place(self) -> Iterator[PlacedRegion]:
        for number, region in enumerate(self.regions):
            if self.command & (DECODES_PORTS if region.is_ports else DECODES_MEMORY):
                start = self.read(BARS + 4 * number, 4) & ~(IS_PORTS if region.is_ports else 0)
                yield PlacedRegion(region.device, start, start + region.length_bytes, region.is_ports)
