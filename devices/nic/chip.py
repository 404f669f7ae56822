"""What the microengines share: memories, scratch rings, the PCI unit, the port, the VIFs, the doorbell.

                    Chip
scratch  sram  dram   |   dma (units.py)        each a queue
rings (rings.py)      |   mac (mac.py)
vifs (vif_table.py) with their pollers (polling.py)
"""

from collections.abc import Callable

from devices.nic.board import NicBoard
from devices.nic.chip_events import ChipEvents
from devices.nic.mac import Mac
from devices.nic.observe import Observers
from devices.nic.polling import Poller
from devices.nic.rings import Ring
from devices.nic.units import DmaChannels, Unit, Usage
from devices.nic.vif import Vif
from devices.nic.vif_table import VifTable

RING_COUNT = 16
CONTEXT_COUNT = 8  # of a microengine


class Chip:
    """The network processor without its microengines. `on_signal` tells the host of a VIF; None: nobody does."""

    def __init__(
        self, events: ChipEvents, board: NicBoard, observers: Observers, vifs: VifTable, *, poll_ps: int
    ) -> None:
        """A poll of a send queue takes `poll_ps`."""
        self.events = events
        self.observers = observers
        self.vifs = vifs
        self.on_signal: Callable[[Vif], None] | None = None
        self.mac = Mac(events, board, observers)
        self.swap_ps = board.cycles_to_ps(board.swap_cycles)
        self.step_ps = board.cycles_to_ps(board.step_instructions)
        self.loop_ps = board.cycles_to_ps(board.poll_instructions)
        self.signal_ps = board.pci_write_ps
        self.poll_ps = poll_ps
        self.unseen_ps = min(self.signal_ps, poll_ps, board.dram_latency_ps)  # whatever is seen takes longer
        self.scratch = Unit(latency_ps=board.scratch_latency_ps, bytes_per_second=board.scratch_bytes_per_second)
        self.sram = Unit(latency_ps=board.sram_latency_ps, bytes_per_second=board.sram_bytes_per_second)
        self.dram = Unit(latency_ps=board.dram_latency_ps, bytes_per_second=board.dram_bytes_per_second)
        self.dma = DmaChannels(
            channels=board.dma_channels,
            setup_ps=board.dma_setup_ps,
            read_ps=board.pci_read_ps,
            write_ps=board.pci_write_ps,
            bytes_per_second=board.pci_bytes_per_second,
        )
        self.rings = [
            Ring(events, self.scratch, words=board.ring_words, entry_words=board.packet_words)
            for _ in range(RING_COUNT)
        ]
        self._board = board

    def instructions_ps(self, count: int) -> int:
        """What instructions of a microengine take."""
        return self._board.cycles_to_ps(count)

    def make_pollers(self, *, jumps: bool) -> list[Poller]:
        """For the contexts of an engine."""
        return [
            Poller(self.events, latency_ps=self.poll_ps, loop_ps=self.loop_ps, jumps=jumps)
            for _ in range(CONTEXT_COUNT)
        ]

    def usages(self) -> dict[str, Usage]:
        """Of the units, by name."""
        units = {"scratch": self.scratch, "sram": self.sram, "dram": self.dram, "PCI bus": self.dma.bus}
        return {name: unit.usage for name, unit in units.items()} | {"DMA channels": self.dma.usage}
