"""Lines of memory that cores share: accessed in order of time, at what they cost (emulator/timing/shared_lines.py).

    a guest's load or store --> is no other core behind? --> stall, then the access     LineAccess
    the VMM's locked word   --> stall, the instruction, the word itself                 change_word

`detailed` has the stalls from the caches; there a shared line only says when a store is seen.
"""

from emulator.ledger import Category
from emulator.pcpu import PCpu
from emulator.timing.shared_lines import SharedLines
from vmm.vcpu import VCpu


class LineAccess:
    """Accesses of a guest's `vcpu` to lines of memory that others use, too."""

    def __init__(self, vcpu: VCpu, lines: SharedLines) -> None:
        self._vcpu = vcpu
        self._lines = lines

    @property
    def is_due(self) -> bool:
        """Whether nobody is behind, and nothing else has to happen before."""
        clock, shared = self._vcpu.pcpu.clock, self._vcpu.shared
        return clock.cycles <= clock.horizon_cycles and shared.clock_cycles < shared.deadline_cycles

    @property
    def is_in_turn(self) -> bool:
        """Whether, after a stall, still nobody is behind."""
        clock = self._vcpu.pcpu.clock
        return clock.cycles <= clock.horizon_cycles

    def store(self, hpa: int) -> int:
        """When others see the store that takes place now; the guest does not wait for that."""
        pcpu = self._vcpu.pcpu
        return self._lines.store(pcpu.number, hpa, pcpu.clock.cycles)

    def load(self, hpa: int) -> int:
        """What the load stalls, charged now: after that another core may be behind."""
        pcpu = self._vcpu.pcpu
        cycles = self._lines.load(pcpu.number, hpa)
        if not cycles or pcpu.clock.fidelity == "detailed":
            return 0
        pcpu.clock.charge(Category.COHERENCE, cycles)
        pcpu.clock.commit()
        return cycles


def change_word(pcpu: PCpu, lines: SharedLines, hpa: int, size_bytes: int) -> None:
    """Charge a locked instruction of the VMM on a word whose line another core may have."""
    pcpu.clock.charge(Category.PATHS, pcpu.profile.instructions.locked_cycles)
    stall_cycles = lines.store_cycles(pcpu.number, hpa)
    lines.store(pcpu.number, hpa, pcpu.clock.cycles)
    if pcpu.clock.fidelity != "detailed":
        pcpu.clock.charge(Category.COHERENCE, stall_cycles)
    pcpu.clock.touch(hpa, size_bytes, True)
