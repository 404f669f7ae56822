"""The clock of a core, and the ledger of what its cycles went to.

    charge, touch --> charged --commit--> the clock:  engine.shared.clock_cycles  while an engine is loaded,
                                                      a number here               while none is
    guest's instructions, counted by the engine ----> the same clock; in the ledger when somebody asks (`book`)

The sum of the ledger is the clock, always: `check_ledger`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from emulator.engine import Engine
from emulator.ledger import HOST, IDLING, RUNNING, Account, Category, Ledger
from emulator.timeline import Timeline
from emulator.timing.core_timing import MachineTiming
from emulator.timing.fidelity import Fidelity

if TYPE_CHECKING:
    from emulator.timing.hierarchy import MemoryHierarchy

TSC_MASK = (1 << 64) - 1
# Counters of the engine (shared.h) that are part of its clock, and what they are booked as.
ENGINE_COUNTERS = (
    ("guest_cycles", Category.GUEST),
    ("memory_cycles", Category.MEMORY),
    ("walk_cycles", Category.WALKS),
    ("branch_cycles", Category.BRANCHES),
    ("event_cycles", Category.EVENTS),
    ("sibling_cycles", Category.SIBLING),
)
NO_HORIZON = 1 << 62  # a horizon that no clock reaches
_VMM_MEMORY, _SIBLING = Category.VMM_MEMORY, Category.SIBLING


class Siblings(Protocol):
    """The other threads of the physical core: `emulator.siblings.Siblings`."""

    def slow_down(self, now_cycles: int, work_cycles: int) -> tuple[int, int, int]:
        """How much longer than itself work takes that begins at `now_cycles`.

        Then, for what comes after it: cycles that 100 of work take, and the clock at which that changes.
        """
        ...


class Clock:
    """The time of core `number`. `checks_ledger`: who puts a VM exit on the clock is to call `check_ledger`."""

    def __init__(
        self, timeline: Timeline, timing: MachineTiming, number: int, *, fidelity: Fidelity, checks_ledger: bool = False
    ) -> None:
        self.number = number
        self.ledger = Ledger()
        self.account: Account = self.ledger.account(HOST, IDLING)  # what charges go to now
        self.engine: Engine | None = None  # the one that is loaded
        self.fidelity: Fidelity = fidelity
        self.checks_ledger = checks_ledger
        self._timeline = timeline
        self._timing = timing
        self.siblings: Siblings | None = None  # whoever uses the same physical core
        self.rate_end_cycles = NO_HORIZON  # when siblings are known to change how long work takes
        self._is_alone = timing.pcpu_count == 1
        self._l1d_latency_cycles = timing.profile.caches.l1d_latency_cycles
        self._cycles = 0  # while no engine is loaded
        self._charged_cycles = 0  # not on the engine's clock yet
        self.horizon_cycles = NO_HORIZON  # up to here no other core is behind: see interleave.py
        self._instructions = 0  # retired on this core before the engine was loaded
        self._booked = [0] * len(ENGINE_COUNTERS)  # of the loaded engine's counters: a block that is left gives back
        # While `detailed`.
        self._hierarchy: MemoryHierarchy | None = None
        self._has_caches = False  # whether there is one: said in a snapshot, in which the hierarchy itself is not
        self._coherence_cycles = 0  # of its counter, booked

    @property
    def cycles(self) -> int:
        """What the clock shows."""
        cycles = self._cycles if self.engine is None else int(self.engine.shared.clock_cycles)
        return cycles + self._charged_cycles

    @property
    def now_ps(self) -> int:
        """The same in picoseconds since power-on."""
        return self._timeline.cycles_to_ps(self.cycles)

    def tsc_to_ps(self, tsc: int, tsc_base: int) -> int:
        """When a time-stamp counter that is `tsc_base` ahead of the clock shows `tsc`, or showed it last."""
        cycles = self.cycles
        return self._timeline.cycles_to_ps(max(0, cycles + tsc - (cycles + tsc_base & TSC_MASK)))

    @property
    def instructions(self) -> int:
        """Instructions that guests have retired on this core."""
        return self._instructions + (0 if self.engine is None else int(self.engine.shared.instructions))

    # --- charges -----------------------------------------------------------------------------------------------------

    def open_account(self, owner: str, activity: str) -> None:
        """Charges go to what `owner` does from now on."""
        self.account = self.ledger.account(owner, activity)

    def charge(self, category: int, cycles: int) -> None:
        """Book `cycles`; the engine's clock has them after `commit`."""
        self.account[category] += cycles
        self._charged_cycles += cycles

    def touch(self, hpa: int, size_bytes: int, is_write: bool) -> int:
        """Charge the VMM's access to [hpa, hpa + size_bytes) of host memory; returns the cycles it takes.

        Word by word, each at least a hit of the first-level cache; `detailed` adds what the core's caches say.
        MODEL: a store takes as long as a load, and the VMM's own translations are always in the TLB.
        """
        cycles = (size_bytes + 7 >> 3) * self._l1d_latency_cycles
        self.account[_VMM_MEMORY] += cycles
        if self._hierarchy is not None:
            stall_cycles, transfer_cycles = self._access_caches(self._hierarchy, hpa, size_bytes, is_write)
            self.account[_VMM_MEMORY] += stall_cycles - transfer_cycles
            self.account[Category.COHERENCE] += transfer_cycles
            cycles += stall_cycles
        self._charged_cycles += cycles
        return cycles

    def issue_store(self, size_bytes: int) -> None:
        """Charge the VMM's store that waits in the store buffer; the caches follow when others see it: `store_seen`."""
        self.charge(_VMM_MEMORY, (size_bytes + 7 >> 3) * self._l1d_latency_cycles)

    def store_seen(self, hpa: int, size_bytes: int) -> None:
        """A store that was issued before is seen by others from now on: they lose the line."""
        if self._hierarchy is not None:
            self._access_caches(self._hierarchy, hpa, size_bytes, True)

    def _access_caches(
        self, hierarchy: "MemoryHierarchy", hpa: int, size_bytes: int, is_write: bool
    ) -> tuple[int, int]:
        """The stall of an access, and how much of it waits for another core, which is not to be booked again."""
        before_cycles = hierarchy.counter(self.number, "coherence_cycles")  # the guest's may not be booked yet
        stall_cycles = hierarchy.access(self.number, hpa, size_bytes, is_write, self.cycles)
        transfer_cycles = hierarchy.counter(self.number, "coherence_cycles") - before_cycles
        self._coherence_cycles += transfer_cycles
        return stall_cycles, transfer_cycles

    def touch_words(self, hpas: Sequence[int], size_bytes: int, is_write: bool) -> None:
        """The same for each of these words, of 8 bytes at most, in one call."""
        if self._hierarchy is None:
            cycles = len(hpas) * self._l1d_latency_cycles
            self.account[_VMM_MEMORY] += cycles
            self._charged_cycles += cycles
        else:
            for hpa in hpas:
                self.touch(hpa, size_bytes, is_write)

    def commit(self, booked_cycles: int = 0) -> int:
        """Put what was charged, and `booked_cycles` that others have booked, on the clock; returns what it shows then.

        To be called before time matters to anybody else, and before the engine goes on.
        """
        charged_cycles, engine = self._charged_cycles + booked_cycles, self.engine
        self._charged_cycles = 0
        if self.siblings is not None:
            charged_cycles += self._slow_down(self.siblings, charged_cycles)
        if engine is None:
            self._cycles += charged_cycles
            return self._cycles
        word = engine.clock
        cycles: int = word[0] + charged_cycles
        word[0] = cycles
        return cycles

    def _slow_down(self, siblings: Siblings, work_cycles: int) -> int:
        """What other threads of the core add to work that begins now; the engine knows what they add from then on."""
        shared = None if self.engine is None else self.engine.shared
        now_cycles = self._cycles if shared is None else shared.clock_cycles
        extra_cycles, rate, end_cycles = siblings.slow_down(now_cycles, work_cycles)
        self.account[_SIBLING] += extra_cycles
        self.rate_end_cycles = end_cycles
        if shared is not None:
            shared.slow_percent = rate - 100
            if end_cycles < shared.deadline_cycles:
                shared.deadline_cycles = end_cycles
        return extra_cycles

    def pass_time(self, cycles: int) -> None:
        """Let `cycles` pass that are booked, and in which nothing is done that could take longer."""
        self.commit()
        if self.engine is None:
            self._cycles += cycles
        else:
            self.engine.shared.clock_cycles += cycles

    # --- the engine whose clock it is --------------------------------------------------------------------------------

    def load(self, engine: Engine) -> None:
        """The clock moves into `engine`, and charges go to its owner. None is loaded."""
        shared = engine.shared
        shared.clock_cycles = self._cycles
        shared.horizon_cycles = self.horizon_cycles
        shared.slow_percent = 0
        shared.instructions = 0
        self._booked = [0] * len(ENGINE_COUNTERS)
        for counter, _ in ENGINE_COUNTERS:
            setattr(shared, counter, 0)
        self.engine = engine
        self.retime(self.fidelity)
        self.open_account(engine.owner, RUNNING)

    def unload(self) -> None:
        """Take the clock back, if an engine is loaded, and book the guest's cycles."""
        self.book()
        if self.engine is not None:
            self._cycles = int(self.engine.shared.clock_cycles)
            self._instructions += int(self.engine.shared.instructions)
            self.engine = None
        self.open_account(HOST, IDLING)

    def retime(self, fidelity: Fidelity) -> None:
        """Compute time at `fidelity` from now on; an engine that runs changes at its next instruction."""
        self.fidelity = fidelity
        timing = self._timing.at(fidelity)
        self._hierarchy = timing.hierarchy
        self._has_caches = timing.hierarchy is not None
        if self.engine is not None:
            self.engine.set_timing(timing, self.number)

    def resume(self) -> None:
        """Its state was restored: find its timing again."""
        if self._has_caches or self.engine is not None:
            self.retime(self.fidelity)

    # --- the ledger --------------------------------------------------------------------------------------------------

    def book(self) -> Ledger:
        """The ledger, with the guest's cycles up to now."""
        self.commit()
        if self.engine is not None:
            shared = self.engine.shared
            account = self.ledger.account(self.engine.owner, RUNNING)
            for number, (counter, category) in enumerate(ENGINE_COUNTERS):
                now = getattr(shared, counter)
                account[category] += now - self._booked[number]
                self._booked[number] = now
            self._book_coherence(account)
        return self.ledger

    def _book_coherence(self, account: Account) -> None:
        """The engine counts stalls for lines that another core has among those of memory."""
        if self._hierarchy is not None:
            coherence_cycles = self._hierarchy.counter(self.number, "coherence_cycles")
            account[Category.MEMORY] -= coherence_cycles - self._coherence_cycles
            account[Category.COHERENCE] += coherence_cycles - self._coherence_cycles
            self._coherence_cycles = coherence_cycles

    def check_ledger(self) -> None:
        """Assert that every cycle of the clock is booked, and none twice."""
        self.commit()
        booked_cycles = self.ledger.total_cycles
        if self.engine is not None:
            booked_cycles += sum(getattr(self.engine.shared, counter) for counter, _ in ENGINE_COUNTERS)
            booked_cycles -= sum(self._booked)
        assert booked_cycles == self.cycles, f"booked {booked_cycles} of {self.cycles} cycles"

    # --- how far it may get ------------------------------------------------------------------------------------------

    def set_horizon(self, cycles: int) -> None:
        """Up to `cycles` no other core is behind: see interleave.py."""
        self.horizon_cycles = cycles
        if self.engine is not None:
            self.engine.shared.horizon_cycles = cycles

    def bound(self, *, deadline_cycles: int, horizon_cycles: int) -> None:
        """Let the engine, if one is loaded, get no further than this in its turn, nor its horizon be beyond that."""
        if self.engine is not None:
            shared = self.engine.shared
            shared.deadline_cycles = min(int(shared.deadline_cycles), deadline_cycles)
            self.set_horizon(min(self.horizon_cycles, horizon_cycles))

    def bound_by_events(self) -> None:
        """Let the running engine stop no later than the machine's next event, which may wake another core."""
        next_cycles = self._timeline.next_event_cycles()
        if next_cycles is not None:
            self.bound(deadline_cycles=next_cycles, horizon_cycles=NO_HORIZON if self._is_alone else next_cycles)
