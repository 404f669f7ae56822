"""Who runs where, and until when: policies without machinery.

    a vCPU wakes ------------------------------------------ wake() --> cores to ask
    a core is asked, its vCPU sleeps, its slice is over --- pick() --> Decision
    every 10 ms of a busy core ---------------------------- tick()

`pinned` gives each vCPU a core of its own; `credit` shares cores as Xen does. A scheduler knows neither clocks nor
interrupts: `vmm.core.Core` asks it at the right times and does what it says. To add one: a class with these methods.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

V = TypeVar("V", bound=Hashable)  # a vCPU; tests use numbers


@dataclass(frozen=True)
class Decision(Generic[V]):
    """`vcpu` runs next (None: nobody can), until `until_ps` at most (None: until it sleeps or another wakes)."""

    vcpu: V | None
    until_ps: int | None = None


class Scheduler(Protocol[V]):
    """Cores have the numbers of their pCPUs."""

    def add(self, vcpu: V, *, group: Hashable, weight: int, cores: Sequence[int]) -> int:
        """Take on a vCPU that may run on `cores`, at once runnable; `group` is its domain. Returns the core to ask."""
        ...

    def retire(self, core: int) -> bool:
        """Let nobody run on the core from its next decision on; False, and nothing: somebody may run nowhere else."""
        ...

    def enlist(self, core: int) -> None:
        """Use a retired core again."""
        ...

    @property
    def waiting_count(self) -> int:
        """vCPUs that could run, and have no core now."""
        ...

    def remove(self, vcpu: V) -> None:
        """Forget a vCPU."""
        ...

    def sleep(self, vcpu: V) -> None:
        """The vCPU cannot run until it wakes."""
        ...

    def wake(self, vcpu: V) -> Sequence[int]:
        """The vCPU can run: the cores that should decide anew."""
        ...

    def pick(self, core: int, now_ps: int) -> Decision[V]:
        """Decide for a core; whoever ran there does so no longer, unless picked again."""
        ...

    def tick(self, core: int, now_ps: int) -> None:
        """The time `next_tick_ps` told has come on a core."""
        ...

    def next_tick_ps(self, core: int, now_ps: int) -> int | None:
        """When a core wants its next tick, after `now_ps`; None: it needs none as long as it runs what it runs."""
        ...
