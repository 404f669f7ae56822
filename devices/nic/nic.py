"""The self-virtualized NIC: its function on the host's PCI bus, and what the management domain does with it."""

from collections.abc import Mapping
from typing import Any

from devices.nic.board import NicBoard
from devices.nic.chip import Chip
from devices.nic.chip_events import ChipEvents
from devices.nic.departures import Departures
from devices.nic.doorbell import REGION_BYTES, Doorbell
from devices.nic.host_requests import HANDLERS
from devices.nic.mac import End
from devices.nic.microengine import Microengine, ProgramFunction
from devices.nic.observe import Observer, Observers, Take
from devices.nic.programs import PROGRAMS, USES
from devices.nic.statistics import statistics
from devices.nic.vif import VIF_MAX, Vif, VifPort
from devices.nic.vif_table import VifTable
from devices.pci.function import DECODES_MEMORY, IS_MASTER, NO_INTERRUPTS, PciFunction, Region
from devices.pci.msix import REGION_BYTES as MSIX_REGION_BYTES
from devices.pci.msix import MsixTable
from emulator.events import EventQueue

MICROENGINE_COUNT = 8
SIGNALS = ("interrupt", "none", "msix")
SEND_QUEUES = ("guest", "nic")

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
        send_queues: str = "guest",
        programs: Mapping[int, ProgramFunction] = PROGRAMS,
        fills_caches: bool = False,
        jumps: bool = True,
        batches: bool = True,
    ) -> None:
        """`send_queues` lie in the memory of the "guest", or in the SRAM of the "nic". `programs` are by microengine.
        `fills_caches`: whoever makes the VIFs' ports is to let stores go to caches (direct cache access).

        Without `jumps` each poll is an event, without `batches` all the chip does is one of `events`: the same, slower.
        """
        for word, choices in ((signals, SIGNALS), (send_queues, SEND_QUEUES)):
            if word not in choices:
                raise ValueError(f"{word!r} is none of {', '.join(choices)}")
        self.board = board
        self.fills_caches = fills_caches
        self.doorbell = Doorbell(identifier_bits, self._drive)
        self.msix = MsixTable(VIF_MAX) if signals == "msix" else None  # a vector for each VIF
        regions = [Region(self.doorbell, REGION_BYTES)]
        if self.msix is not None:
            regions.append(Region(self.msix, MSIX_REGION_BYTES))
        self.function = PciFunction(CONFIGURATION, regions=regions, pin=1, msix=self.msix)
        self._events = ChipEvents(events, batches=batches)
        self._observers = Observers()
        self._table = VifTable(
            self._events,
            self._observers,
            identifier_bits=identifier_bits,
            posting_ps=board.pci_write_ps if send_queues == "nic" else 0,
            is_master=self.function.is_master,
        )
        poll_ps = board.sram_latency_ps if send_queues == "nic" else board.pci_read_ps
        self._chip = Chip(self._events, board, self._observers, self._table, poll_ps=poll_ps)
        self._table.pollers = self._chip.make_pollers(jumps=jumps)
        self._chip.on_signal = {"interrupt": self._interrupt, "none": None, "msix": self._send_message}[signals]
        self.microengines = [self._microengine(programs.get(number)) for number in range(MICROENGINE_COUNT)]
        self.departures = Departures(self._chip, self.microengines)
        for microengine in self.microengines:
            microengine.start()

    def _microengine(self, program: ProgramFunction | None) -> Microengine:
        if program in USES:
            return Microengine(self._chip, program, {request: HANDLERS[request] for request in USES[program]})
        return Microengine(self._chip, program, HANDLERS)

    def _drive(self, level: bool) -> None:
        self.function.set_interrupt(level)

    def _interrupt(self, vif: Vif) -> None:
        self.doorbell.ring(vif.bit)

    def _send_message(self, vif: Vif) -> None:
        self.function.send_message(vif.number)

    @property
    def vifs(self) -> Mapping[int, Vif]:
        """By number."""
        return self._table.vifs

    @property
    def observers(self) -> list[Observer]:
        """Who is told of hops (observe.py)."""
        return self._observers.listening

    @property
    def captures(self) -> list[Take]:
        """Who is told of each frame: its bytes, when its last bit has come or will be sent, and what time it is."""
        return self._observers.capturing

    def create_vif(self, mac: bytes, port: VifPort, *, is_promiscuous: bool = False) -> Vif | None:
        """A VIF for a guest whose memory is behind `port`; None: there are 64. ValueError: that cannot be its MAC.

        A promiscuous one also gets frames from the wire for addresses that no VIF has.
        """
        return self._table.create(mac, port, is_promiscuous=is_promiscuous)

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
        """For reports: numbers, by what they are of."""
        self._events.catch_up()
        return statistics(self._chip, self.microengines)
