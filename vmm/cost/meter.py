"""What the VMM does on a core is charged there; no handler has "a cost".

    follow         the instructions of a path of paths.py            core.path_cycles_per_100_instructions
    execute        an instruction that is slower than those          instructions.*_cycles
    touch          words of memory, at their host-physical address   the core's caches (Clock.touch)
    lock, unlock   a spin lock: instructions, and its word
    pay            anything else; the VMX instructions come here     emulator/vmx/operation.py

Charges go to the account that is open, and are on the core's clock after `commit`. Who listens hears of each charge
(session/observe/explain.py); a meter that nobody can listen to does not ask.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from emulator.ledger import Category
from emulator.pcpu import PCpu
from vmm.cost import paths
from vmm.cost.paths import PATH_PARAMETER, Path, Route

_VMCS, _PATHS = Category.VMCS, Category.PATHS
LOCK_BYTES = 4
EXECUTED = ("cpuid", "locked", "rdmsr", "wrmsr")  # what the VMM executes beside its paths: see `execute`
HIT = ("caches.l1d_latency_cycles", "")  # parameter and source of a memory access
MISS = ("", "the caches as emulator/timing/hierarchy.py has them, by [core], [caches] and [memory] of the profile")


class Charge(NamedTuple):
    """One charge. `parameter` is the profile's that gave the cycles, or empty; `source` is of the charge itself."""

    category: int
    cycles: int
    what: str
    parameter: str
    source: str


class Listener(Protocol):
    """Who hears of charges."""

    def charged(self, meter: "Meter", charge: Charge) -> None:
        """A charge to the meter's open account."""
        ...

    def committed(self, meter: "Meter") -> None:
        """All charges are on the clock; what the core itself has booked is in the account too."""
        ...


class Meter:
    """What VMM code on `pcpu` is charged. A VMX operation pays here, too."""

    WIRED: tuple[str, ...] = ("touch", "is_observed")

    __slots__ = (
        "_checks_ledger", "_cycles_by_instruction", "_cycles_by_path", "_path_cycles",
        "booked_cycles", "clock", "is_observed", "pcpu", "touch", "vmcs_cycles",
    )  # fmt: skip

    def __init__(self, pcpu: PCpu) -> None:
        self.pcpu = pcpu
        self.clock = pcpu.clock
        self.is_observed = False
        self.vmcs_cycles = 0  # of VMREAD and VMWRITE: charged, not booked yet
        self._path_cycles = 0  # charged, not booked yet
        self.booked_cycles = 0  # booked, not on the clock yet
        self._checks_ledger = pcpu.clock.checks_ledger
        instructions = pcpu.profile.instructions
        self._cycles_by_instruction = {name: int(getattr(instructions, f"{name}_cycles")) for name in EXECUTED}
        self._cycles_by_path = paths.cycles_by_path(pcpu.profile)
        self.touch: Callable[[int, int, bool], int] = pcpu.clock.touch  # (hpa, size in bytes, whether it is a write)

    # --- charges -----------------------------------------------------------------------------------------------------

    def follow(self, path: Path | Route, times: int = 1) -> None:
        """Charge the instructions of `path`, one of paths.py or a user's own, so often."""
        try:
            self._path_cycles += self._cycles_by_path[path] * times
        except KeyError:
            self._path_cycles += path.cycles(self.pcpu.profile) * times

    def execute(self, instruction: str) -> None:
        """Charge an instruction that is slower than those of paths: `<instruction>_cycles` of the profile."""
        self._path_cycles += self._cycles_by_instruction[instruction]

    def pay(self, category: int, cycles: int, _what: str, _parameter: str) -> None:
        """Book anything else."""
        self.clock.account[category] += cycles
        self.booked_cycles += cycles

    def touch_words(self, hpas: Sequence[int], size_bytes: int, is_write: bool) -> None:
        """Touch each of these words, of 8 bytes at most."""
        self.clock.touch_words(hpas, size_bytes, is_write)

    def lock(self, hpa: int) -> None:
        """Take the spin lock in the word at `hpa`."""
        self.follow(paths.LOCK)
        self.execute("locked")
        self.touch(hpa, LOCK_BYTES, True)

    def unlock(self, hpa: int) -> None:
        """Release it."""
        self.follow(paths.UNLOCK)
        self.touch(hpa, LOCK_BYTES, True)

    @property
    def now_cycles(self) -> int:
        """The core's clock with what has been charged, on it or not."""
        return self.clock.cycles + self.vmcs_cycles + self._path_cycles + self.booked_cycles

    @property
    def now_ps(self) -> int:
        """The same in picoseconds."""
        return self.pcpu.timeline.cycles_to_ps(self.now_cycles)

    # --- the clock ---------------------------------------------------------------------------------------------------

    def commit(self) -> int:
        """Put what was charged on the core's clock: before time matters, and before the guest goes on.

        Returns what the clock shows then.
        """
        clock, vmcs_cycles, path_cycles = self.clock, self.vmcs_cycles, self._path_cycles
        account = clock.account
        account[_VMCS] += vmcs_cycles
        account[_PATHS] += path_cycles
        cycles = clock.commit(vmcs_cycles + path_cycles + self.booked_cycles)
        self.vmcs_cycles = self._path_cycles = self.booked_cycles = 0
        if self._checks_ledger:
            clock.check_ledger()
        return cycles

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens: nobody does."""
        return False

    def tell(self, category: int, cycles: int, what: str, parameter: str, source: str = "") -> None:
        """Tell who listens of a charge: nobody does."""

    def take_over(self, other: "Meter") -> None:
        """What `other` was charged and has not booked is charged here."""
        assert not other.booked_cycles, "cycles of another core"
        self.vmcs_cycles += other.vmcs_cycles
        self._path_cycles += other._path_cycles
        other.vmcs_cycles = other._path_cycles = 0


class Unpaid(Meter):
    """For work that no core does: nothing is charged."""

    __slots__ = ()

    def __init__(self, pcpu: PCpu) -> None:
        super().__init__(pcpu)
        self.touch = _touch_nothing

    def follow(self, path: Path | Route, times: int = 1) -> None:
        """Nobody follows it."""

    def touch_words(self, hpas: Sequence[int], size_bytes: int, is_write: bool) -> None:
        """Nobody touches them."""

    def execute(self, instruction: str) -> None:
        """Nobody executes it."""

    def pay(self, category: int, cycles: int, _what: str, _parameter: str) -> None:
        """Nobody pays."""

    def commit(self) -> int:
        """There is nothing."""
        return self.clock.cycles


def _touch_nothing(_hpa: int, _size_bytes: int, _is_write: bool) -> int:
    return 0


class ObservedMeter(Meter):
    """A meter that tells of each charge whoever is among `listeners` then: a list that others change."""

    WIRED = ("_listeners",)
    SAVED_AS = "Meter"

    __slots__ = ("_listeners",)

    def __init__(self, pcpu: PCpu, listeners: Sequence[Listener]) -> None:
        super().__init__(pcpu)
        self.is_observed = True
        self.touch = self._touch_and_tell
        self._listeners = listeners

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens now."""
        return bool(self._listeners)

    def tell(self, category: int, cycles: int, what: str, parameter: str, source: str = "") -> None:
        """Tell who listens of a charge."""
        for listener in self._listeners:
            listener.charged(self, Charge(category, cycles, what, parameter, source))

    def follow(self, path: Path | Route, times: int = 1) -> None:
        """Charge the instructions of `path`, so often."""
        if self._listeners:
            for part in path.parts * times:
                what = f"{part.what}: {part.instructions} instructions"
                self.tell(Category.PATHS, part.cycles(self.pcpu.profile), what, PATH_PARAMETER, part.source)
        super().follow(path, times)

    def touch_words(self, hpas: Sequence[int], size_bytes: int, is_write: bool) -> None:
        """Touch each of these words, of 8 bytes at most."""
        for hpa in hpas:
            self.touch(hpa, size_bytes, is_write)

    def execute(self, instruction: str) -> None:
        """Charge an instruction."""
        cycles = self._cycles_by_instruction[instruction]
        self.tell(Category.PATHS, cycles, f"instruction: {instruction}", f"instructions.{instruction}_cycles")
        super().execute(instruction)

    def pay(self, category: int, cycles: int, what: str, parameter: str) -> None:
        """Book anything else."""
        self.tell(category, cycles, what, parameter)
        super().pay(category, cycles, what, parameter)

    def _touch_and_tell(self, hpa: int, size_bytes: int, is_write: bool) -> int:
        """Charge an access to memory: a line for each category that the core's caches have booked."""
        if not self._listeners:
            return self.clock.touch(hpa, size_bytes, is_write)
        before = list(self.clock.account)
        cycles = self.clock.touch(hpa, size_bytes, is_write)
        is_hit = cycles == (size_bytes + 7 >> 3) * self.pcpu.profile.caches.l1d_latency_cycles
        what = f"{'write' if is_write else 'read'} {size_bytes} bytes at {hpa:#x}"
        for category, (old, new) in enumerate(zip(before, self.clock.account, strict=True)):
            if new != old:
                self.tell(category, new - old, what, *(HIT if is_hit else MISS))
        return cycles

    def commit(self) -> int:
        """Put what was charged on the clock, and say so."""
        cycles = super().commit()
        for listener in self._listeners:
            listener.committed(self)
        return cycles


def meter_of(pcpu: PCpu, listeners: Sequence[Listener] = ()) -> Meter:
    """The meter of a core: a plain one, which asks nobody, or if somebody listens one that tells."""
    return ObservedMeter(pcpu, listeners) if listeners else Meter(pcpu)
