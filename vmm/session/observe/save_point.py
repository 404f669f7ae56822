"""Where a run is saved: behind a text on the console, at a cycle, or behind a VM exit. One of them, as the user says.

The run is paused there, at the next place between two instructions where nothing is half done, saved, and ends.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import ConfigError
from vmm.exits.observer import ExitObserver
from vmm.session.observe.which_exit import ExitCounter, Request, parse_request
from vmm.vcpu import Exit, VCpu


@dataclass(frozen=True)
class SaveOptions:
    """`--save` and what goes with it; nothing is checked yet."""

    path: Path | None = None
    text: str | None = None
    cycle: int | None = None
    exit: str | None = None  # REASON or REASON:n


class SavePoint(ExitObserver):
    """The place, and whether the run has come to it. Raises ConfigError when the user named none, or several."""

    def __init__(self, options: SaveOptions) -> None:
        given = [value for value in (options.text, options.cycle, options.exit) if value is not None]
        if options.path is None:
            raise ConfigError("--save-at-text, --save-at-cycle and --save-at-exit need --save; name the file")
        if len(given) != 1:
            raise ConfigError("--save needs one of --save-at-text, --save-at-cycle and --save-at-exit")
        if options.text == "":
            raise ConfigError("--save-at-text needs a text that is not empty")
        if options.cycle is not None and options.cycle < 1:
            raise ConfigError(f"--save-at-cycle {options.cycle} is not possible; give a number above 0")
        self.path = options.path
        self.cycle = options.cycle
        self.is_reached = False
        self.pause: Callable[[], None] = lambda: None  # of the guest, once there is one
        self._text = (options.text or "").encode()
        self._sent = bytearray()
        self._counter = None if options.exit is None else ExitCounter(parse_exit(options.exit))

    def transmit(self, byte: int) -> None:
        """The guest sent `byte`."""
        if self._text:
            self._sent = (self._sent + bytes([byte]))[-len(self._text) :]
            if self._sent == self._text:
                self._reach()

    def exit_ended(self, vcpu: VCpu, exit: Exit, cycles: int) -> None:
        """Was it the one that is waited for?"""
        if self._counter is not None and self._counter.is_it(exit.reason):
            self._reach()

    def _reach(self) -> None:
        if not self.is_reached:
            self.is_reached = True
            self.pause()


def parse_exit(text: str) -> Request:
    """Which exit. Raises ConfigError."""
    try:
        return parse_request(text)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--explain", "--save-at-exit")) from None
