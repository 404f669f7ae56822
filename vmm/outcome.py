"""How things end: an exit handler's outcome, and the end of a guest's run."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto


class Outcome(Enum):
    """What a VM-exit handler asks the dispatcher to do: a closed set."""

    NEXT = auto()  # the instruction is done: advance RIP, enter the guest
    AGAIN = auto()  # enter the guest at the same RIP
    WAIT = auto()  # the instruction is done, and the vCPU sleeps until an interrupt
    STOP = auto()  # the guest has ended (the domain says how)


NEXT, AGAIN, WAIT, STOP = Outcome  # names that cost nothing: an enum's members take 80 ns each to look up


class EndKind(Enum):
    """Why a guest's run is over."""

    SHUTDOWN = "the guest shut down"
    RESET = "the guest asked for a reset"
    DEBUG_EXIT = "the guest wrote to the debug-exit port"
    SAVED = "the state was saved"
    UNTIL = "the awaited text was seen"
    LIMIT = "a limit was reached"
    GUEST_ERROR = "guest error"
    QUIT = "stopped by the user"


@dataclass(frozen=True)
class End:
    """The end of a run: its kind, the byte written to debug-exit, and a line for people."""

    kind: EndKind
    value: int = 0
    detail: str = ""

    @property
    def exit_status(self) -> int:
        """Exit status of the command, as QEMU's isa-debug-exit has it for that device."""
        match self.kind:
            case EndKind.DEBUG_EXIT:
                return 0 if self.value == 0 else (self.value << 1 | 1) & 0xFF
            case EndKind.LIMIT:
                return 3
            case EndKind.GUEST_ERROR:
                return 4
            case EndKind.QUIT:
                return 130
            case EndKind.SHUTDOWN | EndKind.RESET | EndKind.SAVED | EndKind.UNTIL:
                return 0

    def __str__(self) -> str:
        if self.kind is EndKind.DEBUG_EXIT:
            return f"{self.kind.value}: value {self.value}"
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
