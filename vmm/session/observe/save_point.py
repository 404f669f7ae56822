"""Where a run is saved: behind a text on the console, at a cycle, or behind a VM exit. One of them, as the user says.

The run is paused there, at the next place between two instructions where nothing is half done, saved, and ends.
"""

from collections.abc import Callable

from emulator.errors import ConfigError
from vmm.exits.observer import ExitObserver
from vmm.session.observe.which_exit import ExitCounter, Request, parse_request
from vmm.session.spec import Outside
from vmm.vcpu import Exit, VCpu


class SavePoint(ExitObserver):
    """The place, and whether the run has come to it. Raises ConfigError when the user named none, or several."""

    def __init__(self, outside: Outside) -> None:
        given = [
            value for value in (outside.save_at_text, outside.save_at_cycle, outside.save_at_exit) if value is not None
        ]
        if outside.save_path is None:
            raise ConfigError("--save-at-text, --save-at-cycle and --save-at-exit need --save; name the file")
        if len(given) != 1:
            raise ConfigError("--save needs one of --save-at-text, --save-at-cycle and --save-at-exit")
        if outside.save_at_text == "":
            raise ConfigError("--save-at-text needs a text that is not empty")
        if outside.save_at_cycle is not None and outside.save_at_cycle < 1:
            raise ConfigError(f"--save-at-cycle {outside.save_at_cycle} is not possible; give a number above 0")
        self.path = outside.save_path
        self.cycle = outside.save_at_cycle
        self.is_reached = False
        self.pause: Callable[[], None] = lambda: None  # of the guest, once there is one
        self._text = (outside.save_at_text or "").encode()
        self._sent = bytearray()
        self._counter = None if outside.save_at_exit is None else ExitCounter(parse_exit(outside.save_at_exit))

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
