"""Boots a guest and runs it to its end: from specs to a result, everything between once.

    specs --plan()--> BootPlan --run()--> RunResult(end, stats, report)
            plan.py: finds every      | build_guest: machine, domain, native core or VMM
            mistake of the user's     | loop: advance one slice, look at console, limits and signals

How a run is cut into slices, and how fast the workstation is, has no influence on the guest: what the outside sends
(keys) arrives between slices, and only that is not reproducible.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from emulator.errors import GuestError
from emulator.ledger import Category
from vmm.exits.observer import ExitObserver
from vmm.outcome import End, EndKind
from vmm.session.boot_plan import BootPlan
from vmm.session.build import build_guest
from vmm.session.console import POLL_MAX_SECONDS, Console, StopReason
from vmm.session.ending import honest_end, is_as_wanted, run_status
from vmm.session.guest import Guest
from vmm.session.observe.pcap import Capture
from vmm.session.observe.save_point import SavePoint
from vmm.session.observe.timeline_trace import TimelineTrace
from vmm.session.observe.trace import CsvWriter, TraceWriter
from vmm.session.option_values import TraceStart
from vmm.session.plan import RestoredPlan
from vmm.session.spec import Limits
from vmm.session.stats import RunStats
from vmm.session.virtual_guest import VirtualGuest

if TYPE_CHECKING:
    from vmm.session.observe.explain import Recorder
    from vmm.session.snapshot import SaveableGuest

ENDING_SIGNALS: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
TRACES: dict[str, type[TraceWriter]] = {".csv": CsvWriter, ".json": TimelineTrace}
END_OF_STOP = {StopReason.UNTIL: EndKind.UNTIL, StopReason.OUTPUT_LIMIT: EndKind.LIMIT}


@dataclass(frozen=True)
class RunResult:
    """How a run ended, what it cost, and, unless the end was in order, the guest's state for people."""

    end: End
    stats: RunStats
    status: int  # of the command
    report: str = ""
    recorder: "Recorder | None" = None  # has the exit to explain, if there was one
    instructions_before: int = 0  # retired before this run, which went on from a snapshot


def run(plan: BootPlan, console: Console, on_slice: Callable[[Guest], None] = lambda guest: None) -> RunResult:
    """Run the plan's guest until it ends, with `console` as its serial line; `on_slice` is called now and then.

    `console` must have been entered. Raises ConfigError when a file cannot be written after all.
    """
    outside = plan.outside
    with ExitStack() as stack:
        trace = None if outside.trace_path is None else stack.enter_context(_trace(plan, outside.trace_path))
        recorder = _recorder(plan)
        save_point = SavePoint(outside) if outside.is_saved else None

        def transmit(byte: int) -> None:
            _transmit(guest, console, byte)
            if save_point is not None:
                save_point.transmit(byte)

        observers = [observer for observer in (trace, recorder, save_point) if observer is not None]
        guest, saveable = _begin(plan, console, transmit, observers)
        if save_point is not None:
            save_point.pause = guest.pause
        if outside.pcap_path is not None:
            stack.enter_context(Capture(outside.pcap_path)).follow(guest.nic)
        if trace is not None and isinstance(guest, VirtualGuest):
            trace.follow(guest.hypervisor, guest.nic)
            stack.callback(trace.leave)
        stack.enter_context(_interruptible(guest))
        started = time.perf_counter()
        instructions_before = sum(pcpu.clock.instructions for pcpu in guest.machine.pcpus)
        try:
            while guest.end is None:
                _loop(guest, console, plan.limits, on_slice, save_point)
                if saveable is not None and save_point is not None and guest.end is None:
                    if trace is not None:
                        trace.leave()
                    _save(saveable, console, save_point)
        except GuestError as error:
            guest.finish(End(EndKind.GUEST_ERROR, detail=str(error)))
        console.flush()
        assert guest.end is not None
        stats = collect_stats(guest, time.perf_counter() - started)
        end = honest_end(guest.end, plan.limits, outside)
        report = "" if is_as_wanted(end, outside) else _report(guest, plan)
        return RunResult(end, stats, run_status(end, outside), report, recorder, instructions_before)


def _trace(plan: BootPlan, path: Path) -> TraceWriter:
    """The trace file, of the kind that its name says."""
    facts: dict[str, str | int] = {
        "frequency_hz": plan.host.profile.frequency_hz,
        "profile": plan.host.profile.name,
        "timing": plan.host.spec.timing,
        "paging": plan.host.spec.paging,
    }
    kind = TRACES.get(path.suffix, TraceWriter)
    return kind(path, facts, start=plan.outside.trace_from or TraceStart(), last=plan.outside.trace_last)


def _report(guest: Guest, plan: BootPlan) -> str:
    """The guest's state, with the symbols of its kernel's file; a snapshot has none."""
    from vmm.session.report.guest_report import guest_report  # a clean end needs none of this
    from vmm.session.symbols import symbols_of

    return guest_report(guest, symbols_of(plan.guest.spec.kernel))


def _begin(
    plan: BootPlan, console: Console, transmit: Callable[[int], None], observers: Sequence[ExitObserver]
) -> "tuple[Guest, SaveableGuest | None]":  # fmt: skip
    """The guest, from its image or from a snapshot, and with what can save it where that is wanted."""
    if isinstance(plan, RestoredPlan):
        from vmm.session.snapshot import SaveableGuest, console_tail

        snapshot, limits, outside = plan.snapshot, plan.limits, plan.outside
        saveable = SaveableGuest.clone(snapshot, transmit, observers=observers, limits=limits, outside=outside)
        console.resume(console_tail(snapshot))
        return saveable.guest, saveable
    if not plan.outside.is_saved:
        return build_guest(plan, transmit, observers=observers), None
    from vmm.session.snapshot import SaveableGuest

    saveable = SaveableGuest.build(plan, transmit, observers=observers)
    return saveable.guest, saveable


def _save(saveable: "SaveableGuest", console: Console, save_point: SavePoint) -> None:
    """Write the snapshot, and end the run."""
    from vmm.session.snapshot import write_snapshot

    console.flush()
    write_snapshot(saveable.snapshot(console_tail=console.tail), save_point.path)
    saveable.guest.finish(End(EndKind.SAVED, detail=str(save_point.path)))


def _recorder(plan: BootPlan) -> "Recorder | None":
    if plan.explain is None:
        return None
    from vmm.session.observe.explain import Recorder

    return Recorder(plan.explain, plan.host.profile)


def collect_stats(guest: Guest, host_seconds: float) -> RunStats:
    """What the run cost so far; all but `host_seconds` is the same in every run with the same input."""
    pcpus = guest.machine.pcpus
    ledgers = {f"pcpu{pcpu.number}": pcpu.clock.book() for pcpu in pcpus}
    cycles, frequency_hz = guest.pcpu.clock.cycles, guest.machine.profile.frequency_hz
    stats: RunStats = {
        "cycles": cycles,
        "instructions": sum(pcpu.clock.instructions for pcpu in pcpus),
        "guest_seconds": cycles / frequency_hz,
        "host_seconds": host_seconds,
        "frequency_hz": frequency_hz,
        "exits": guest.exit_statistics(),
        "ledger": {name: ledger.by_label() for name, ledger in ledgers.items()},
        "accounts": {name: ledger.by_owner() for name, ledger in ledgers.items()},
    }
    duty_changes, nic = guest.duty_changes(), guest.nic_stats()
    if duty_changes is not None:
        stats["duty_changes"] = duty_changes
    if nic is not None:
        stats["nic"] = nic
    return stats


def _transmit(guest: Guest, console: Console, byte: int) -> None:
    """The guest sent `byte`: after the byte that completes the awaited text it sends no other."""
    if guest.end is None:
        console.transmit(byte)
        _heed_console(guest, console)


def _heed_console(guest: Guest, console: Console) -> None:
    """End the run if the console wants it to."""
    if console.stop_reason is not None:
        kind = END_OF_STOP.get(console.stop_reason, EndKind.QUIT)
        detail = "" if kind is EndKind.UNTIL else console.stop_reason.value
        guest.finish(End(kind, console.signal_number, detail))


def _loop(
    guest: Guest, console: Console, limits: Limits, on_slice: Callable[[Guest], None],
    save_point: SavePoint | None,
) -> None:  # fmt: skip
    """Advance slice by slice, to the end or to where it is saved; between slices look at the outside world."""
    started = time.perf_counter()
    while guest.end is None:
        slice_started, idle_before = time.perf_counter(), _idle_cycles(guest)
        limit_cycles = guest.pcpu.clock.cycles + limits.slice_cycles
        if limits.max_cycles is not None:
            limit_cycles = min(limit_cycles, limits.max_cycles)
        save_at_cycle = None if save_point is None else save_point.cycle
        if save_at_cycle is not None:
            limit_cycles = min(limit_cycles, save_at_cycle)
        guest.advance(limit_cycles)
        if guest.end is not None or (save_point is not None and save_point.is_reached):
            return
        if save_at_cycle is not None and guest.pcpu.clock.cycles >= save_at_cycle:
            return
        now, clock_cycles = time.perf_counter(), guest.pcpu.clock.cycles
        if limits.max_cycles is not None and clock_cycles >= limits.max_cycles:
            guest.finish(End(EndKind.LIMIT, detail=f"--max-cycles {limits.max_cycles}"))
        elif limits.max_seconds is not None and now - started >= limits.max_seconds:
            guest.finish(End(EndKind.LIMIT, detail=f"--max-seconds {limits.max_seconds:g}"))
        elif clock_cycles < limit_cycles and not console.is_interactive:
            guest.finish(End(EndKind.HALTED, detail="nothing is left that could wake it"))
        elif clock_cycles < limit_cycles:
            _take_input(guest, console, POLL_MAX_SECONDS)
        else:
            idle_seconds = (_idle_cycles(guest) - idle_before) / guest.machine.profile.frequency_hz
            _take_input(guest, console, idle_seconds - (now - slice_started))
        on_slice(guest)


def _idle_cycles(guest: Guest) -> int:
    return guest.pcpu.clock.ledger.cycles[Category.IDLE]


def _take_input(guest: Guest, console: Console, timeout_seconds: float) -> None:
    """Give typed keys to the guest; what an interactive guest idles passes as real time, waiting for a key."""
    typed = console.poll(max(0.0, timeout_seconds))
    _heed_console(guest, console)
    if typed:
        guest.run_timers()
        guest.board.uart.receive(typed)


@contextmanager
def _interruptible(guest: Guest) -> Iterator[None]:
    """While the guest runs, the first signal of ENDING_SIGNALS ends it in order; another one does what it did before.

    What was ignored when we began stays ignored: `nohup`, and jobs of a shell without job control.
    """
    previous: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        before = previous[number]
        signal.signal(number, before)
        guest.finish(End(EndKind.QUIT, number, ENDING_SIGNALS[number]))
        if callable(before) and number != signal.SIGINT:
            before(number, frame)  # a terminal counts them

    if threading.current_thread() is not threading.main_thread():  # nobody else may set handlers
        yield
        return
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            previous[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
