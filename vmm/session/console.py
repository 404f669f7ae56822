"""The guest's serial console is the user's terminal.

    UART --transmit(byte)--> pending --flush--> stdout       (also: until matching, tail for tests)
    UART <------poll()------ escapes <--------- stdin        (only when stdin and stdout are terminals)

Output goes out at a newline, when 4 KiB are pending, and before anything waits. `until` is matched byte by byte as the
guest sends, so that where a run ends depends on the guest alone and never on how output was cut into pieces.
Input that is typed is not reproducible; a run without a terminal (pipe, file, --no-input) takes none, not even from a
piped stdin, so that scripts get the same cycles every time.
"""

import errno
import os
import select
import signal
import sys
from contextlib import AbstractContextManager
from enum import Enum

from emulator.errors import ConfigError
from vmm.session.terminal import RawTerminal

PENDING_MAX_BYTES = 4096
TAIL_BYTES = 64 << 10
READ_MAX_BYTES = 1024
OUTPUT_MAX_BYTES = 1 << 30  # of a guest that prints for ever into a file
POLL_MAX_SECONDS = 0.2
NEWLINE = 0x0A
ESCAPE_KEY = 0x01  # Ctrl-A

HELP_TEXT = b"""\r
Ctrl-A X  quit\r
Ctrl-A A  send Ctrl-A to the guest (or Ctrl-A Ctrl-A)\r
Ctrl-A H  this help\r
All other keys, Ctrl-C and Ctrl-Z too, go to the guest.\r
"""


class StopReason(Enum):
    """Why the console wants the run to end; the value completes "stopped: "."""

    UNTIL = "the awaited output appeared"
    QUIT = "Ctrl-A X"
    OUTPUT_CLOSED = "nobody reads the output any more"
    TERMINAL_CLOSED = "the terminal was closed"
    SIGNAL = "a signal asked for it"
    OUTPUT_LIMIT = f"the guest has sent {OUTPUT_MAX_BYTES >> 20} MiB, which is enough"


class Console(AbstractContextManager["Console"]):
    """Terminal of one domain; a context manager, since it changes the terminal's mode.

    stop_reason: None while the run may go on; the first reason stays. The run loop looks at it after exits.
    """

    def __init__(
        self, *, until: bytes | None = None, allow_input: bool = True, stdin_fd: int = 0, stdout_fd: int = 1
    ) -> None:
        if until is not None and not 0 < len(until) <= TAIL_BYTES:
            raise ConfigError(f"the output to wait for has {len(until)} bytes; give 1 to {TAIL_BYTES}")
        self.until = until
        self.until_seen = False
        self.stop_reason: StopReason | None = None
        self.signal_number = 0  # of the signal that asked for it
        self.is_interactive = allow_input and os.isatty(stdin_fd) and os.isatty(stdout_fd)
        self._until_last_byte = until[-1] if until else -1
        self._stdin_fd, self._stdout_fd = stdin_fd, stdout_fd
        self._room_bytes = OUTPUT_MAX_BYTES
        self._pending = bytearray()
        self._tail = bytearray()
        self._is_output_open = True
        self._escape_typed = False
        self._terminal: RawTerminal | None = None

    def __enter__(self) -> "Console":
        sys.stdout.flush()  # what was printed before stays before what the guest prints
        if self.is_interactive:
            self._terminal = RawTerminal(self._stdin_fd, self._handle_signal)
            self._terminal.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.flush()
        finally:
            if self._terminal is not None:
                self._terminal.__exit__(*exception)
                self._terminal = None

    @property
    def tail(self) -> bytes:
        """The last 64 KiB the guest sent."""
        return bytes(self._tail[-TAIL_BYTES:])

    def resume(self, tail: bytes) -> None:
        """The guest has sent `tail` in a run before this one: what is awaited may have begun in it."""
        self._tail[:0] = tail

    def transmit(self, byte: int) -> None:
        """The guest sent `byte`."""
        self._room_bytes -= 1
        if self._room_bytes < 0:
            self._stop(StopReason.OUTPUT_LIMIT)
            return
        self._pending.append(byte)
        self._tail.append(byte)
        if byte == self._until_last_byte and self.until is not None and self._tail.endswith(self.until):
            self.until_seen = True
            self._stop(StopReason.UNTIL)
        if byte == NEWLINE or len(self._pending) >= PENDING_MAX_BYTES:
            self.flush()

    def flush(self) -> None:
        """Show everything sent so far."""
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]
        if self._pending:
            data = bytes(self._pending)
            self._pending.clear()
            self._write(data)

    def poll(self, timeout_seconds: float) -> bytes:
        """Bytes typed for the guest, waiting for the first at most `timeout_seconds`; b"" when there are none.

        Waits no longer than POLL_MAX_SECONDS, to return soon after a signal; without a terminal it does not wait,
        since there never will be any input.
        """
        self.flush()
        # In the background (`bg`) reading the terminal would stop the process with SIGTTIN.
        if self._terminal is None or self.stop_reason is not None:
            return b""
        readable = [self._stdin_fd] if self._terminal.is_raw else []
        ready, _, _ = select.select(readable, [], [], min(timeout_seconds, POLL_MAX_SECONDS))
        if not ready or not self._terminal.is_raw:
            return b""
        try:
            typed = os.read(self._stdin_fd, READ_MAX_BYTES)
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: hung up
                raise
            typed = b""
        if not typed:
            self._stop(StopReason.TERMINAL_CLOSED)
        return self._without_escapes(typed)

    def _without_escapes(self, typed: bytes) -> bytes:
        """What of `typed` is for the guest; Ctrl-A and the key behind it may come in two pieces."""
        for_guest = bytearray()
        for byte in typed:
            if self._escape_typed:
                self._escape_typed = False
                for_guest += self._escaped(byte)
            elif byte == ESCAPE_KEY:
                self._escape_typed = True
            else:
                for_guest.append(byte)
        return bytes(for_guest)

    def _escaped(self, byte: int) -> bytes:
        """Do what Ctrl-A and `byte` mean; return what the guest gets."""
        match bytes([byte]).lower():
            case b"x":
                self._stop(StopReason.QUIT)
            case b"a" | b"\x01":
                return bytes([ESCAPE_KEY])
            case _:  # H, and whatever else was meant
                self._write(HELP_TEXT)
        return b""

    def _handle_signal(self, number: signal.Signals) -> None:
        self.signal_number = number
        self._stop(StopReason.SIGNAL)

    def _stop(self, reason: StopReason) -> None:
        self.stop_reason = self.stop_reason or reason

    def _write(self, data: bytes) -> None:
        """Write all of `data`; when nobody reads any more, drop it and ask for a stop."""
        view = memoryview(data)
        while view and self._is_output_open:
            try:
                view = view[os.write(self._stdout_fd, view) :]
            except BlockingIOError:  # another process made the shared terminal non-blocking
                select.select([], [self._stdout_fd], [])
            except OSError as error:
                self._is_output_open = False
                if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: the terminal hung up
                    raise ConfigError(f"cannot write the guest's output: {error.strerror}") from None
                self._stop(StopReason.OUTPUT_CLOSED)
