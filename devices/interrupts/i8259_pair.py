"""A PC's two 8259As, one behind the other, and the registers that make their inputs level-triggered.

    IRQ 0, 1, 3-7 --> master --> INT
                        ^ IR2
    IRQ 8-15 ----> slave

Sources: IBM PC AT technical reference; Intel 82371AB (PIIX4), section 4.3, for the edge/level control registers (ELCR).
"""

from collections.abc import Callable
from functools import partial

from devices.interrupts.i8259 import I8259, ignore_output
from emulator.bus import InterruptLine

CASCADE_IRQ = 2  # the slave's INT pin on a PC
UNDRIVEN_VECTOR = 0xFF  # what the CPU reads when no chip puts a vector on the bus


class EdgeLevelControl:
    """ELCR1 and ELCR2 (ports 0x4d0 and 0x4d1): which inputs of the pair are level-triggered."""

    widths_bytes: tuple[int, ...] = (1,)

    # IRQ 0, 1, 2, 8 and 13 are always edge-triggered (82371AB, 4.3.2 "ELCR1, ELCR2").
    WRITABLE = (0xF8, 0xDE)

    def __init__(self, master: I8259, slave: I8259) -> None:
        self.chips = (master, slave)

    def read(self, offset: int, size_bytes: int) -> int:
        """ELCR of the chip at `offset`: 0 master, 1 slave."""
        return self.chips[offset].elcr

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Set the ELCR of the chip at `offset`; fixed bits stay 0."""
        self.chips[offset].set_elcr(value & self.WRITABLE[offset])


class I8259Pair:
    """A PC's two 8259As: `master` (IRQ 0-7), `slave` (IRQ 8-15, INT on the master's IR2), and their `elcr`.

    IRQ 2 belongs to the cascade. INTA is acknowledge(), and the pin to the CPU is `output` / `on_output`.
    """

    def __init__(self, on_output: Callable[[bool], None] = ignore_output) -> None:
        self.master = I8259(on_output)
        self.slave = I8259(partial(self.master.set_line, CASCADE_IRQ))
        self.elcr = EdgeLevelControl(self.master, self.slave)

    @property
    def output(self) -> bool:
        """Level of the INT pin that goes to the CPU."""
        return self.master.output

    @property
    def on_output(self) -> Callable[[bool], None]:
        """Called with the new level whenever `output` changes."""
        return self.master.on_output

    @on_output.setter
    def on_output(self, on_output: Callable[[bool], None]) -> None:
        self.master.on_output = on_output

    def line(self, irq: int) -> InterruptLine:
        """The wire to input `irq`, 0-15 without the cascade's 2. Raises ValueError for any other."""
        if not 0 <= irq < 16 or irq == CASCADE_IRQ:
            raise ValueError(f"IRQ {irq} is not an input of the pair")
        return partial((self.slave if irq >= 8 else self.master).set_line, irq & 7)

    def acknowledge(self) -> int:
        """INTA: take the best request into service and return its vector (spurious: level 7 or 15)."""
        master = self.master
        level = master.begin_acknowledge()
        if level != CASCADE_IRQ or not master.has_slave(CASCADE_IRQ):
            return master.end_acknowledge(level)
        vector = UNDRIVEN_VECTOR
        if self.slave.icw3 & 7 == CASCADE_IRQ:  # a slave compares the cascade lines with its ICW3
            vector = self.slave.acknowledge()
        master.end_acknowledge(level)
        return vector
