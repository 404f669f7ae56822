"""The user's terminal in raw mode, and its return to what it was, whatever ends the run.

    foreground, raw  --SIGTSTP-->  restored, stopped  --SIGCONT-->  raw again, if in the foreground
         |                                                 |
         |                                                 +--> left alone in the background (`bg`), until `fg`
         +-- end of the with block, exception, sys.exit, interpreter exit --> restored
         +-- SIGTERM, SIGHUP: the first asks the run to end (on_signal), the second restores and kills
         +-- SIGSTOP, SIGKILL: cannot be caught; after SIGSTOP and `fg`, SIGCONT makes it raw again

A raw terminal delivers each key at once, without echo, and Ctrl-C, Ctrl-Z and Ctrl-S are keys like any other: the
guest's. Output processing stays on, so that a guest that ends its lines with a bare newline is readable.
Source: POSIX.1-2017, chapter 11, General Terminal Interface.
"""

import atexit
import os
import signal
import termios
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from types import FrameType

IFLAG, LFLAG, CC = 0, 3, 6  # places in the list of tcgetattr
RAW_OFF_IFLAG = (
    termios.BRKINT | termios.ICRNL | termios.IGNCR | termios.INLCR | termios.INPCK | termios.ISTRIP | termios.IXON
)
RAW_OFF_LFLAG = termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN | termios.ISIG

Handler = Callable[[int, FrameType | None], object] | int | None


class RawTerminal(AbstractContextManager["RawTerminal"]):
    """Raw mode of the terminal behind `fd` between enter and exit; `is_raw` tells whether keys may be read."""

    def __init__(self, fd: int, on_signal: Callable[[signal.Signals], None]) -> None:
        self.is_raw = False
        self._fd = fd
        self._on_signal = on_signal
        self._saved: list[int | list[bytes | int]] | None = None
        self._previous_handlers: dict[signal.Signals, Handler] = {}
        self._signals_seen = 0

    def __enter__(self) -> "RawTerminal":
        self._saved = termios.tcgetattr(self._fd)
        atexit.register(self._restore)
        if threading.current_thread() is threading.main_thread():  # nobody else may set handlers
            self._install(signal.SIGTERM, self._handle_end)
            self._install(signal.SIGHUP, self._handle_end)
            self._install(signal.SIGTSTP, self._handle_stop)
            self._install(signal.SIGCONT, self._handle_continue)
        self._make_raw()
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()
        for number, handler in self._previous_handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous_handlers.clear()
        atexit.unregister(self._restore)

    def _install(self, number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> None:
        previous = signal.getsignal(number)
        if previous != signal.SIG_IGN:  # nohup and job-less shells ignore on purpose
            self._previous_handlers[number] = previous
            signal.signal(number, handler)

    def _make_raw(self) -> None:
        self.is_raw = is_foreground(self._fd)  # in the background tcsetattr would stop us with SIGTTOU
        if self.is_raw:
            attributes = termios.tcgetattr(self._fd)
            attributes[IFLAG] &= ~RAW_OFF_IFLAG
            attributes[LFLAG] &= ~RAW_OFF_LFLAG
            attributes[CC][termios.VMIN], attributes[CC][termios.VTIME] = 1, 0
            termios.tcsetattr(self._fd, termios.TCSANOW, attributes)

    def _restore(self) -> None:
        if self.is_raw and self._saved is not None:
            self.is_raw = False
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._fd, termios.TCSANOW, self._saved)

    def _handle_end(self, number: int, frame: FrameType | None) -> None:
        self._signals_seen += 1
        if self._signals_seen == 1:
            self._on_signal(signal.Signals(number))
        else:
            self._restore()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _handle_stop(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # stops here until SIGCONT, or does nothing where no shell could continue us
        signal.signal(number, self._handle_stop)
        self._handle_continue(signal.SIGCONT, frame)

    def _handle_continue(self, number: int, frame: FrameType | None) -> None:
        with suppress(termios.error):
            self._make_raw()


def is_foreground(fd: int) -> bool:
    """Whether this process may use the terminal: it is not a background job of the terminal's session."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not our controlling terminal: there is no job control on it
        return True
