"""The NIC's registers, as a core of the VMM reaches them across PCI: what that takes is the board's to say."""

from devices.nic.nic import Nic
from devices.pc import Pc
from devices.pci.bus import pirq_of
from devices.pci.function import BARS
from emulator.events import PS_PER_NS
from emulator.ledger import Category
from vmm.core import Sender

IDENTIFIER, MASK = 0x00, 0x08
WIDE_BITS = 32  # of an identifier register that takes 8 bytes


class Registers:
    """Those of `nic`, which is on the PCI bus of `pc`."""

    def __init__(self, pc: Pc, nic: Nic) -> None:
        self._mmio = pc.machine.mmio
        self._board = nic.board
        self._base = nic.function.read(BARS, 4)
        self._size_bytes = 8 if nic.doorbell.bits > WIDE_BITS else 4
        self.all_bits = (1 << nic.doorbell.bits) - 1
        slot = next(slot for slot, function in pc.board.pci.functions.items() if function is nic.function)
        self.pirq = pirq_of(slot, nic.function.pin)  # the wire of its interrupt

    def read_identifier(self, sender: Sender) -> int:
        """Whose frames have come, by bit; the core waits for the answer."""
        self._pay(sender, self._board.pci_read_ns, "read a register across PCI", "pci_read_ns")
        return self._mmio.read(self._base + IDENTIFIER, self._size_bytes)

    def clear_identifier(self, sender: Sender, bits: int) -> None:
        """Clear bits. What was set meanwhile stays, and interrupts again."""
        self._pay(sender, self._board.pci_write_ns, "write a register across PCI", "pci_write_ns")
        timeline = sender.pcpu.timeline
        with timeline.events.at(sender.pcpu.clock.now_ps):
            self._mmio.write(self._base + IDENTIFIER, self._size_bytes, bits)
        sender.pcpu.clock.bound_by_events()

    def mask(self, bits: int) -> None:
        """Let these bits interrupt nobody. MODEL: takes no time; it changes when a core becomes a sidecore."""
        self._mmio.write(self._base + MASK, self._size_bytes, bits)

    def _pay(self, sender: Sender, time_ns: int, what: str, parameter: str) -> None:
        cycles = sender.pcpu.timeline.ps_to_cycles(time_ns * PS_PER_NS)
        sender.meter.pay(Category.EVENTS, cycles, what, f"devices/nic/board.toml: {parameter}")
        sender.meter.commit()
