"""The self-virtualized NIC: its function on the host's PCI bus, and what the management domain does with it."""

from collections.abc import Mapping
from typing import Any

from devices.nic.board import NicBoard
from devices.nic.chip import Chip
from devices.nic.doorbell import REGION_BYTES, Doorbell
from devices.nic.host_requests import HANDLERS
from devices.nic.mac import End
from devices.nic.microengine import Microengine, ProgramFunction
from devices.nic.observe import Observer, Observers
from devices.nic.programs import PROGRAMS
from devices.nic.vif import Vif, VifPort
from devices.nic.vif_table import VifTable
from devices.pci.function import DECODES_MEMORY, IS_MASTER, NO_INTERRUPTS, PciFunction, Region
from emulator.events import EventQueue

MICROENGINE_COUNT = 8
SIGNALS = ("interrupt", "none", "msix")

# fmt: off
CONFIGURATION = (
    (0x00, 2, 0x1011, 0),      # vendor: Digital, later Intel
    (0x02, 2, 0xB555, 0),      # device: 21555
    (0x04, 2, IS_MASTER, DECODES_MEMORY | IS_MASTER | NO_INTERRUPTS),  # the bridge's serial ROM makes it master
    (0x08, 1, 0x01, 0),        # revision
    (0x09, 3, 0x02_00_00, 0),  # class: Ethernet; the ROM sets it, too
)
# fmt: on


class Nic:
    """A board, ready: its microengines run from the beginning. `vifs` are by number."""

    def __init__(
        self,
        events: EventQueue,
        board: NicBoard,
        *,
        identifier_bits: int = 8,
        signals: str = "interrupt",
        programs: Mapping[int, ProgramFunction] = PROGRAMS,
    ) -> None:
        if signals not in SIGNALS:
            raise ValueError(f"signals {signals!r} are none of {', '.join(SIGNALS)}")
        self.board = board
        self.doorbell = Doorbell(identifier_bits)
        self.function = PciFunction(CONFIGURATION, regions=[Region(self.doorbell, REGION_BYTES)], pin=1)
        if signals == "interrupt":
            self.doorbell.on_interrupt = self.function.set_interrupt
        self._observers = Observers()
        self._table = VifTable(
            events,
            self._observers,
            identifier_bits=identifier_bits,
            posting_ps=0,
            is_master=self.function.is_master,
        )
        self._chip = Chip(events, board, self._observers, self._table, self.doorbell)
        self._chip.signals = signals
        self.microengines = [
            Microengine(self._chip, programs.get(number), HANDLERS) for number in range(MICROENGINE_COUNT)
        ]
        for microengine in self.microengines:
            microengine.start()

    @property
    def vifs(self) -> Mapping[int, Vif]:
        """By number."""
        return self._table.vifs

    @property
    def observers(self) -> list[Observer]:
        """Who is told of hops (observe.py)."""
        return self._observers.listening

    def create_vif(self, mac: bytes, port: VifPort) -> Vif | None:
        """A VIF for a guest whose memory is behind `port`; None: there are 64. ValueError: that cannot be its MAC."""
        return self._table.create(mac, port)

    def destroy_vif(self, vif: Vif) -> None:
        """End a VIF: its guest's memory is not touched again."""
        self._table.destroy(vif)

    @property
    def lead_ps(self) -> int:
        """See Mac."""
        return self._chip.mac.lead_ps

    def connect(self, end: End) -> None:
        """Put the wire in."""
        self._chip.mac.connect(end)

    def stats(self) -> dict[str, Any]:
        """For reports."""
        return {"vifs": {number: vars(vif.counters) for number, vif in self.vifs.items()}}
