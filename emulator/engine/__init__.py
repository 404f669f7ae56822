"""The CPU engine as Python sees it: one `Engine` per virtual (or native) CPU.

C is mechanism (see engine.h for the picture); this wrapper opens it, runs it, and carries its two callbacks: a VM exit
(`on_exit`, which answers RESUME or LEAVE) and what a core asks of its platform when nothing exits (`Platform`). A
Python exception never crosses C: it is kept, the core is stopped, and `run` raises it again.
"""

import ctypes
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emulator.engine.abi import FLUSH_ALL, FLUSH_ENGINE, LEAVE, RESUME, WATCHED_ENTRY, Next
from emulator.engine.operations import ANSWERS, Platform
from emulator.errors import GuestError
from emulator.memory import HostMemory
from emulator.vmx.fields import FIELDS
from emulator.x86 import GPR_NAMES, RSP

__all__ = ["FLUSH_ALL", "FLUSH_ENGINE", "LEAVE", "RESUME", "WATCHED_ENTRY", "Engine", "Next", "Platform", "saved_words"]


def _load_global(package: str, pattern: str) -> None:
    """Make the symbols of a wheel's shared library visible to the extension."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    library = next((Path(spec.origin).parent / "lib").glob(pattern))
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


_load_global("capstone", "libcapstone.so*")

from emulator.engine._engine import ffi, lib  # noqa: E402  (needs the library loaded first)
from emulator.engine.code_map import code_map  # noqa: E402
from emulator.timing.core_timing import CoreTiming  # noqa: E402
from emulator.timing.instruction_classes import CLASS_OF  # noqa: E402


def _timing_values(timing: CoreTiming) -> tuple[Any, ...]:
    """The struct of time/timing.h, and the arrays it points to."""
    values = ffi.new("sc_timing *")
    core, instructions, events = timing.profile.core, timing.profile.instructions, timing.profile.events
    class_of = ffi.from_buffer("uint8_t[]", CLASS_OF)
    costs = ffi.new("sc_class_cost[]", [(c.occupancy_cycles, c.latency_cycles, c.uops) for c in timing.costs])
    values.has_vpid = timing.profile.vmx.has_vpid
    if timing.fidelity == "flat":
        return values, class_of, costs
    values.class_of, values.instruction_count, values.costs = class_of, len(CLASS_OF), costs
    values.issue_width = core.issue_width_count
    values.load_latency_cycles = timing.profile.caches.l1d_latency_cycles
    values.mispredict_cycles = core.mispredict_cycles
    values.predictor_entries, values.target_entries = core.predictor_entries_count, core.target_entries_count
    values.rep_start_cycles = instructions.rep_start_cycles
    values.rep_line_cycles, values.rep_scan_cycles = instructions.rep_line_cycles, instructions.rep_scan_cycles
    values.page_fault_entry_cycles = events.page_fault_entry_cycles
    values.exception_entry_cycles = events.exception_entry_cycles
    values.interrupt_entry_cycles = events.interrupt_entry_cycles
    values.task_switch_cycles = events.task_switch_cycles
    values.access_allowance_64ths = timing.allowance.access_64ths
    if timing.hierarchy is not None:
        values.is_detailed = 1
        values.state = ffi.cast("int64_t *", timing.hierarchy.state_address)
        values.data = ffi.cast("sc_access_kernel", timing.hierarchy.data_kernel)
        values.fetch = ffi.cast("sc_access_kernel", timing.hierarchy.fetch_kernel)
        values.walk = ffi.cast("sc_walk_kernel", timing.hierarchy.walk_kernel)
        values.drain = ffi.cast("sc_flush_kernel", timing.hierarchy.drain_kernel)
        values.flush = ffi.cast("sc_flush_kernel", timing.hierarchy.flush_kernel)
        values.flush_page = ffi.cast("sc_page_kernel", timing.hierarchy.invalidate_kernel)
    return values, class_of, costs


def _words(array: Any) -> memoryview:
    return memoryview(ffi.buffer(array)).cast("B").cast("Q")


class Engine:
    """One CPU of the engine over a host's memory.

    `shared` is the C struct of shared.h; `gpr` and `vmcs` are its arrays as memoryviews of 64-bit words (`vmcs` is
    indexed by slot: `emulator.vmx.fields.SLOT`), and `clock` has its `clock_cycles` at 0: each VM exit reads and writes
    it, and the struct takes twice as long. Raises RuntimeError when the engine's raw state does not lie where
    this project expects it (another Unicorn build).
    """

    def __init__(self, memory: HostMemory, platform: Platform, *, owner: str = "guest") -> None:
        """Open a CPU over `memory`; the ledger books its time under the name `owner`."""
        self.memory = memory
        self.platform = platform
        self.owner = owner
        self.on_exit: Callable[[], Next] | None = None
        self.on_notification: Callable[[int], int] | None = None  # (vector): a posted interrupt's vector, or 0
        self.on_watched_access: Callable[[int, bool], bool] | None = None  # (hpa, is a store): may it take place now?
        self.on_watched_store: Callable[[int], None] | None = None  # (hpa): it has taken place
        self.on_instruction: Callable[[], None] | None = None  # before one that `watch_instructions` has asked for
        self.error: BaseException | None = None
        self._known_places: Any = None
        self._is_running = False
        self._core = 0
        self._timing: CoreTiming | None = None
        self._next_timing: CoreTiming | None = None
        self._timing_values: tuple[Any, ...] = ()  # what the C struct points to
        self._handle = ffi.new_handle(self)
        self._buffer = ffi.from_buffer("uint8_t[]", memory.map, require_writable=True)
        problem = ffi.new("const char **")
        cpu = lib.sc_open(self._buffer, memory.bounds, code_map(memory).map, self._handle, problem)
        if cpu == ffi.NULL:
            what = ffi.string(problem[0]).decode()
            raise RuntimeError(
                f"the CPU engine is not the one this version was made for ({what}); build it anew: make clean setup"
            )
        self._cpu = ffi.gc(cpu, lib.sc_close)
        self.shared = lib.sc_shared(self._cpu)
        self.gpr = _words(self.shared.gpr)
        self.vmcs = _words(self.shared.vmcs)
        self.clock = _words(ffi.addressof(self.shared, "clock_cycles"))

    def set_timing(self, timing: CoreTiming, core: int) -> None:
        """Time what runs from now on by `timing`, as core number `core` of the machine.

        While the core runs (from a callback) it stops at the next instruction, and the next `run` begins with it.
        """
        if self._is_running:
            self._next_timing = timing
            self.stop()
        elif timing is not self._timing:
            self._timing = timing
            self._timing_values = _timing_values(timing)
            lib.sc_set_timing(self._cpu, self._timing_values[0])
        if core != self._core:
            self._core = core
            lib.sc_set_core(self._cpu, core)

    def run(self, deadline_cycles: int) -> None:
        """Run until the core's clock reaches `deadline_cycles`, it halts or shuts down, or `stop()` was called.

        Raises what a callback raised, or GuestError when the engine itself cannot go on.
        """
        if self._next_timing is not None:
            self.set_timing(self._next_timing, self._core)
            self._next_timing = None
        self._is_running = True
        try:
            status = lib.sc_run(self._cpu, deadline_cycles)
        finally:
            self._is_running = False
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if status:
            raise GuestError(f"the CPU engine stopped with error {status}")

    def stop(self) -> None:
        """From a callback: return from `run` before the next instruction. (`on_exit` returns LEAVE for that.)"""
        self.shared.stop_request = 1

    def read_linear(self, linear: int, length_bytes: int) -> bytes:
        """Memory at a linear address as the core sees it now; shorter when a page is not mapped."""
        buffer = ffi.new("uint8_t[]", length_bytes)
        done = lib.sc_read_linear(self._cpu, linear & (1 << 64) - 1, buffer, length_bytes)
        return bytes(ffi.buffer(buffer, done))

    def code_at_rip(self) -> bytes:
        """The instruction bytes (15 at most) at RIP, during a VM exit: those the core was executing."""
        buffer = ffi.new("uint8_t[15]")
        done = lib.sc_code_at_rip(self._cpu, buffer)
        return bytes(ffi.buffer(buffer, done))

    def watch_instructions(self, spans: Sequence[tuple[int, int]]) -> None:
        """Call `on_instruction` before each instruction at a linear address within one of `spans` (first, last).

        They replace those of before. In the call `gpr`, `vmcs` and CR2 show the CPU before the instruction; what is
        written there is lost. Watching changes nothing else, and takes time of the workstation only for blocks of
        instructions that have such an address. Raises ValueError beyond SPANS_MAX.
        """
        words = ffi.new("uint64_t[]", [address for span in sorted(spans) for address in span])
        if not lib.sc_watch_instructions(self._cpu, words, len(spans)):
            raise ValueError(f"{len(spans)} spans are too many")

    def watch_places(self, places: Sequence[tuple[int, int, bool]], known: Any = None) -> None:
        """Call `on_instruction` before the instruction behind one that has accessed or changed a place in memory.

        Places are (hpa, bytes, whether accesses are told, or changes only), and replace those of before. `known` is a
        buffer with what is known to be there, one place behind the other: as long as something else is there, all
        instructions are told. While there are places all code runs slowly; nothing else changes. Raises ValueError
        beyond PLACES_MAX.
        """
        words = ffi.new("uint64_t[]", [int(word) for place in places for word in place])
        buffer = ffi.NULL if known is None else ffi.from_buffer("uint8_t[]", known)
        if not lib.sc_watch_places(self._cpu, words, len(places), buffer):
            raise ValueError(f"{len(places)} places are too many, or have no memory")
        self._known_places = buffer  # C reads it

    def noted_accesses(self) -> tuple[int, list[tuple[int, int, bool, int]]]:
        """Where the last instruction stands, and the accesses to places since the last call.

        Each is (hpa, bytes, is a store, linear address of the instruction).
        """
        words = ffi.new("uint64_t[65]")
        count = lib.sc_noted_accesses(self._cpu, words)
        rows = [[int(words[4 * at + number]) for number in range(1, 5)] for at in range(count)]
        return int(words[0]), [(hpa, length, bool(is_store), pc) for hpa, length, is_store, pc in rows]

    def keep_edits(self) -> None:
        """From `on_instruction`: what has been written to `gpr`, `vmcs` and CR2 stays; the instruction is told anew."""
        lib.sc_keep_edits(self._cpu)

    def rdmsr(self, index: int) -> int | None:
        """What RDMSR of the core does, with its checks; None: #GP."""
        value = ffi.new("uint64_t *")
        return int(value[0]) if lib.sc_rdmsr(self._cpu, index, value) else None

    def wrmsr(self, index: int, value: int) -> bool:
        """What WRMSR of the core does, with its checks; False: #GP."""
        return bool(lib.sc_wrmsr(self._cpu, index, value))

    def save(self) -> bytes:
        """All that the CPU's next instructions and their time depend on. Not while it runs."""
        saved = ffi.new("uint8_t[]", lib.sc_saved_bytes(self._cpu))
        lib.sc_save(self._cpu, saved)
        return bytes(ffi.buffer(saved))

    def restore(self, saved: bytes) -> None:
        """Be the CPU that `saved` is of; not after having run. Raises ValueError when it is of none."""
        if not lib.sc_restore(self._cpu, saved, len(saved)):
            raise ValueError("these are not the bytes of a CPU")

    def invept(self) -> None:
        """Forget what was cached from the extended page tables."""
        lib.sc_invept(self._cpu)

    @property
    def cached_bytes(self) -> int:
        """How much memory it has for translations and the like, about."""
        return int(lib.sc_cached_bytes(self._cpu))

    def rest(self) -> None:
        """Give that back: it comes again as it is needed, and no cycle depends on it. Not while it runs."""
        if not lib.sc_rest(self._cpu):
            raise RuntimeError("the CPU engine cannot be opened again")

    def close(self) -> None:
        """Give the engine's memory back now rather than when collected."""
        ffi.release(self._cpu)


WORDS = (
    "cr2", "dr6", "clock_cycles", "instructions", "tsc_base", "interrupt_pending", "nmi_pending", "shutdown",
)  # fmt: skip


def saved_words(saved: bytes) -> dict[str, int]:
    """Registers, VMCS fields and the clock of a CPU by name, in the bytes of `Engine.save`. Raises ValueError."""
    if len(saved) < ffi.sizeof("sc_cpu_shared"):
        raise ValueError("these are not the bytes of a CPU")
    buffer = ffi.from_buffer("uint8_t[]", saved)
    shared = ffi.cast("sc_cpu_shared *", buffer)
    words = {name: int(getattr(shared, name)) for name in WORDS}
    words |= {name: int(shared.gpr[number]) for number, name in enumerate(GPR_NAMES) if number != RSP}
    return words | {field.name: int(shared.vmcs[slot]) for slot, field in enumerate(FIELDS)}


def _keep_error(_kind: object, error: BaseException, traceback: object) -> None:
    """Called by cffi when a callback raised: keep it for `run`, and stop the core."""
    frame = traceback.tb_frame if traceback is not None else None  # type: ignore[attr-defined]
    engine = frame.f_locals.get("engine") if frame is not None else None
    if isinstance(engine, Engine):
        engine.error = error.with_traceback(traceback)  # type: ignore[arg-type]
        engine.stop()


@ffi.def_extern(onerror=_keep_error, error=LEAVE)
def python_on_exit(python: object) -> int:
    """A VM exit took place: the VMCS slots hold it."""
    engine: Engine = ffi.from_handle(python)
    assert engine.on_exit is not None
    return engine.on_exit()


@ffi.def_extern(onerror=_keep_error)
def python_on_instruction(python: object) -> None:
    """An instruction that is watched is about to run."""
    engine: Engine = ffi.from_handle(python)
    assert engine.on_instruction is not None
    engine.on_instruction()


@ffi.def_extern(onerror=_keep_error, error=0)
def python_on_platform(python: object, operation: int, number: int, argument: int, values: Any) -> int:
    """The core asks its platform: see operations.py."""
    engine: Engine = ffi.from_handle(python)
    return ANSWERS[operation](engine, number, argument, values)
