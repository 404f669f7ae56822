"""A wire with a memory, to put on a device's interrupt output."""

from emulator.events import EventQueue


class Wire:
    """Follows an InterruptLine; `changes` lists (time, level), and a repeated level is an error of the device."""

    def __init__(self, events: EventQueue | None = None) -> None:
        self.level = False
        self.changes: list[tuple[int, bool]] = []
        self._events = events

    def __call__(self, level: bool) -> None:
        assert level != self.level, "a device must call its line only when the level changes"
        self.level = level
        self.changes.append((self._events.now_ps if self._events else 0, level))
