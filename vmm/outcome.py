"""How things end: an exit handler's outcome, and the end of a guest's run."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto


class Outcome(Enum):
    """What a VM-exit handler asks the dispatcher to do: a closed set."""

    NEXT = auto()  # the instruction is done: advance RIP, enter the guest
    AGAIN = auto()  # enter the guest at the same RIP
    WAIT = auto()  # the instruction is done, and the vCPU sleeps until an interrupt
    STOP = auto()  # the guest has ended (the domain says how)
    MOVED = auto()  # RIP is where the handler has put it, and what the exit interrupted has been delivered


NEXT, AGAIN, WAIT, STOP, MOVED = Outcome  # names that cost nothing: an enum's members take 80 ns each to look up


class EndKind(Enum):
    """Why a guest's run is over."""

    SHUTDOWN = "the guest shut down"
    RESET = "the guest asked for a reset"
    DEBUG_EXIT = "the guest wrote to the debug-exit port"
    SAVED = "the state was saved"
    UNTIL = "the awaited text was seen"
    LIMIT = "a limit was reached"
    GUEST_ERROR = "guest error"
    TRIPLE_FAULT = "the guest's processor shut down"
    HALTED = "the guest halted"
    UNTIL_MISSED = "the awaited text was not seen"
    SAVE_MISSED = "the state was not saved"
    QUIT = "stopped by the user"


# Exit statuses of the command; vmm/session/ENDINGS.md says more. New ones are even: a debug exit's are odd, or 0.
STATUSES = {
    EndKind.SHUTDOWN: 0,
    EndKind.RESET: 0,
    EndKind.SAVED: 0,
    EndKind.UNTIL: 0,
    EndKind.LIMIT: 3,
    EndKind.GUEST_ERROR: 4,
    EndKind.TRIPLE_FAULT: 6,
    EndKind.HALTED: 8,
    EndKind.UNTIL_MISSED: 10,
    EndKind.SAVE_MISSED: 12,
}
SIGNAL_STATUS = 128  # and the signal's number, as shells have it
SHUTDOWNS = frozenset({EndKind.SHUTDOWN, EndKind.TRIPLE_FAULT, EndKind.HALTED})  # what --expect-shutdown takes for one
ORDERLY = frozenset({EndKind.SHUTDOWN, EndKind.RESET, EndKind.DEBUG_EXIT, EndKind.SAVED, EndKind.UNTIL})


@dataclass(frozen=True)
class End:
    """The end of a run: its kind, and a line for people.

    `value`: the byte written to debug-exit, or the number of the signal that stopped the run; `cpu`: the guest's
    processor that ended it.
    """

    kind: EndKind
    value: int = 0
    detail: str = ""
    cpu: int = 0

    @property
    def exit_status(self) -> int:
        """Exit status of the command, as QEMU's isa-debug-exit has it for that device."""
        if self.kind is EndKind.DEBUG_EXIT:
            return 0 if self.value == 0 else (self.value << 1 | 1) & 0xFF
        if self.kind is EndKind.QUIT:
            return SIGNAL_STATUS + (self.value or signal.SIGINT)
        return STATUSES[self.kind]

    def __str__(self) -> str:
        if self.kind is EndKind.DEBUG_EXIT:
            return f"{self.kind.value}: value {self.value}" + (f", {self.detail}" if self.detail else "")
        return f"{self.kind.value}: {self.detail}" if self.detail else self.kind.value


def _nobody_asks() -> None:
    """The end is for those who look."""


class Ending:
    """What runs until it ends. The last three methods are where the outputs of its board lead."""

    def __init__(self) -> None:
        self.end: End | None = None
        self.on_end: Callable[[], None] = _nobody_asks

    def finish(self, end: End) -> None:
        """Note how it ended; the first end counts."""
        if self.end is None:
            self.end = end
            self.on_end()

    def debug_exit(self, value: int) -> None:
        """A write to the debug exit."""
        self.finish(End(EndKind.DEBUG_EXIT, value))

    def reset(self) -> None:
        """The reset wire."""
        self.finish(End(EndKind.RESET))

    def power_off(self) -> None:
        """The power button's wire."""
        self.finish(End(EndKind.SHUTDOWN, detail="power off"))
