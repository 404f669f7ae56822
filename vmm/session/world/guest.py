"""A guest of a script's world: described first, then built; its output, end, VM exits and statistics."""

from collections.abc import Callable

from emulator.errors import ConfigError
from vmm.outcome import End
from vmm.session.boot_plan import GuestPlan
from vmm.session.copy import begin, begin_as, hold_back
from vmm.session.guest import Guest as BuiltGuest
from vmm.session.report.guest_report import guest_report
from vmm.session.run import collect_stats
from vmm.session.spec import GuestSpec
from vmm.session.stats import ExitStats, RunStats
from vmm.session.symbols import symbols_of
from vmm.session.virtual_guest import VirtualGuest


class Guest:
    """A guest of a host; it is there when the world is built."""

    def __init__(self, spec: GuestSpec, *, is_held_back: bool = False, begins_later: bool = False) -> None:
        self.spec = spec
        self.begins_later = begins_later  # it boots when it is told
        self.is_held_back = is_held_back  # it does not boot, but begins as a copy of another
        self.output = bytearray()  # all it has printed on its serial line
        self.on_byte: Callable[[int], None] | None = None  # hears of each byte of it
        self._built: BuiltGuest | None = None
        self._plan: GuestPlan | None = None
        self._awaited = b""
        self._has_printed_it = False

    @property
    def built(self) -> BuiltGuest:
        """Its registers, memory and devices. Raises ConfigError before the world is built."""
        if self._built is None:
            raise ConfigError("the guest is not built yet; call build() or run() of its world first")
        return self._built

    @property
    def end(self) -> End | None:
        """How it ended; None: it has not."""
        return None if self._built is None else self._built.end

    @property
    def report(self) -> str:
        """Its state on a screen of text, as `sidecore boot` shows it at an end that nobody wanted."""
        plan = self._plan
        return guest_report(self.built, symbols_of(None if plan is None else plan.spec.kernel))

    @property
    def exits(self) -> dict[str, ExitStats]:
        """Its VM exits so far, by the name of their reason; natively there are none."""
        return self.built.exit_statistics()

    @property
    def stats(self) -> RunStats:
        """What it and its host cost so far, as in the file of `sidecore boot --stats`; no workstation time."""
        return collect_stats(self.built, 0.0)

    def exit_table(self) -> str:
        """Its VM exits, as `sidecore boot` shows them."""
        from vmm.session.report.summary import exit_table
        from vmm.session.report.tables import table_text

        return table_text(exit_table(self.stats, with_cycles=True))

    def send(self, keys: bytes) -> None:
        """Type on its serial line."""
        self.built.run_timers()
        self.built.board.uart.receive(keys)

    def transmit(self, byte: int) -> None:
        """The guest sent `byte` on its serial line."""
        self.output.append(byte)
        if self.on_byte is not None:
            self.on_byte(byte)
        if self._awaited and self.output.endswith(self._awaited):
            self._has_printed_it = True
            self.built.pause()

    def take(self, built: BuiltGuest, plan: GuestPlan) -> None:
        """It is built, as `plan` says."""
        self._built, self._plan = built, plan
        if self.is_held_back or self.begins_later:
            hold_back(_virtual(built))

    def begin(self) -> None:
        """One that begins later boots now, between two runs of the world. Raises ConfigError."""
        if self.is_held_back:
            raise ConfigError("a guest that becomes a copy has nothing to boot; see Guest.begin_as")
        begin(_virtual(self.built))

    def begin_as(self, booted: "Guest") -> None:
        """One that was held back goes on as `booted` would, which is halted: same memory, registers and devices.

        The two may be on two hosts of the same kind. Each has its own VIF, and an empty `output`. Raises ConfigError.
        """
        begin_as(_virtual(self.built), _virtual(booted.built))

    def await_text(self, text: str | None) -> None:
        """Pause when it has printed `text` from now on."""
        self._awaited, self._has_printed_it = (text or "").encode(), False

    @property
    def has_printed_it(self) -> bool:
        """Whether it has printed the awaited text."""
        return self._has_printed_it


def _virtual(built: BuiltGuest) -> VirtualGuest:
    if not isinstance(built, VirtualGuest):
        raise ConfigError("a guest that runs without a VMM can be no copy, and have none; choose shadow or ept")
    return built
