"""A scratch ring: a queue in the scratchpad, of a depth in words, between contexts of microengines.

put --> | entry | entry | ... --> get       full: who puts waits        empty: who gets waits

MODEL: who waits is woken at once; on the hardware it polls the ring's full or empty line.
"""

from collections import deque
from typing import Any, Protocol

from devices.nic.chip_events import ChipEvents
from devices.nic.units import Unit

WORD_BYTES = 4


class Taker(Protocol):
    """A context that waits for something."""

    def take_turn(self, turns: "Turns", at_ps: int) -> None:
        """What it is handed next has its place in an order."""
        ...

    def hand(self, value: object, at_ps: int) -> None:
        """What it waits for, and when it has it."""
        ...

    def retry(self, at_ps: int) -> None:
        """There is room now."""
        ...


class Turns:
    """The order in which things were taken somewhere: whoever puts them elsewhere waits for those taken before."""

    def __init__(self) -> None:
        self._taken = self._turn = 0
        self._over: set[int] = set()  # tickets that have ended out of turn
        self._waiting: dict[int, Taker] = {}

    def take(self) -> int:
        """A ticket."""
        self._taken += 1
        return self._taken - 1

    def is_turn(self, ticket: int, taker: Taker) -> bool:
        """Whether all earlier tickets are over; if not, `taker` is told when they are."""
        if ticket != self._turn:
            self._waiting[ticket] = taker
        return ticket == self._turn

    def end(self, ticket: int, at_ps: int) -> None:
        """A ticket is over."""
        if ticket != self._turn:
            self._over.add(ticket)
            return
        self._turn += 1
        while self._turn in self._over:
            self._over.remove(self._turn)
            self._turn += 1
        if self._turn in self._waiting:
            self._waiting.pop(self._turn).retry(at_ps)


class Ring:
    """Entries of `entry_words` in `words`; each put and get is a request of `scratch`."""

    def __init__(self, events: ChipEvents, scratch: Unit, *, words: int, entry_words: int) -> None:
        self.puts = self.depth_max = 0
        self.entries_max = words // entry_words
        self._events = events
        self._scratch = scratch
        self._bytes = entry_words * WORD_BYTES
        self._entries: deque[Any] = deque()
        self._coming = 0  # entries for which there is room, and which are not in yet
        self._getters: deque[Taker] = deque()
        self._putters: deque[Taker] = deque()
        self._turns = Turns()

    @property
    def depth(self) -> int:
        """Entries in it."""
        return len(self._entries)

    @property
    def is_full(self) -> bool:
        """Whether nobody can put."""
        return len(self._entries) + self._coming >= self.entries_max

    def begin_put(self, at_ps: int) -> int:
        """Room is taken for an entry; when it is in."""
        self._coming += 1
        return self._scratch.request(at_ps, self._bytes)

    def wait_for_room(self, putter: Taker) -> None:
        """`retry` it when there may be room."""
        self._putters.append(putter)

    def put(self, entry: object) -> None:
        """The entry is in."""
        self._coming -= 1
        self._entries.append(entry)
        self.puts += 1
        self.depth_max = max(self.depth_max, len(self._entries))
        if self._getters:
            self._give(self._getters.popleft(), self._events.now_ps)

    def get(self, getter: Taker, at_ps: int) -> None:
        """Hand it the first entry, when there is one."""
        if self._entries:
            self._give(getter, at_ps)
        else:
            self._getters.append(getter)

    def _give(self, getter: Taker, at_ps: int) -> None:
        getter.take_turn(self._turns, at_ps)
        getter.hand(self._entries.popleft(), self._scratch.request(at_ps, self._bytes))
        if self._putters:
            self._putters.popleft().retry(at_ps)
