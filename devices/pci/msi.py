"""MSI, the capability by which a function interrupts with a write to memory (PCI Local Bus Specification 3.0, 6.8.1).

    31                 16 15        8 7         0
    message control      | next     | 0x05        | +0x00   control: 0 enable | 3-1 log2 of the vectors it can have
    message address, 31 to 2                  | 0 | +0x04            6-4 log2 of those it has been granted
    message address, 63 to 32                     | +0x08            7 64-bit address | 8 masks
    -                    | message data           | +0x0c
    mask bits, one per vector                     | +0x10   only with masks
    pending bits                                  | +0x14

The write goes where software says: to a local APIC (interrupts/message_signalled.py), or to any memory.
"""

from devices.pci.capabilities import Capability, Registers
from devices.pci.dma import BusMaster

MSI_ID = 0x05
CONTROL, ADDRESS, DATA, MASKS, PENDING = 0x02, 0x04, 0x0C, 0x10, 0x14
ENABLE, IS_64_BIT, HAS_MASKS = 1 << 0, 1 << 7, 1 << 8
CAPABLE_SHIFT, GRANTED_SHIFT, LOG2_BITS = 1, 4, 7
VECTORS_MAX_LOG2 = 5
MESSAGE_BYTES = 4


def msi(*, vectors_log2: int = 0, has_masks: bool = True) -> Capability:
    """The capability with 2**`vectors_log2` vectors."""
    if not 0 <= vectors_log2 <= VECTORS_MAX_LOG2:
        raise ValueError(f"MSI has no 2**{vectors_log2} vectors")
    control = IS_64_BIT | HAS_MASKS * has_masks | vectors_log2 << CAPABLE_SHIFT
    rows = [
        (CONTROL, 2, control, ENABLE | LOG2_BITS << GRANTED_SHIFT),
        (ADDRESS, 8, 0, 0xFFFF_FFFF_FFFF_FFFC),
        (DATA, 2, 0, 0xFFFF),
    ]
    if has_masks:
        rows += [(MASKS, 4, 0, (1 << (1 << vectors_log2)) - 1), (PENDING, 4, 0, 0)]
    return Capability(MSI_ID, tuple(rows))


class Msi:
    """What a function does with the `registers` of its capability; messages go out as any write of its bus master."""

    def __init__(self, registers: Registers, bus_master: BusMaster) -> None:
        self._registers = registers
        self._bus_master = bus_master
        self._has_masks = bool(registers.read(CONTROL, 2) & HAS_MASKS)

    @property
    def is_enabled(self) -> bool:
        """Whether interrupts are messages: then the function's pin is silent."""
        return bool(self._registers.read(CONTROL, 2) & ENABLE)

    @property
    def _granted_log2(self) -> int:
        control = self._registers.read(CONTROL, 2)
        return min(control >> GRANTED_SHIFT & LOG2_BITS, control >> CAPABLE_SHIFT & LOG2_BITS)

    def send(self, vector: int) -> None:
        """Interrupt with `vector`, if enabled; where fewer vectors are granted than there are, several are one."""
        if not self.is_enabled:
            return
        number = vector & (1 << self._granted_log2) - 1
        if self._has_masks and self._registers.read(MASKS, 4) >> number & 1:
            self._registers.set(PENDING, 4, self._registers.read(PENDING, 4) | 1 << number)
        else:
            self._write_message(number)

    def follow(self) -> None:
        """Software has written to the registers: a pending message whose mask is gone is sent."""
        if not self._has_masks or not self.is_enabled:
            return
        pending = self._registers.read(PENDING, 4)
        unmasked = pending & ~self._registers.read(MASKS, 4)
        self._registers.set(PENDING, 4, pending & ~unmasked)
        for number in range(1 << self._granted_log2):
            if unmasked >> number & 1:
                self._write_message(number)

    def _write_message(self, number: int) -> None:
        """The low bits of the data are the vector's number."""
        data = self._registers.read(DATA, 2) & ~((1 << self._granted_log2) - 1) | number
        self._bus_master.write(self._registers.read(ADDRESS, 8), data.to_bytes(MESSAGE_BYTES, "little"))
