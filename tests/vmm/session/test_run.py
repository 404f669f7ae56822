"""Claims about running a guest: how it ends, with which status, at which cycle."""

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emulator.errors import GuestError
from emulator.ledger import Category
from tests.vmm.session import tiny_kernels as tiny
from vmm.outcome import EndKind
from vmm.session import console as console_module
from vmm.session import plan as boot_plan
from vmm.session.console import Console
from vmm.session.guest import Guest
from vmm.session.native import NativeGuest
from vmm.session.plan import plan
from vmm.session.run import RunResult, run
from vmm.session.spec import GuestSpec, HostSpec, Limits, specs_of

MAX_CYCLES = 100_000_000


def run_code(folder: Path, code: bytes, **changes: object) -> tuple[RunResult, bytes]:
    """Run a tiny kernel natively; its result and what it printed."""
    values = {"memory_bytes": 16 << 20, "paging": "native", "max_cycles": MAX_CYCLES, "allow_input": False}
    host, guest, limits, outside = specs_of({"kernel": tiny.write_kernel(folder, code), **values, **changes})
    until = limits.until.encode() if limits.until else None
    with tempfile.TemporaryFile() as output:
        with Console(until=until, allow_input=False, stdout_fd=output.fileno()) as console:
            result = run(plan(host, guest, limits, outside), console)
        output.seek(0)
        return result, output.read()


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        (tiny.debug_exit(0), EndKind.DEBUG_EXIT, 0),
        (tiny.debug_exit(1), EndKind.DEBUG_EXIT, 3),
        (tiny.debug_exit(21), EndKind.DEBUG_EXIT, 43),
        (tiny.debug_exit(128), EndKind.DEBUG_EXIT, 1),  # 8 bits are all an exit status has
        (tiny.TRIPLE_FAULT, EndKind.TRIPLE_FAULT, 6),
        (tiny.HALT, EndKind.HALTED, 8),
        (tiny.SLEEP, EndKind.HALTED, 8),  # no timer runs: nothing will ever wake it
        (tiny.RESET, EndKind.RESET, 0),
        (tiny.HANG, EndKind.LIMIT, 3),
    ],
)
def test_each_end_has_its_status(tmp_path: Path, code: bytes, kind: EndKind, status: int) -> None:
    result, _ = run_code(tmp_path, code)
    assert result.end.kind is kind
    assert result.status == status
    assert bool(result.report) == (kind not in (EndKind.DEBUG_EXIT, EndKind.RESET))


def test_the_cycle_limit_is_met_exactly_by_instructions_of_one_cycle(tmp_path: Path) -> None:
    result, _ = run_code(tmp_path, tiny.HANG, max_cycles=1234, timing="flat")
    assert result.stats["cycles"] == result.stats["instructions"] == 1234


def test_the_time_limit_ends_a_guest_that_hangs(tmp_path: Path) -> None:
    result, _ = run_code(tmp_path, tiny.HANG, max_cycles=None, max_seconds=0.01, slice_cycles=1_000_000)
    assert result.end.kind is EndKind.LIMIT
    assert "--max-seconds 0.01" in str(result.end)


def test_the_run_ends_at_the_byte_that_completes_the_text(tmp_path: Path) -> None:
    result, output = run_code(tmp_path, tiny.say(b"abcabdxyz") + tiny.HANG, until="abd")
    assert (result.end.kind, result.end.exit_status) == (EndKind.UNTIL, 0)
    assert output == b"abcabd"
    assert result.stats["instructions"] == 1 + 2 * 6


@pytest.mark.parametrize("slice_cycles", [1, 7, 1000, 10**9])
def test_how_a_run_is_cut_into_slices_changes_nothing(tmp_path: Path, slice_cycles: int) -> None:
    code = tiny.say(b"one two three") + tiny.debug_exit(5)
    whole, whole_output = run_code(tmp_path, code)
    cut, cut_output = run_code(tmp_path, code, slice_cycles=slice_cycles)
    assert cut_output == whole_output == b"one two three"
    assert cut.end == whole.end
    assert {**cut.stats, "host_seconds": 0} == {**whole.stats, "host_seconds": 0}


def test_the_ledger_adds_up_to_the_clock(tmp_path: Path) -> None:
    stats = run_code(tmp_path, tiny.say(b"text") + tiny.HALT)[0].stats
    assert sum(stats["ledger"]["pcpu0"].values()) == stats["cycles"]
    assert stats["guest_seconds"] == stats["cycles"] / stats["frequency_hz"]


@contextmanager
def handler_of(number: signal.Signals, handler: signal.Handlers) -> Iterator[None]:
    """Whatever the tests were started with, as by nohup."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def run_and_kill(folder: Path, number: signal.Signals) -> tuple[RunResult, bytes]:
    """A guest that hangs, and after its first slice gets a signal; and another limit, for signals that do nothing."""
    host, guest, limits, outside = specs_of(
        {"kernel": tiny.write_kernel(folder, tiny.say(b"begun") + tiny.HANG), "memory_bytes": 16 << 20,
         "paging": "native", "max_cycles": 3_000_000, "slice_cycles": 1_000_000}
    )  # fmt: skip
    with tempfile.TemporaryFile() as output:
        with Console(allow_input=False, stdout_fd=output.fileno()) as console:
            result = run(plan(host, guest, limits, outside), console, lambda _: os.kill(os.getpid(), number))
        output.seek(0)
        return result, output.read()


@pytest.mark.parametrize(
    ("number", "name", "status"),
    [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143), (signal.SIGHUP, "SIGHUP", 129)],
)
def test_a_signal_ends_the_run_in_order(tmp_path: Path, number: signal.Signals, name: str, status: int) -> None:
    with handler_of(number, signal.SIG_DFL):
        result, output = run_and_kill(tmp_path, number)
        assert signal.getsignal(number) == signal.SIG_DFL
    assert (str(result.end), result.status) == (f"stopped by the user: {name}", status)
    assert output == b"begun"
    assert 1_000_000 <= result.stats["cycles"] < 3_000_000
    assert result.report.startswith("cpu 0 at ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path, number: signal.Signals) -> None:
    with handler_of(number, signal.SIG_IGN):
        result, _ = run_and_kill(tmp_path, number)
        assert signal.getsignal(number) == signal.SIG_IGN
    assert result.end.kind is EndKind.LIMIT


def test_a_guest_error_comes_with_the_guests_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = NativeGuest.advance

    def fail_later(guest: NativeGuest, limit_cycles: int) -> None:
        advance(guest, 3)  # as many instructions
        raise GuestError("no model of this")

    monkeypatch.setattr(NativeGuest, "advance", fail_later)
    result, output = run_code(tmp_path, tiny.say(b"hi") + tiny.debug_exit(0))
    assert (result.end.kind, result.end.exit_status) == (EndKind.GUEST_ERROR, 4)
    assert str(result.end) == "guest error: no model of this"
    assert output == b"h"
    lines = result.report.splitlines()
    assert lines[0] == f"cpu 0 at {tiny.ENTRY + 7:#x}, ring 0, 64 bits, cycle {result.stats['cycles']:,}"
    assert "rax 0000000000000068  rcx 0000000000000000  rdx 00000000000003f8" in lines
    assert f"=> {tiny.ENTRY + 7:#x}: b0 69                    mov al, 0x69" in lines
    assert f"   {tiny.ENTRY + 6:#x}: ee                       out dx, al" in lines


def test_a_report_without_code_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(guest: NativeGuest, limit_cycles: int) -> None:
        guest.vmcs.write(0x681E, 1 << 40)  # GUEST_RIP, beyond the identity map
        raise GuestError("lost")

    monkeypatch.setattr(NativeGuest, "advance", fail)
    result, _ = run_code(tmp_path, tiny.HANG)
    assert "no code is mapped there" in result.report.splitlines()


class TypingConsole(Console):
    """A console at which somebody types as soon as the run polls."""

    def __init__(self, keys: bytes) -> None:
        super().__init__(allow_input=False, stdout_fd=os.open(os.devnull, os.O_WRONLY))
        self.is_interactive = True
        self.keys = keys
        self.timeouts: list[float] = []

    def poll(self, timeout_seconds: float) -> bytes:
        self.timeouts.append(timeout_seconds)
        keys, self.keys = self.keys, b""
        return keys

    def __enter__(self) -> "TypingConsole":
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        os.close(self._stdout_fd)


# mov $0x3fd, %dx; 1: in %dx, %al; test $1, %al; jz 1b; mov $0xf8, %dl; in %dx, %al; out %al, $0xf4
ECHO_TO_DEBUG_EXIT = bytes.fromhex("66bafd03 ec a801 74fb b2f8 ec e6f4 ebfe")


def test_typed_keys_reach_the_guest_between_slices(tmp_path: Path) -> None:
    kernel = tiny.write_kernel(tmp_path, ECHO_TO_DEBUG_EXIT)
    with TypingConsole(b"\x2a") as console:
        result = run(
            plan(
                HostSpec(paging="native"), GuestSpec(kernel=kernel, memory_bytes=16 << 20), Limits(slice_cycles=100_000)
            ),
            console,
        )
    assert result.end.value == 0x2A
    assert console.timeouts == [0.0]  # a guest that is busy is not slowed down


def test_an_interactive_guest_that_nothing_will_wake_waits_for_keys(tmp_path: Path) -> None:
    kernel = tiny.write_kernel(tmp_path, tiny.SLEEP)
    with TypingConsole(b"") as console:
        result = run(
            plan(HostSpec(paging="native"), GuestSpec(kernel=kernel, memory_bytes=16 << 20), Limits(max_seconds=0.05)),
            console,
        )
    assert result.end.kind is EndKind.LIMIT
    assert console.timeouts
    assert min(console.timeouts) > 0


def test_idle_time_of_an_interactive_guest_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def idle(guest: NativeGuest, limit_cycles: int) -> None:
        guest.pcpu.waiting.wait(Category.IDLE)
        guest.pcpu.waiting.pass_time(limit_cycles)

    monkeypatch.setattr(NativeGuest, "advance", idle)
    kernel = tiny.write_kernel(tmp_path, tiny.SLEEP)
    slice_cycles = 300_000_000  # 0.1 s at 3 GHz
    with TypingConsole(b"") as console:
        run(
            plan(
                HostSpec(paging="native"),
                GuestSpec(kernel=kernel, memory_bytes=16 << 20),
                Limits(slice_cycles=slice_cycles, max_cycles=3 * slice_cycles),
            ),
            console,
        )
    assert len(console.timeouts) == 2
    assert all(0.05 < seconds <= 0.1 for seconds in console.timeouts)


def test_a_trace_says_what_it_is_of_and_how_much_of_it(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    result, _ = run_code(tmp_path, tiny.debug_exit(0), trace_path=path, paging="ept")
    first, *records, last = map(json.loads, path.read_text().splitlines())
    assert (first["trace"], first["paging"], first["frequency_hz"]) == ("sidecore", "ept", 3_000_000_000)
    assert last == {"records": len(records), "dropped": 0}
    assert len(records) == sum(row["count"] for row in result.stats["exits"].values())


def test_options_with_a_named_guest_add_to_its_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guest_images.images import Image

    kernel = tiny.write_kernel(tmp_path, tiny.HALT)
    image = Image("x", "", "linux", "user", kernel, append="console=ttyS0")
    monkeypatch.setattr(boot_plan, "resolve", lambda name, progress: image)
    made = plan(guest=GuestSpec(image="x", append="quiet", memory_bytes=16 << 20))
    assert any(data.startswith(b"console=ttyS0 quiet\0") for _, data in made.guest.image.segments)


def test_a_slice_callback_sees_the_guest(tmp_path: Path) -> None:
    seen: list[int] = []

    def note(guest: Guest) -> None:
        seen.append(guest.pcpu.clock.cycles)

    kernel = tiny.write_kernel(tmp_path, tiny.HANG)
    limits = Limits(max_cycles=3000, slice_cycles=1000)
    with Console(allow_input=False) as console:
        run(plan(HostSpec(paging="native"), GuestSpec(kernel=kernel, memory_bytes=16 << 20), limits), console, note)
    assert seen == [1000, 2000, 3000]


def test_a_guest_that_prints_for_ever_is_ended_at_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "OUTPUT_MAX_BYTES", 5000)
    result, output = run_code(tmp_path, tiny.say_for_ever(ord("x")))
    assert result.end.kind is EndKind.LIMIT
    assert result.end.exit_status == 3
    assert output == b"x" * 5000
