"""Each vCPU has a core of its own: nobody is ever preempted, and no timer ticks."""

from collections.abc import Hashable, Sequence

from emulator.errors import ConfigError
from vmm.scheduler import Decision, V


class PinnedScheduler:
    """One vCPU on a core at most: the first free one of those it may use."""

    def __init__(self, core_count: int) -> None:
        self._free = set(range(core_count))
        self._vcpus: dict[int, Hashable] = {}
        self._cores: dict[Hashable, int] = {}
        self._awake: set[Hashable] = set()

    def add(self, vcpu: V, *, group: Hashable, weight: int, cores: Sequence[int]) -> int:
        """Give the vCPU a core. Raises ConfigError when none is free."""
        free = sorted(self._free.intersection(cores))
        if not free:
            raise ConfigError("there are more virtual CPUs than cores for them; give the machine more, with --pcpus")
        self._free.remove(free[0])
        self._vcpus[free[0]] = vcpu
        self._cores[vcpu] = free[0]
        self._awake.add(vcpu)
        return free[0]

    def retire(self, core: int) -> bool:
        """Give the core to nobody, if nobody has it."""
        if core not in self._free:
            return False
        self._free.remove(core)
        return True

    def enlist(self, core: int) -> None:
        """The core is free again."""
        self._free.add(core)

    @property
    def waiting_count(self) -> int:
        """Nobody ever waits."""
        return 0

    def remove(self, vcpu: V) -> None:
        """Its core is free again."""
        core = self._cores.pop(vcpu)
        del self._vcpus[core]
        self._free.add(core)
        self._awake.discard(vcpu)

    def sleep(self, vcpu: V) -> None:
        """Its core idles."""
        self._awake.discard(vcpu)

    def wake(self, vcpu: V) -> Sequence[int]:
        """Its core has to run it."""
        self._awake.add(vcpu)
        return (self._cores[vcpu],)

    def pick(self, core: int, now_ps: int) -> Decision[V]:
        """The core's vCPU, if it is awake."""
        vcpu = self._vcpus.get(core)
        return Decision(vcpu if vcpu in self._awake else None)  # type: ignore[arg-type]  # only V are added

    def tick(self, core: int, now_ps: int) -> None:
        """Never asked for."""

    def next_tick_ps(self, core: int, now_ps: int) -> int | None:
        """Never."""
        return None
