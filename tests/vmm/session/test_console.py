"""Claims about the guest's console: output, waiting for output, keys, and the terminal afterwards."""

import os
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pexpect
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import ConfigError
from tests import ROOT
from vmm.session.console import POLL_MAX_SECONDS, TAIL_BYTES, Console, StopReason

pytestmark = pytest.mark.timeout(120)  # a key or byte that never comes must not stop the whole suite
LOCAL_FLAGS = 3  # in the list of tcgetattr


def send(console: Console, data: bytes) -> None:
    for byte in data:
        console.transmit(byte)


@contextmanager
def pipe_console(**options: object) -> Iterator[tuple[Console, int]]:
    """A console whose output is a pipe, and the pipe's reading end."""
    reader, writer = os.pipe()
    try:
        yield Console(stdin_fd=reader, stdout_fd=writer, **options), reader  # type: ignore[arg-type]
    finally:
        for fd in (reader, writer):
            os.close(fd)


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal: (the user's side, the program's side)."""
    user_fd, program_fd = os.openpty()
    try:
        yield user_fd, program_fd
    finally:
        os.close(program_fd)
        os.close(user_fd)


def is_raw(fd: int) -> bool:
    return not termios.tcgetattr(fd)[LOCAL_FLAGS] & (termios.ICANON | termios.ECHO | termios.ISIG)


def typed(console: Console, user_fd: int, keys: bytes) -> bytes:
    os.write(user_fd, keys)
    return console.poll(10)


# output ---------------------------------------------------------------------------------------------------------


def test_output_waits_for_a_newline() -> None:
    with pipe_console() as (console, reader):
        os.set_blocking(reader, False)
        send(console, b"abc")
        with pytest.raises(BlockingIOError):
            os.read(reader, 100)
        send(console, b"\n")
        assert os.read(reader, 100) == b"abc\n"


def test_output_without_a_newline_goes_out_at_4_kib_and_before_waiting() -> None:
    with pipe_console() as (console, reader):
        send(console, b"x" * 4097)
        assert os.read(reader, 9999) == b"x" * 4096
        assert console.poll(0) == b""
        assert os.read(reader, 9999) == b"x"


def test_leaving_the_console_shows_the_rest() -> None:
    with pipe_console() as (console, reader):
        with console:
            send(console, b"login: ")
        assert os.read(reader, 100) == b"login: "


def test_every_byte_value_passes_unchanged() -> None:
    with pipe_console() as (console, reader):
        send(console, bytes(range(256)))
        console.flush()
        assert os.read(reader, 999) == bytes(range(256))


def test_more_output_than_the_pipe_holds_is_all_written_even_when_the_pipe_does_not_block() -> None:
    with pipe_console() as (console, reader):
        os.set_blocking(console._stdout_fd, False)
        received = bytearray()

        def read_all() -> None:
            while len(received) < 300_000:
                received.extend(os.read(reader, 65536))

        thread = threading.Thread(target=read_all)
        thread.start()
        send(console, (b"y" * 99 + b"\n") * 3000)
        thread.join()
        assert received == (b"y" * 99 + b"\n") * 3000


def test_the_tail_is_bounded_and_keeps_the_newest() -> None:
    with Path(os.devnull).open("wb") as sink:
        console = Console(stdout_fd=sink.fileno(), allow_input=False)
        send(console, b"old\n" + b"-" * 3 * TAIL_BYTES + b"newest")
        assert len(console.tail) == TAIL_BYTES
        assert console.tail.endswith(b"-newest")
        assert len(console._tail) <= 2 * TAIL_BYTES + 4096


def test_a_closed_pipe_asks_for_a_stop_and_drops_the_rest() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with Console(stdout_fd=writer, allow_input=False) as console:
        send(console, b"lost\n")
        assert console.stop_reason is StopReason.OUTPUT_CLOSED
        send(console, b"lost too\n")
    os.close(writer)
    assert console.tail == b"lost\nlost too\n"


def test_a_full_disk_is_one_clear_line() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        console = Console(stdout_fd=full.fileno(), allow_input=False)
        with pytest.raises(ConfigError, match=r"^cannot write the guest's output: No space left on device$"):
            send(console, b"x\n")


# waiting for output ---------------------------------------------------------------------------------------------


def test_until_is_seen_at_its_last_byte_and_not_before() -> None:
    with pipe_console(until=b"login: ") as (console, _):
        send(console, b"Debian\nlogin:")
        assert not console.until_seen
        assert console.stop_reason is None
        send(console, b" ")
        assert console.until_seen
        assert console.stop_reason is StopReason.UNTIL


def test_until_is_seen_across_lines_and_flushes() -> None:
    with pipe_console(until=b"a\nb") as (console, _):
        send(console, b"a\n")
        console.flush()
        send(console, b"b")
        assert console.until_seen


@settings(deadline=None, derandomize=True)
@given(
    until=st.text("ab\n", min_size=1, max_size=4),
    chunks=st.lists(st.text("ab\n", max_size=6), max_size=12),
)
def test_until_is_seen_exactly_when_the_output_contains_it(until: str, chunks: list[str]) -> None:
    with Path(os.devnull).open("wb") as sink:
        console = Console(until=until.encode(), stdout_fd=sink.fileno(), allow_input=False)
        sent = ""
        for chunk in chunks:
            send(console, chunk.encode())
            console.flush()
            sent += chunk
            assert console.until_seen == (until in sent)


@pytest.mark.parametrize("until", [b"", b"x" * (TAIL_BYTES + 1)])
def test_an_until_that_cannot_match_is_refused(until: bytes) -> None:
    with pytest.raises(ConfigError, match="the output to wait for has"):
        Console(until=until)


# keys -----------------------------------------------------------------------------------------------------------


def test_keys_reach_the_guest_at_once_unechoed_control_keys_too() -> None:
    with terminal() as (user_fd, fd), Console(stdin_fd=fd, stdout_fd=fd) as console:
        assert is_raw(fd)
        assert typed(console, user_fd, b"l") == b"l"
        assert typed(console, user_fd, b"\x03\x1a\x13\x04\r\x1b[A") == b"\x03\x1a\x13\x04\r\x1b[A"
        os.set_blocking(user_fd, False)
        with pytest.raises(BlockingIOError):
            os.read(user_fd, 100)


def test_nothing_typed_gives_nothing() -> None:
    with terminal() as (_, fd), Console(stdin_fd=fd, stdout_fd=fd) as console:
        assert console.poll(0) == b""
        assert console.poll(0.01) == b""
        assert console.poll(POLL_MAX_SECONDS * 1000) == b""


def test_control_a_x_quits() -> None:
    with terminal() as (user_fd, fd), Console(stdin_fd=fd, stdout_fd=fd) as console:
        assert typed(console, user_fd, b"ls\x01x") == b"ls"
        assert console.stop_reason is StopReason.QUIT
        assert console.poll(10) == b""


def test_control_a_and_its_key_may_come_apart() -> None:
    with terminal() as (user_fd, fd), Console(stdin_fd=fd, stdout_fd=fd) as console:
        assert typed(console, user_fd, b"\x01") == b""
        assert typed(console, user_fd, b"Xx") == b"x"
        assert console.stop_reason is StopReason.QUIT


@pytest.mark.parametrize("keys", [b"1\x01a2", b"1\x01A2", b"1\x01\x012"])
def test_control_a_twice_or_control_a_a_sends_control_a(keys: bytes) -> None:
    with terminal() as (user_fd, fd), Console(stdin_fd=fd, stdout_fd=fd) as console:
        assert typed(console, user_fd, keys) == b"1\x012"
        assert console.stop_reason is None


@pytest.mark.parametrize("key", [b"h", b"H", b"?"])
def test_control_a_h_shows_help_which_is_not_guest_output(key: bytes) -> None:
    with terminal() as (user_fd, fd), Console(stdin_fd=fd, stdout_fd=fd, until=b"quit") as console:
        assert typed(console, user_fd, b"\x01" + key) == b""
        assert b"Ctrl-A X  quit" in os.read(user_fd, 999)
        assert not console.until_seen
        assert console.tail == b""


def test_a_bare_newline_begins_a_new_line_on_the_terminal() -> None:
    with terminal() as (user_fd, fd), Console(stdin_fd=fd, stdout_fd=fd) as console:
        send(console, b"a\nb\n")
        received = b""
        while len(received) < 6:
            received += os.read(user_fd, 100)
        assert received == b"a\r\nb\r\n"


def test_a_piped_stdin_is_not_read() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"\x01x")
    with terminal() as (_, fd), Console(stdin_fd=reader, stdout_fd=fd) as console:
        assert not console.is_interactive
        assert console.poll(10) == b""
        assert os.read(reader, 9) == b"\x01x"
    os.close(reader)
    os.close(writer)


def test_no_input_leaves_the_terminal_alone() -> None:
    with terminal() as (user_fd, fd), Console(stdin_fd=fd, stdout_fd=fd, allow_input=False) as console:
        assert not is_raw(fd)
        os.write(user_fd, b"x\n")
        assert console.poll(10) == b""


def test_a_terminal_that_hangs_up_asks_for_a_stop() -> None:
    user_fd, fd = os.openpty()
    with Console(stdin_fd=fd, stdout_fd=fd) as console:
        os.close(user_fd)
        assert console.poll(10) == b""
        assert console.stop_reason is StopReason.TERMINAL_CLOSED
        send(console, b"into the void\n")
    os.close(fd)


# the terminal afterwards ----------------------------------------------------------------------------------------


def test_the_terminal_is_restored_after_an_exception() -> None:
    def fail(fd: int) -> None:
        with Console(stdin_fd=fd, stdout_fd=fd):
            assert is_raw(fd)
            raise KeyboardInterrupt

    with terminal() as (_, fd):
        before = termios.tcgetattr(fd)
        with pytest.raises(KeyboardInterrupt):
            fail(fd)
        assert termios.tcgetattr(fd) == before


def test_signal_handlers_are_as_before() -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGCONT)
    before = [signal.getsignal(number) for number in numbers]
    with terminal() as (_, fd), Console(stdin_fd=fd, stdout_fd=fd):
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_console_works_outside_the_main_thread() -> None:
    results = []

    def run(fd: int) -> None:
        with Console(stdin_fd=fd, stdout_fd=fd):
            results.append(is_raw(fd))
        results.append(is_raw(fd))

    with terminal() as (_, fd):
        thread = threading.Thread(target=run, args=(fd,))
        thread.start()
        thread.join()
    assert results == [True, False]


PROGRAM = """
import os, sys
from vmm.session.console import Console
with Console() as console:
    print(f"pid {os.getpid()} ready", flush=True)
    while console.stop_reason is None or "stubborn" in sys.argv:
        keys = console.poll(0.1)
        if keys == b"e": sys.exit(3)
        if keys == b"k": os._exit(4)
        if keys: print(f"key {keys.hex()}", flush=True)
print(f"stopped by {console.stop_reason.name}", flush=True)
"""


def hang_ups(action: signal.Handlers) -> Callable[[], object]:
    """What a child does before it begins: SIGHUP as a terminal's programs have it, or ignored, as after nohup."""
    return partial(signal.signal, signal.SIGHUP, action)


@contextmanager
def spawned(
    command: str, arguments: list[str], *, hang_up: signal.Handlers = signal.SIG_DFL
) -> Iterator[pexpect.spawn]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PS1": "shell> "}
    child = pexpect.spawn(command, arguments, env=environment, timeout=30, preexec_fn=hang_ups(hang_up))
    try:
        yield child
    finally:
        child.close(force=True)


def wait_ready(child: pexpect.spawn) -> int:
    child.expect(rb"pid (\d+) ready")
    return int(child.match[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_the_run_in_order(number: signal.Signals) -> None:
    with spawned(sys.executable, ["-c", PROGRAM]) as child:
        pid = wait_ready(child)
        assert is_raw(child.fileno())
        os.kill(pid, number)
        child.expect(b"stopped by SIGNAL")
        child.expect(pexpect.EOF)
        assert not is_raw(child.fileno())


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    with spawned(sys.executable, ["-c", PROGRAM], hang_up=signal.SIG_IGN) as child:
        pid = wait_ready(child)
        os.kill(pid, signal.SIGHUP)
        child.send(b"q")
        child.expect_exact(b"key 71")
        child.send(b"\x01x")
        child.expect(b"stopped by QUIT")


def test_the_second_signal_kills_and_restores_the_terminal() -> None:
    with spawned(sys.executable, ["-c", PROGRAM, "stubborn"]) as child:
        pid = wait_ready(child)
        os.kill(pid, signal.SIGHUP)
        child.send(b"\x01a")  # still alive
        os.kill(pid, signal.SIGTERM)
        child.expect(pexpect.EOF)
        assert not is_raw(child.fileno())
        child.close()
        assert child.signalstatus == signal.SIGTERM


def test_sys_exit_restores_the_terminal() -> None:
    with spawned(sys.executable, ["-c", PROGRAM]) as child:
        wait_ready(child)
        child.send(b"e")
        child.expect(pexpect.EOF)
        assert not is_raw(child.fileno())
        child.close()
        assert child.exitstatus == 3


def test_a_forgotten_console_restores_the_terminal_at_interpreter_exit() -> None:
    program = (
        "from vmm.session.console import Console\nConsole().__enter__()\nprint('pid 1 ready', flush=True); input()"
    )
    with spawned(sys.executable, ["-c", program]) as child:
        wait_ready(child)
        assert is_raw(child.fileno())
        child.send(b"\n")
        child.expect(pexpect.EOF)
        assert not is_raw(child.fileno())


def run_in_shell(child: pexpect.spawn, tmp_path: Path) -> int:
    """Start PROGRAM as a job of an interactive shell (dash: unlike bash it does not repair the terminal itself)."""
    (tmp_path / "program.py").write_text(PROGRAM)
    child.expect_exact(b"shell> ")
    child.sendline(f"{sys.executable} {tmp_path}/program.py".encode())
    return wait_ready(child)


def test_a_stopped_job_gives_the_terminal_back_and_takes_it_again(tmp_path: Path) -> None:
    with spawned("/bin/sh", ["-i"]) as child:
        pid = run_in_shell(child, tmp_path)
        assert is_raw(child.fileno())
        os.kill(pid, signal.SIGTSTP)
        child.expect_exact(b"shell> ")
        assert not is_raw(child.fileno())
        child.sendline(b"fg")
        child.expect(rb"program\.py")
        child.send(b"q")
        child.expect_exact(b"key 71")
        assert is_raw(child.fileno())
        child.send(b"\x01x")
        child.expect(b"stopped by QUIT")


def test_a_job_continued_in_the_background_leaves_the_shell_its_terminal(tmp_path: Path) -> None:
    with spawned("/bin/sh", ["-i"]) as child:
        pid = run_in_shell(child, tmp_path)
        os.kill(pid, signal.SIGTSTP)
        child.expect_exact(b"shell> ")
        child.sendline(b"bg")
        child.expect_exact(b"shell> ")
        child.sendline(b"echo typed to the she''ll")
        child.expect_exact(b"typed to the shell")
        assert not is_raw(child.fileno())
        child.sendline(b"kill %1; wait; echo fini''shed")
        child.expect(b"stopped by SIGNAL")
        child.expect(b"finished")


def test_a_broken_pipe_leaves_no_traceback() -> None:
    program = (
        "from vmm.session.console import Console\n"
        "with Console(allow_input=False) as console:\n"
        "    while console.stop_reason is None: [console.transmit(b) for b in b'line\\n']\n"
        "import os, sys\n"
        "print(console.stop_reason.name, file=sys.stderr)\n"
    )
    command = f'{sys.executable} -c "$0" | head -n 2'
    result = subprocess.run(
        ["sh", "-c", command, program], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    assert result.stdout == b"line\nline\n"
    assert result.stderr == b"OUTPUT_CLOSED\n"
