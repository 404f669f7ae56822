"""A vCPU as VMM code sees it that works for it on another core: the vCPU's state, the sidecore's time and caches.

Handlers and shadow paging charge what they do to the vCPU they are given (`follow`, `touch`, `execute` ...). Given a
`Worker`, the same code runs for the same vCPU, and the cycles go to the sidecore. The VMCS stays out of reach: it is
loaded on the vCPU's own core.
"""

from typing import Any

from emulator.ledger import Category
from emulator.pcpu import PCpu
from vmm.cost import paths
from vmm.cost.meter import SpinLocks
from vmm.paging.guest_walk import Visit
from vmm.vcpu import VCpu


class Worker(SpinLocks):
    """`pcpu` working for `vcpu`."""

    def __init__(self, vcpu: VCpu, pcpu: PCpu) -> None:
        self._vcpu = vcpu
        self.pcpu = pcpu
        self.touch = pcpu.clock.touch
        self.needs_flush = False  # an entry changed that TLBs may have: no answer before they are flushed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vcpu, name)

    def read(self, field: int) -> int:
        """No VMREAD here."""
        raise AssertionError("the VMCS is loaded on another core")

    def write(self, field: int, value: int) -> None:
        """No VMWRITE here."""
        raise AssertionError("the VMCS is loaded on another core")

    def follow(self, path: paths.Path) -> None:
        """Charge the instructions of `path`."""
        self.pcpu.clock.charge(Category.PATHS, path.cycles(self.pcpu.profile))

    def execute(self, instruction: str) -> None:
        """Charge an instruction that is slower than those of paths."""
        cycles = getattr(self.pcpu.profile.instructions, f"{instruction}_cycles")
        self.pcpu.clock.charge(Category.PATHS, cycles)

    def charge(self, category: int, cycles: int, what: str, parameter: str) -> None:
        """Charge anything else."""
        self.pcpu.clock.charge(category, cycles)

    def charge_walk(self, visited: list[Visit]) -> None:
        """Charge a walk that touches these entries."""
        self.follow(paths.WALK)
        for gpa, size_bytes, is_write in visited:
            self.follow(paths.MARK_USED if is_write else paths.WALK_STEP)
            self.touch(self._vcpu.domain.hpa_of(gpa), size_bytes, is_write)
