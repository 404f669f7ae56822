"""What the microengines share: memories, scratch rings, the PCI unit, the port, the VIFs, the doorbell.

                    Chip
scratch  sram  dram   |   dma (units.py)        each a queue
rings (rings.py)      |   mac (mac.py)
pollers (polling.py)  |   vifs (vif_table.py)   doorbell (doorbell.py)
"""

from devices.nic.board import NicBoard
from devices.nic.doorbell import Doorbell
from devices.nic.mac import Mac
from devices.nic.observe import Observers
from devices.nic.polling import Poller
from devices.nic.rings import Ring
from devices.nic.units import DmaChannels, Unit
from devices.nic.vif_table import VifTable
from emulator.events import EventQueue

RING_COUNT = 16
PS_PER_NS = 1000


class Chip:
    """The network processor without its microengines."""

    def __init__(
        self, events: EventQueue, board: NicBoard, observers: Observers, vifs: VifTable, doorbell: Doorbell
    ) -> None:
        self.events = events
        self.observers = observers
        self.vifs = vifs
        self.signals = "interrupt"
        self.doorbell = doorbell
        self.mac = Mac(events, board, observers)
        self.swap_ps = board.cycles_to_ps(board.swap_cycles)
        self.step_ps = board.cycles_to_ps(board.step_instructions)
        self._board = board
        self.signal_ps = board.pci_write_ns * PS_PER_NS
        self.scratch = Unit(
            latency_ps=board.cycles_to_ps(board.scratch_latency_cycles),
            bytes_per_second=board.scratch_bytes_per_second,
        )
        self.sram = Unit(
            latency_ps=board.cycles_to_ps(board.sram_latency_cycles), bytes_per_second=board.sram_bytes_per_second
        )
        self.dram = Unit(
            latency_ps=board.cycles_to_ps(board.dram_latency_cycles), bytes_per_second=board.dram_bytes_per_second
        )
        self.dma = DmaChannels(
            channels=board.dma_channels,
            setup_ps=board.dma_setup_ns * PS_PER_NS,
            read_ps=board.pci_read_ns * PS_PER_NS,
            write_ps=board.pci_write_ns * PS_PER_NS,
            bytes_per_second=board.pci_bytes_per_second,
        )
        self.rings = [
            Ring(events, self.scratch, words=board.ring_words, entry_words=board.packet_words)
            for _ in range(RING_COUNT)
        ]
        loop_ps = board.cycles_to_ps(board.poll_instructions)
        vifs.pollers = [Poller(events, latency_ps=board.pci_read_ns * PS_PER_NS, loop_ps=loop_ps) for _ in range(8)]

    def instructions_ps(self, count: int) -> int:
        """What instructions of a microengine take."""
        return self._board.cycles_to_ps(count)
