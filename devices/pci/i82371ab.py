"""82371AB (PIIX4), function 0, the PCI-to-ISA bridge: of it the router of PCI interrupts to the 8259s.

    PIRQA# to PIRQD# --+--> PIRQRC[A:D], registers 0x60 to 0x63 --> IRQ n of the 8259s
                       +--> INTIN16 to 19 of the I/O APIC, by wire (82093AA data sheet, 2.0; board.py)

    PIRQRC   7 = 1: not routed | 6-4: 0 | 3-0: IRQ 3-7, 9-12, 14, 15; others: not routed

The 8259 input has to be level-triggered, by the ELCR (i8259_pair.py). Source: 82371AB data sheet (290562), 4.1.10.

MODEL: the other ISA registers read 0, and functions 1 to 3 (IDE, USB, power management) are not there: header type 0.
"""

from collections.abc import Mapping
from functools import partial

from devices.pci.bus import PIRQ_COUNT
from devices.pci.function import PciFunction
from emulator.bus import InterruptLine

PIRQRC = 0x60
NOT_ROUTED, IRQ_BITS = 0x80, 0x0F
ROUTABLE_IRQS = (3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15)

# fmt: off
ISA_BRIDGE = (
    (0x00, 2, 0x8086, 0),       # vendor: Intel
    (0x02, 2, 0x7110, 0),       # device: 82371AB, PCI to ISA bridge
    (0x04, 2, 0x0007, 0x0108),  # command: ports, memory, bus master always on; special cycles, SERR# enable
    (0x06, 2, 0x0280, 0),       # status: medium DEVSEL# timing, fast back-to-back
    (0x08, 1, 0x01, 0),         # revision
    (0x09, 3, 0x06_01_00, 0),   # class: ISA bridge
    (0x0E, 1, 0x00, 0),         # header type
    *((PIRQRC + pirq, 1, NOT_ROUTED, NOT_ROUTED | IRQ_BITS) for pirq in range(PIRQ_COUNT)),
)
# fmt: on


class I82371ab(PciFunction):
    """The bridge; `irqs` are the wires to the 8259s' inputs, for each of ROUTABLE_IRQS."""

    def __init__(self, irqs: Mapping[int, InterruptLine]) -> None:
        super().__init__(ISA_BRIDGE)
        self._irqs = dict(irqs)
        self._pirqs = 0  # levels of PIRQA# to PIRQD#
        self._asserted: set[int] = set()  # IRQs that are driven now

    def pirq(self, number: int) -> InterruptLine:
        """The wire to PIRQA# (0) to PIRQD# (3)."""
        return partial(self._set_pirq, number)

    def _set_pirq(self, number: int, level: bool) -> None:
        self._pirqs = self._pirqs | 1 << number if level else self._pirqs & ~(1 << number)
        self._follow()

    def write(self, register: int, size_bytes: int, value: int) -> None:
        """A changed route takes effect at once."""
        super().write(register, size_bytes, value)
        self._follow()

    def _follow(self) -> None:
        """Assert the IRQs that an asserted PIRQ is routed to, release the others."""
        routes = [self.read(PIRQRC + number, 1) for number in range(PIRQ_COUNT) if self._pirqs >> number & 1]
        asserted = {route & IRQ_BITS for route in routes if not route & NOT_ROUTED} & self._irqs.keys()
        changed = sorted(asserted ^ self._asserted)
        self._asserted = asserted
        for irq in changed:
            self._irqs[irq](irq in asserted)
