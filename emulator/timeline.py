"""The time that the cores, devices and links of a machine share: events in picoseconds, as clocks in cycles see them.

    ps      0 --------- event ------------------ event ---->      devices, links: EventQueue
    cycles  |  |  |  |  |  |  |  |  |  |  |  |  |  |  |  |        cores: Clock
                        ^ a core gets there in this cycle: never early for an event

1 cycle = 10^12 / frequency_hz ps; MODEL: all cores of a machine have one frequency, and it never changes.
"""

from emulator.events import PS_PER_SECOND, EventQueue


class Timeline:
    """`events` as cores see them whose clocks have `frequency_hz`."""

    def __init__(self, events: EventQueue, frequency_hz: int) -> None:
        self.events = events
        self._frequency_hz = frequency_hz
        self._next_event_ps: int | None = None  # and its cycle: asked for at every turn, and most often the same
        self._next_event_cycles: int | None = None

    def cycles_to_ps(self, cycles: int) -> int:
        """When a core's clock shows `cycles`, rounded down."""
        return cycles * PS_PER_SECOND // self._frequency_hz

    def ps_to_cycles(self, when_ps: int) -> int:
        """The first cycle of a core at or after `when_ps`."""
        return -(-when_ps * self._frequency_hz // PS_PER_SECOND)

    @property
    def event_cycles(self) -> int:
        """The first cycle of a core at or after the time of the event that happens now, or happened last."""
        return self.ps_to_cycles(self.events.now_ps)

    def next_event_cycles(self) -> int | None:
        """When the next event is due by a core's clock, or None when nothing is scheduled."""
        next_ps = self.events.next_ps()
        if next_ps != self._next_event_ps:
            self._next_event_ps = next_ps
            self._next_event_cycles = None if next_ps is None else self.ps_to_cycles(next_ps)
        return self._next_event_cycles
