"""Flushing a guest's TLBs from another core: an interrupt for each core that is in the guest, and who has answered.

    sidecore                             core in the guest
    lock; mask |= the core; IPI ------>  external interrupt: VM exit
    polls the mask, as it does slots     flush; mask &= ~itself
    sees it  <---- transfer -----------  end of interrupt; VM entry

After Xen of September 2006, xen/arch/x86/smp.c: flush_tlb_mask and smp_invalidate_interrupt. So an entry changed by a
sidecall costs the guest a VM exit all the same; with `vmx.remote_tlb_flush_cycles`, which the paper asks processors
for, none.
MODEL: meanwhile the sidecore serves others, and sees the answers without looking: only the lines' transfers count.
"""

from collections.abc import Callable, Sequence

from emulator.ledger import Category
from emulator.timing.shared_lines import SharedLines
from vmm.core import Core, Sender
from vmm.cost import paths
from vmm.domain import Domain
from vmm.host_apic import FLUSH
from vmm.line_access import change_word

MASK_OFFSET = 64  # in the domain's structure: the line behind that of its lock
MASK_BYTES = 8


class Flush:
    """A flush on its way: the cores that have not answered, and who is told when all have."""

    def __init__(
        self, sidecore: Sender, lines: SharedLines, domain: Domain, cores: Sequence[Core], then: Callable[[int], None]
    ) -> None:
        """Interrupt `cores`; `then` gets the time at which the sidecore can see that all have flushed."""
        self._sidecore = sidecore
        self._lines = lines
        self._mask_hpa = domain.state_hpa + MASK_OFFSET
        self._left = len(cores)
        self._then = then
        sidecore.meter.follow(paths.SEND_FLUSH)
        sidecore.meter.commit()
        change_word(sidecore.pcpu, lines, self._mask_hpa, MASK_BYTES)
        sidecore.pcpu.clock.commit()
        for core in cores:
            core.flushes.append(self.acknowledge)
            core.interrupt(sidecore, FLUSH)

    def acknowledge(self, core: Core) -> None:
        """The core has taken the interrupt."""
        _answer(core, self._lines, self._mask_hpa)
        self._left -= 1
        if self._left == 0:
            seen_cycles = max(core.pcpu.clock.cycles, self._sidecore.pcpu.clock.cycles)
            self._then(seen_cycles + self._lines.transfer_cycles)


def _answer(core: Core, lines: SharedLines, mask_hpa: int) -> None:
    """The interrupt's handler. MODEL: it flushes once more than needed where the VM exit has flushed already."""
    profile = core.pcpu.profile
    core.meter.follow(paths.TAKE_FLUSH)
    core.pcpu.clock.charge(Category.PATHS, profile.instructions.mov_to_cr3_cycles)
    core.meter.commit()
    change_word(core.pcpu, lines, mask_hpa, MASK_BYTES)
    core.meter.commit()
