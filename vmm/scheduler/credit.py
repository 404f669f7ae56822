"""Xen's credit scheduler, as of September 2006 (xen/common/sched_credit.c), by what it does:

    queue of a core:  [BOOST ..][UNDER ......][OVER ...]      FIFO inside a class; who runs is in no queue
                                   ^ a vCPU that wakes, or whose slice is over, goes to the tail of its class

- Every 10 ms whoever runs pays 100 credits. Every 30 ms the domains get 300 per core, shared by weight, and their
  vCPUs evenly: with credits left a vCPU is UNDER, else OVER.
- A slice is 30 ms. A vCPU that wakes preempts only one of a lower class; an idle core is told, too.
- A core with nobody UNDER looks for somebody better in the queues of the others, the next first.
- A vCPU that has saved more than a slice's worth leaves the accounting until it is seen running again.

MODEL: no caps; ticks fall on multiples of 10 ms of machine time on every busy core, and an idle core has none.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic

from emulator.errors import ConfigError
from vmm.scheduler import Decision, V

PS_PER_MS = 10**9
TICK_PS = 10 * PS_PER_MS
SLICE_PS = 3 * TICK_PS
ACCOUNTING_PS = 3 * TICK_PS
CREDITS_PER_TICK = 100
CREDITS_PER_SLICE = 300
CREDITS_PER_ACCOUNTING = 300  # of a core
DEFAULT_WEIGHT = 256
WEIGHT_MAX = 65535


class Priority(IntEnum):
    """Classes of a queue, higher first."""

    OVER = 0
    UNDER = 1
    BOOST = 2


@dataclass(eq=False)
class _Group:
    """A domain. `active` are its vCPUs that take part in the accounting, in the order they came."""

    weight: int
    member_count: int = 0
    active: dict[Hashable, None] = field(default_factory=dict)


@dataclass(eq=False)
class _Entry(Generic[V]):
    vcpu: V
    group: _Group
    cores: frozenset[int]
    core: int  # whose queue it goes to
    credits: int = 0
    priority: Priority = Priority.UNDER


class CreditScheduler(Generic[V]):
    """Shares `core_count` cores by weight. `has_boost`: a vCPU that wakes UNDER comes before all others (Xen 3.0.4)."""

    def __init__(self, core_count: int, *, has_boost: bool = False) -> None:
        self._has_boost = has_boost
        self._queues: list[list[_Entry[V]]] = [[] for _ in range(core_count)]
        self._running: list[_Entry[V] | None] = [None] * core_count
        self._entries: dict[V, _Entry[V]] = {}
        self._groups: dict[Hashable, _Group] = {}
        self._retired: frozenset[int] = frozenset()
        self._next_accounting_ps = ACCOUNTING_PS

    def credits_of(self, vcpu: V) -> int:
        """What the vCPU has left: 100 are 10 ms."""
        return self._entries[vcpu].credits

    def add(self, vcpu: V, *, group: Hashable, weight: int, cores: Sequence[int]) -> int:
        """Take on a vCPU; its queue is the shortest of the cores it may use. Raises ConfigError."""
        if not 1 <= weight <= WEIGHT_MAX:
            raise ConfigError(f"a weight of {weight} is not possible; give 1 to {WEIGHT_MAX}")
        if not cores:
            raise ConfigError("a virtual CPU needs a core to run on")
        in_use = [number for number in cores if number not in self._retired]
        if not in_use:
            raise ConfigError("all cores that the virtual CPU may run on serve sidecalls; give it one more")
        owner = self._groups.setdefault(group, _Group(weight))
        owner.weight = weight
        owner.member_count += 1
        core = min(in_use, key=lambda number: (self._load(number), number))
        entry = self._entries[vcpu] = _Entry(vcpu, owner, frozenset(cores), core)
        self._insert(entry)
        return core

    def retire(self, core: int) -> bool:
        """Its vCPUs go to the shortest queues of their other cores; who runs there when the core decides next."""
        retired = self._retired | {core}
        if any(entry.cores <= retired for entry in self._entries.values()):
            return False
        self._retired = retired
        for entry in [entry for entry in self._entries.values() if entry.core == core]:
            was_queued = entry in self._queues[core]
            if was_queued:
                self._queues[core].remove(entry)
            entry.core = min(sorted(entry.cores - retired), key=self._load)
            if was_queued:
                self._insert(entry)
        return True

    def enlist(self, core: int) -> None:
        """It finds its vCPUs in the queues of the others."""
        self._retired -= {core}

    @property
    def waiting_count(self) -> int:
        """How many are in the queues."""
        return sum(map(len, self._queues))

    def _load(self, core: int) -> int:
        return sum(entry.core == core for entry in self._entries.values())

    def remove(self, vcpu: V) -> None:
        """Forget a vCPU, and its domain with the last."""
        self.sleep(vcpu)
        entry = self._entries.pop(vcpu)
        self._running = [None if running is entry else running for running in self._running]
        entry.group.active.pop(vcpu, None)
        entry.group.member_count -= 1
        if entry.group.member_count == 0:
            self._groups = {key: group for key, group in self._groups.items() if group is not entry.group}

    def sleep(self, vcpu: V) -> None:
        """Leave the queue; who runs is replaced at the next decision."""
        entry = self._entries[vcpu]
        for core, running in enumerate(self._running):
            if running is entry:
                self._running[core] = None
        queue = self._queues[entry.core]
        if entry in queue:
            queue.remove(entry)

    def wake(self, vcpu: V) -> Sequence[int]:
        """Ask its core, if that runs a lower class or nobody; else all idle cores the vCPU may use."""
        entry = self._entries[vcpu]
        if entry in self._queues[entry.core] or any(running is entry for running in self._running):
            return ()
        if self._has_boost and entry.priority is Priority.UNDER:
            entry.priority = Priority.BOOST
        self._insert(entry)
        running = self._running[entry.core]
        if running is None or entry.priority > running.priority:
            return (entry.core,)
        return tuple(core for core in sorted(entry.cores - self._retired) if self._running[core] is None)

    def _insert(self, entry: _Entry[V]) -> None:
        queue = self._queues[entry.core]
        place = next((i for i, other in enumerate(queue) if entry.priority > other.priority), len(queue))
        queue.insert(place, entry)

    def pick(self, core: int, now_ps: int) -> Decision[V]:
        """The head of the queue, or, if that is OVER or nobody, somebody better from another queue."""
        previous, self._running[core] = self._running[core], None
        if previous is not None:
            self._insert(previous)
        if core in self._retired:
            return Decision(None)
        queue = self._queues[core]
        chosen = queue[0] if queue else None
        if chosen is None or chosen.priority is Priority.OVER:
            chosen = self._steal(core, better_than=chosen) or chosen
        if chosen is None:
            return Decision(None)
        self._queues[chosen.core].remove(chosen)
        chosen.core = core
        self._running[core] = chosen
        return Decision(chosen.vcpu, now_ps + SLICE_PS)

    def _steal(self, core: int, *, better_than: _Entry[V] | None) -> _Entry[V] | None:
        """The first in the queues of other busy cores that may run here and is of a higher class."""
        count = len(self._queues)
        for peer in ((core + distance) % count for distance in range(1, count)):
            for entry in self._queues[peer]:
                if better_than is not None and entry.priority <= better_than.priority:
                    break
                if core in entry.cores:
                    return entry
        return None

    def tick(self, core: int, now_ps: int) -> None:
        """Whoever runs on the core pays; the first core to come here in a new period does the accounting."""
        running = self._running[core]
        if running is not None:
            if running.priority is Priority.BOOST:
                running.priority = Priority.UNDER
            running.credits -= CREDITS_PER_TICK
            running.group.active[running.vcpu] = None
        if now_ps >= self._next_accounting_ps:
            self._next_accounting_ps = now_ps - now_ps % ACCOUNTING_PS + ACCOUNTING_PS
            self._account()

    def next_tick_ps(self, core: int, now_ps: int) -> int | None:
        """The next multiple of 10 ms, while the core is busy."""
        return None if self._running[core] is None else now_ps - now_ps % TICK_PS + TICK_PS

    def _account(self) -> None:
        """Credits for 30 ms, shared among the domains that used any by weight, then the classes of their vCPUs."""
        groups = [group for group in self._groups.values() if group.active]
        weight_total = sum(group.weight for group in groups)
        supply = (len(self._queues) - len(self._retired)) * CREDITS_PER_ACCOUNTING
        for group in groups:
            peak = len(group.active) * CREDITS_PER_ACCOUNTING  # a vCPU cannot use more than a core
            share = min(peak, -(-supply * group.weight // weight_total))
            each = -(-share // len(group.active))
            for vcpu in list(group.active):
                self._credit(self._entries[vcpu], each)  # type: ignore[index]  # only V are added
        for queue in self._queues:
            queue.sort(key=lambda entry: -entry.priority)

    def _credit(self, entry: _Entry[V], amount: int) -> None:
        entry.credits += amount
        if entry.credits < 0:
            entry.priority = Priority.OVER
            entry.credits = max(entry.credits, -CREDITS_PER_SLICE)
            return
        entry.priority = Priority.UNDER
        if entry.credits > CREDITS_PER_SLICE:
            entry.credits = 0
            del entry.group.active[entry.vcpu]
