"""Boots a guest and runs it to its end: from options to a result, everything between once.

    BootOptions --plan()--> BootPlan --run()--> RunResult(end, stats, report)
                 every mistake of the user's    | build_guest: machine, domain, native core or VMM
                 is found here                  | loop: advance one slice, look at console, limits and signals

How a run is cut into slices, and how fast the workstation is, has no influence on the guest: what the outside sends
(keys) arrives between slices, and only that is not reproducible.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

from devices.board import PCI_DEVICES, PCI_DEVICES_MAX
from emulator.errors import ConfigError, GuestError, choices_text
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.profile import DEFAULT_PROFILE, Profile, load_profile
from emulator.timing.allowances import (
    DEFAULT_WORKLOAD,
    LINUX_WORKLOAD,
    NO_ALLOWANCE,
    WORKLOADS,
    Allowance,
    allowance_for,
)
from emulator.timing.core_timing import DEFAULT_FIDELITY, Fidelity
from guest_images.cache import ignore_progress
from guest_images.images import resolve
from vmm.console import POLL_MAX_SECONDS, Console, StopReason
from vmm.guest import Guest
from vmm.guest_report import guest_report
from vmm.loaders import BootImage, BootProtocol, load
from vmm.loaders.memory_size import size_text
from vmm.native import NativeGuest
from vmm.outcome import End, EndKind
from vmm.report import RunStats, check_writable
from vmm.save_point import SaveOptions, SavePoint
from vmm.sidecore.policy import Policy, named_policy
from vmm.sidecore.service import POLLS, Poll
from vmm.trace import ExitTrace, TraceWriter

if TYPE_CHECKING:
    from vmm.explain import Recorder, Request
    from vmm.snapshot import SaveableGuest, Snapshot

Paging = Literal["shadow", "ept", "native"]
PAGING_MODES: tuple[Paging, ...] = ("shadow", "ept", "native")
DEFAULT_GUEST = "default"
DEFAULT_MEMORY_BYTES = 256 << 20
PROCESSORS_MAX = 64
END_OF_STOP = {StopReason.UNTIL: EndKind.UNTIL, StopReason.OUTPUT_LIMIT: EndKind.LIMIT}
SLICE_CYCLES = 50_000_000  # natively about 0.3 s of a workstation, at most: how late a key or a limit is seen


@dataclass(frozen=True)
class BootOptions:
    """What the user asked for; nothing is checked yet. Either `image` or `kernel` names the guest."""

    image: str | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    modules: tuple[str, ...] = ()  # each a file and its arguments
    protocol: BootProtocol | None = None  # for kernels that know several
    append: str = ""  # behind a named image's own command line
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    paging: Paging = "shadow"
    has_sidecore: bool = False  # on a core of its own
    poll: Poll = "spin"  # how the sidecore waits
    sidecore_policy: str | None = None  # its core runs guests too, by this policy: see vmm/sidecore/policy.py
    switch_sidecore: tuple[str, ...] = ()  # CYCLE:on or CYCLE:off
    jumps_spins: bool = True
    vcpu_count: int = 1
    pcpu_count: int | None = None  # None: one for each vCPU
    devices: tuple[str, ...] = ()  # on the PCI bus, beside what the board has: names from devices.board.PCI_DEVICES
    profile: str = DEFAULT_PROFILE
    overrides: tuple[str, ...] = ()  # of the profile's values: section.key=value
    timing: Fidelity = DEFAULT_FIDELITY
    workload: str | None = None  # whose allowance `fast` takes; None: by the kind of kernel
    until: str | None = None  # end when the guest has printed this
    max_seconds: float | None = None  # of the workstation
    max_cycles: int | None = None  # of the emulated core
    stats_path: Path | None = None
    trace_path: Path | None = None
    explain: str | None = None  # REASON or REASON:n, the VM exit of which the account is wanted
    save: SaveOptions | None = None
    restore_path: Path | None = None  # go on from this snapshot, which says what the guest is
    allow_input: bool = True
    slice_cycles: int = SLICE_CYCLES


@dataclass(frozen=True)
class BootPlan:
    """Options that are possible, with the files and the profile they name."""

    options: BootOptions
    image: BootImage
    profile: Profile
    allowance: Allowance
    explain: "Request | None" = None
    policy: Policy | None = None
    switches: tuple[tuple[int, bool], ...] = ()
    snapshot: "Snapshot | None" = None  # that the guest begins with


@dataclass(frozen=True)
class RunResult:
    """How a run ended, what it cost, and, after a guest error, the guest's state for people."""

    end: End
    stats: RunStats
    report: str = ""
    recorder: "Recorder | None" = None  # has the exit to explain, if there was one


def plan(options: BootOptions, progress: Callable[[str], None] = ignore_progress) -> BootPlan:
    """Check everything the user gave and read the files. Raises ConfigError; leaves nothing behind."""
    _check_save(options)
    if options.restore_path is not None:
        return _plan_restored(options, options.restore_path)
    if options.image is not None and options.kernel is not None:
        raise ConfigError(f"both guest {options.image!r} and --kernel were given; leave one out")
    for option, value in (
        ("--initrd", options.initrd),
        ("--module", options.modules),
        ("--protocol", options.protocol),
    ):
        if value and options.kernel is None:
            raise ConfigError(f"{option} needs --kernel; name the kernel it belongs to")
    _check_limits(options)
    _check_sidecore(options)
    _check_devices(options)
    policy = None if options.sidecore_policy is None else named_policy(options.sidecore_policy)
    switches = tuple(map(_switch, options.switch_sidecore))
    options = replace(options, pcpu_count=_check_processors(options))
    if options.workload is not None and options.workload not in WORKLOADS:
        raise ConfigError(f"no workload class {options.workload!r}; {choices_text(options.workload, list(WORKLOADS))}")
    profile = load_profile(options.profile, options.overrides)
    _check_outputs(options)
    if options.timing == "detailed":
        from emulator.timing.hierarchy import prepare_kernels

        prepare_kernels(lambda: progress("compiling the models of caches and TLBs, once (half a minute)"))
    request = _explain_request(options)
    if options.kernel is None:
        named = resolve(options.image or DEFAULT_GUEST, progress)
        append = " ".join(filter(None, (named.append, options.append)))
        options = replace(options, kernel=named.kernel, initrd=named.initrd, append=append)
    assert options.kernel is not None
    image = load(
        options.kernel,
        initrd=options.initrd,
        modules=options.modules,
        append=options.append,
        memory_bytes=options.memory_bytes,
        protocol=options.protocol,
    )
    return BootPlan(options, image, profile, _allowance(options, image, profile), request, policy, switches)


def _check_save(options: BootOptions) -> None:
    if options.save is not None:
        save_point = SavePoint(options.save)
        check_writable(save_point.path)
        if options.has_sidecore:
            raise ConfigError("--save: a guest with a sidecore cannot be saved; leave out --sidecore")
        if options.save.exit is not None and options.paging == "native":
            raise ConfigError("--save-at-exit: --paging native has no VM exits; choose shadow or ept")
    if options.explain is not None and (options.save is not None or options.restore_path is not None):
        raise ConfigError("--explain goes with neither --save nor --restore; leave one out")


def _plan_restored(options: BootOptions, path: Path) -> BootPlan:
    """The snapshot says what the guest is."""
    from vmm.snapshot import read_snapshot

    for name, value in (("a guest", options.image), ("--kernel", options.kernel)):
        if value is not None:
            raise ConfigError(f"--restore has its guest in the snapshot; leave out {name}")
    _check_limits(options)
    _check_outputs(options)
    snapshot = read_snapshot(path)
    return replace(snapshot.plan(options), snapshot=snapshot)


def _check_devices(options: BootOptions) -> None:
    for name in options.devices:
        if name not in PCI_DEVICES:
            raise ConfigError(f"no device {name!r}; {choices_text(name, list(PCI_DEVICES))}")
    if len(options.devices) > PCI_DEVICES_MAX:
        raise ConfigError(f"{len(options.devices)} devices are too many for the PCI bus; it takes {PCI_DEVICES_MAX}")


def _check_sidecore(options: BootOptions) -> None:
    if options.poll not in POLLS:
        raise ConfigError(f"no way to poll {options.poll!r}; {choices_text(options.poll, list(POLLS))}")
    if options.has_sidecore and options.paging == "native":
        raise ConfigError("--sidecore: --paging native has no VMM; choose shadow or ept")
    for option, value in (
        ("--sidecore-policy", options.sidecore_policy),
        ("--switch-sidecore", options.switch_sidecore),
    ):
        if value and not options.has_sidecore:
            raise ConfigError(f"{option} needs --sidecore")


def _switch(text: str) -> tuple[int, bool]:
    """What CYCLE:on says. Raises ConfigError."""
    cycles, _, state = text.partition(":")
    if not cycles.isdecimal() or not cycles.isascii() or state not in ("on", "off"):
        raise ConfigError(f"--switch-sidecore {text!r}: give CYCLE:on or CYCLE:off, as in 1000000:off")
    return int(cycles), state == "on"


def _explain_request(options: BootOptions) -> "Request | None":
    if options.explain is None:
        return None
    from vmm.explain import parse_request

    request = parse_request(options.explain)
    if options.paging == "native":
        raise ConfigError(f"--explain {options.explain}: --paging native has no VM exits; choose shadow or ept")
    return request


def _allowance(options: BootOptions, image: BootImage, profile: Profile) -> Allowance:
    """What memory costs on average in a run like this, when `fast`; nothing where none was fitted."""
    if options.timing != "fast":
        return NO_ALLOWANCE
    workload = options.workload or (options.image if options.image in WORKLOADS else None)
    workload = workload or (LINUX_WORKLOAD if image.is_linux else DEFAULT_WORKLOAD)
    return allowance_for(profile.name, workload, options.paging) or NO_ALLOWANCE


def _check_limits(options: BootOptions) -> None:
    for name, value in (("--max-seconds", options.max_seconds), ("--max-cycles", options.max_cycles)):
        if value is not None and not value > 0:
            raise ConfigError(f"{name} {value:g} is not possible; give a number above 0")
    if options.until == "":
        raise ConfigError("--until needs a text that is not empty")


def _check_processors(options: BootOptions) -> int:
    """How many cores the machine has."""
    pcpu_count = options.vcpu_count if options.pcpu_count is None else options.pcpu_count
    for name, value in (("--vcpus", options.vcpu_count), ("--pcpus", pcpu_count)):
        if not 1 <= value <= PROCESSORS_MAX:
            raise ConfigError(f"{name} {value} is not possible; give a number from 1 to {PROCESSORS_MAX}")
    if options.paging == "native" and options.vcpu_count != pcpu_count:
        raise ConfigError("a native guest has all cores of the machine: --vcpus and --pcpus have to be the same")
    return pcpu_count


def _check_outputs(options: BootOptions) -> None:
    paths = [path for path in (options.stats_path, options.trace_path) if path is not None]
    for path in paths:
        check_writable(path)
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(f"--stats and --trace both name {str(paths[0])!r}; give each its own file")


def build_guest(
    plan: BootPlan,
    transmit: Callable[[int], None],
    *,
    trace: ExitTrace | None = None,
    recorder: "Recorder | None" = None,
    memory_file: int | None = None,
) -> Guest:
    """A machine with the plan's guest loaded on it. Raises ConfigError when the workstation lacks the memory.

    `memory_file`: what the machine's memory begins with, see HostMemory.
    """
    memory_bytes, paging = plan.options.memory_bytes, plan.options.paging
    if paging == "native":
        machine = _build_machine(plan, memory_bytes, memory_file)
        return NativeGuest(
            machine, plan.image, memory_bytes=memory_bytes, transmit=transmit, devices=plan.options.devices
        )
    from vmm.explain import vcpu_maker
    from vmm.virtual_guest import VirtualGuest

    machine = _build_machine(plan, VirtualGuest.host_memory_bytes(memory_bytes), memory_file)
    return VirtualGuest(
        machine,
        plan.image,
        memory_bytes=memory_bytes,
        transmit=transmit,
        paging=paging,
        sidecore_count=int(plan.options.has_sidecore and plan.policy is None),
        poll=plan.options.poll,
        policy=plan.policy,
        switches=plan.switches,
        jumps_spins=plan.options.jumps_spins,
        vcpu_count=plan.options.vcpu_count,
        devices=plan.options.devices,
        trace=trace,
        make_vcpu=vcpu_maker(recorder),
    )


def _build_machine(plan: BootPlan, memory_bytes: int, memory_file: int | None) -> Machine:
    options = plan.options
    try:
        return Machine(
            plan.profile,
            memory_bytes=memory_bytes,
            pcpu_count=(options.pcpu_count or 1) + options.has_sidecore,
            timing=options.timing,
            allowance=plan.allowance,
            memory_file=memory_file,
        )
    except (OSError, ValueError, MemoryError):
        what = f"the emulated machine needs {size_text(memory_bytes)}, which the workstation does not give"
        raise ConfigError(f"{what}; choose a smaller --memory") from None


def run(plan: BootPlan, console: Console, on_slice: Callable[[Guest], None] = lambda guest: None) -> RunResult:
    """Run the plan's guest until it ends, with `console` as its serial line; `on_slice` is called now and then.

    `console` must have been entered. Raises ConfigError when a file cannot be written after all.
    """
    options = plan.options
    with ExitStack() as stack:
        trace = None
        if options.trace_path is not None:
            facts: dict[str, str | int] = {
                "frequency_hz": plan.profile.frequency_hz,
                "profile": plan.profile.name,
                "timing": options.timing,
                "paging": options.paging,
            }
            trace = stack.enter_context(TraceWriter(options.trace_path, facts))
        recorder = _recorder(plan)
        save_point = SavePoint(options.save) if options.save is not None else None

        def transmit(byte: int) -> None:
            _transmit(guest, console, byte)
            if save_point is not None:
                save_point.transmit(byte)

        watch: ExitTrace | None = trace if save_point is None else save_point.watch(trace)
        guest, saveable = _begin(plan, console, transmit, watch, recorder)
        if save_point is not None:
            save_point.pause = guest.pause
        stack.enter_context(_interruptible(guest))
        started = time.perf_counter()
        report = ""
        try:
            while guest.domain.end is None:
                _loop(guest, console, options, on_slice, save_point)
                if saveable is not None and save_point is not None and guest.domain.end is None:
                    _save(saveable, console, save_point)
        except GuestError as error:
            guest.domain.finish(End(EndKind.GUEST_ERROR, detail=str(error)))
            report = guest_report(guest)
        console.flush()
        assert guest.domain.end is not None
        return RunResult(guest.domain.end, collect_stats(guest, time.perf_counter() - started), report, recorder)


def _begin(
    plan: BootPlan, console: Console, transmit: Callable[[int], None], trace: ExitTrace | None,
    recorder: "Recorder | None",
) -> "tuple[Guest, SaveableGuest | None]":  # fmt: skip
    """The guest, from its image or from a snapshot, and with what can save it where that is wanted."""
    if plan.snapshot is not None:
        saveable = plan.snapshot.clone(transmit, trace=trace, options=plan.options)
        console.resume(plan.snapshot.console_tail)
        return saveable.guest, saveable
    if plan.options.save is None:
        return build_guest(plan, transmit, trace=trace, recorder=recorder), None
    from vmm.snapshot import SaveableGuest

    saveable = SaveableGuest.build(plan, transmit, trace=trace)
    return saveable.guest, saveable


def _save(saveable: "SaveableGuest", console: Console, save_point: SavePoint) -> None:
    """Write the snapshot, and end the run."""
    from vmm.snapshot import write_snapshot

    console.flush()
    write_snapshot(saveable.snapshot(console_tail=console.tail), save_point.path)
    saveable.guest.domain.finish(End(EndKind.SAVED, detail=str(save_point.path)))


def _recorder(plan: BootPlan) -> "Recorder | None":
    if plan.explain is None:
        return None
    from vmm.explain import Recorder

    return Recorder(plan.explain, plan.profile)


def collect_stats(guest: Guest, host_seconds: float) -> RunStats:
    """What the run cost so far; all but `host_seconds` is the same in every run with the same input."""
    pcpus = guest.machine.pcpus
    ledgers = {f"pcpu{pcpu.number}": pcpu.book() for pcpu in pcpus}
    cycles, frequency_hz = guest.pcpu.clock_cycles, guest.machine.profile.frequency_hz
    return {
        "cycles": cycles,
        "instructions": sum(pcpu.instructions for pcpu in pcpus),
        "guest_seconds": cycles / frequency_hz,
        "host_seconds": host_seconds,
        "frequency_hz": frequency_hz,
        "exits": guest.exit_statistics(),
        "ledger": {name: ledger.by_label() for name, ledger in ledgers.items()},
        "accounts": {name: ledger.by_owner() for name, ledger in ledgers.items()},
    }


def _transmit(guest: Guest, console: Console, byte: int) -> None:
    """The guest sent `byte`: after the byte that completes the awaited text it sends no other."""
    if guest.domain.end is None:
        console.transmit(byte)
        _heed_console(guest, console)


def _heed_console(guest: Guest, console: Console) -> None:
    """End the run if the console wants it to."""
    if console.stop_reason is not None:
        kind = END_OF_STOP.get(console.stop_reason, EndKind.QUIT)
        guest.domain.finish(End(kind, detail="" if kind is EndKind.UNTIL else console.stop_reason.value))


def _loop(
    guest: Guest, console: Console, options: BootOptions, on_slice: Callable[[Guest], None],
    save_point: SavePoint | None,
) -> None:  # fmt: skip
    """Advance slice by slice, to the end or to where it is saved; between slices look at the outside world."""
    started = time.perf_counter()
    while guest.domain.end is None:
        slice_started, idle_before = time.perf_counter(), _idle_cycles(guest)
        limit_cycles = guest.pcpu.clock_cycles + options.slice_cycles
        if options.max_cycles is not None:
            limit_cycles = min(limit_cycles, options.max_cycles)
        save_at_cycle = None if save_point is None else save_point.cycle
        if save_at_cycle is not None:
            limit_cycles = min(limit_cycles, save_at_cycle)
        guest.advance(limit_cycles)
        if guest.domain.end is not None or (save_point is not None and save_point.is_reached):
            return
        if save_at_cycle is not None and guest.pcpu.clock_cycles >= save_at_cycle:
            return
        now, clock_cycles = time.perf_counter(), guest.pcpu.clock_cycles
        if options.max_cycles is not None and clock_cycles >= options.max_cycles:
            guest.domain.finish(End(EndKind.LIMIT, detail=f"--max-cycles {options.max_cycles}"))
        elif options.max_seconds is not None and now - started >= options.max_seconds:
            guest.domain.finish(End(EndKind.LIMIT, detail=f"--max-seconds {options.max_seconds:g}"))
        elif clock_cycles < limit_cycles and not console.is_interactive:
            guest.domain.finish(End(EndKind.SHUTDOWN, detail="halted, and nothing is left that could wake it"))
        elif clock_cycles < limit_cycles:
            _take_input(guest, console, POLL_MAX_SECONDS)
        else:
            idle_seconds = (_idle_cycles(guest) - idle_before) / guest.machine.profile.frequency_hz
            _take_input(guest, console, idle_seconds - (now - slice_started))
        on_slice(guest)


def _idle_cycles(guest: Guest) -> int:
    return guest.pcpu.ledger.cycles[Category.IDLE]


def _take_input(guest: Guest, console: Console, timeout_seconds: float) -> None:
    """Give typed keys to the guest; what an interactive guest idles passes as real time, waiting for a key."""
    typed = console.poll(max(0.0, timeout_seconds))
    _heed_console(guest, console)
    if typed:
        guest.run_timers()
        guest.domain.board.uart.receive(typed)


@contextmanager
def _interruptible(guest: Guest) -> Iterator[None]:
    """While the guest runs, the first Ctrl-C ends it in order; the second is a KeyboardInterrupt."""

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        guest.domain.finish(End(EndKind.QUIT, detail="Ctrl-C"))

    if threading.current_thread() is not threading.main_thread():  # nobody else may set handlers
        yield
        return
    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
