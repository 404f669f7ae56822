"""The vectors a local APIC has been asked for and those its CPU is handling, and which comes next (SDM 3A 10.8).

    request -> IRR --(class above that of PPR)--> take -> ISR -> finish        TMR: it was level-triggered

One bit per vector, 0 to 255; the upper four bits of a vector are its priority class.
"""

NONE = -1
WORDS = 8  # registers of 32 vectors


class VectorState:
    """IRR, ISR and TMR as integers of 256 bits, and the task priority."""

    def __init__(self) -> None:
        self.irr = self.isr = self.tmr = 0
        self.tpr = 0

    def request(self, vector: int, *, is_level: bool) -> None:
        """Ask for a vector; one that is asked for already is asked for once."""
        bit = 1 << vector
        self.irr |= bit
        self.tmr = self.tmr | bit if is_level else self.tmr & ~bit

    def is_requested(self, vector: int) -> bool:
        """Whether the vector waits to be taken."""
        return bool(self.irr >> vector & 1)

    @property
    def ppr(self) -> int:
        """Processor priority: the task priority or the class in service, whichever is higher (SDM 3A 10.8.3.1)."""
        in_service = self.isr.bit_length() - 1 & 0xF0 if self.isr else 0
        return self.tpr if self.tpr >> 4 >= in_service >> 4 else in_service

    @property
    def deliverable(self) -> int:
        """The vector that would be taken now, or NONE."""
        if not self.irr:
            return NONE
        vector = self.irr.bit_length() - 1
        return vector if vector >> 4 > self.ppr >> 4 else NONE

    def take(self) -> int:
        """Put the deliverable vector into service; NONE if there is none."""
        vector = self.deliverable
        if vector != NONE:
            self.irr &= ~(1 << vector)
            self.isr |= 1 << vector
        return vector

    def finish(self) -> int:
        """End of interrupt: the vector that was in service, highest first, or NONE."""
        vector = self.isr.bit_length() - 1
        if vector != NONE:
            self.isr &= ~(1 << vector)
        return vector

    def is_level(self, vector: int) -> bool:
        """Whether the vector was requested by a level-triggered interrupt."""
        return bool(self.tmr >> vector & 1)


def word(bits: int, index: int) -> int:
    """Register `index` of the eight that show `bits`."""
    return bits >> 32 * index & 0xFFFF_FFFF
