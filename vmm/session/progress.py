"""A line on stderr that shows a run is alive, when the guest's output does not: it goes to a file or a pipe."""

import sys
import time
from contextlib import AbstractContextManager

from vmm.session.guest import Guest

FIRST_SECONDS = 2.0  # a run that ends sooner needs none
INTERVAL_SECONDS = 1.0
CLEAR_LINE = "\r\x1b[K"


class StatusLine(AbstractContextManager["StatusLine"]):
    """Shows guest time and speed once a second; silent when stderr is no terminal, or stdout is one."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty() and not sys.stdout.isatty()
        self._started = time.monotonic()
        self._next = self._started + FIRST_SECONDS

    def __exit__(self, *exception: object) -> None:
        if self._is_shown:
            print(end=CLEAR_LINE, file=sys.stderr, flush=True)

    def update(self, guest: Guest) -> None:
        """Show how far `guest` is, if the last time was long enough ago."""
        now = time.monotonic()
        if not self._is_shown or now < self._next:
            return
        self._next = now + INTERVAL_SECONDS
        guest.pcpu.clock.book()
        seconds = guest.pcpu.clock.cycles / guest.machine.profile.frequency_hz
        mips = guest.pcpu.clock.instructions / (now - self._started) / 1e6
        text = f"{seconds:.3f} guest seconds after {now - self._started:.0f} s, {mips:.0f} MIPS; Ctrl-C ends"
        print(end=f"{CLEAR_LINE}sidecore: {text}", file=sys.stderr, flush=True)
