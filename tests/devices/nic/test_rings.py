"""A scratch ring between contexts that are fakes."""

from devices.nic.chip_events import ChipEvents
from devices.nic.rings import Ring, Turns
from devices.nic.units import Unit
from emulator.events import EventQueue

LATENCY_PS, WORD_PS = 300, 4  # of the scratchpad
ENTRY_PS = 2 * WORD_PS + LATENCY_PS


class Context:
    def __init__(self) -> None:
        self.handed: list[tuple[object, int]] = []
        self.retried: list[int] = []

    def take_turn(self, turns: Turns, at_ps: int) -> None:
        pass

    def hand(self, value: object, at_ps: int) -> None:
        self.handed.append((value, at_ps))

    def retry(self, at_ps: int) -> None:
        self.retried.append(at_ps)


def make(words: int = 6) -> Ring:
    events = ChipEvents(EventQueue(), batches=False)
    return Ring(events, Unit(latency_ps=LATENCY_PS, bytes_per_second=10**12), words=words, entry_words=2)


def test_puts_and_gets_are_requests_of_the_scratchpad() -> None:
    ring, getter = make(), Context()
    assert ring.begin_put(1000) == 1000 + ENTRY_PS
    ring.put("first")
    ring.get(getter, 5000)
    assert getter.handed == [("first", 5000 + ENTRY_PS)]


def test_entries_come_out_in_order() -> None:
    ring, getter = make(), Context()
    for entry in "abc":
        ring.begin_put(0)
        ring.put(entry)
    for _ in range(3):
        ring.get(getter, 10_000)
    assert [value for value, _ in getter.handed] == ["a", "b", "c"]


def test_who_gets_from_an_empty_ring_waits_the_first_first() -> None:
    ring, first, second = make(), Context(), Context()
    ring.get(first, 0)
    ring.get(second, 0)
    ring.begin_put(1)
    ring.put("a")
    assert (len(first.handed), len(second.handed)) == (1, 0)


def test_a_ring_is_full_with_what_is_on_its_way_into_it() -> None:
    ring, putter, getter = make(), Context(), Context()
    for entry in range(3):
        assert not ring.is_full
        ring.begin_put(0)
        if entry < 2:
            ring.put(entry)
    assert ring.is_full
    ring.wait_for_room(putter)
    ring.get(getter, 7000)
    assert (putter.retried, ring.is_full, ring.depth_max, ring.puts) == ([7000], False, 2, 2)


def test_turns_end_in_order_whenever_their_work_ends() -> None:
    turns, contexts = Turns(), [Context() for _ in range(4)]
    tickets = [turns.take() for _ in contexts]
    assert turns.is_turn(tickets[0], contexts[0])
    assert not turns.is_turn(tickets[1], contexts[1])
    assert not turns.is_turn(tickets[3], contexts[3])
    turns.end(tickets[2], 10)
    turns.end(tickets[0], 20)
    assert [context.retried for context in contexts] == [[], [20], [], []]
    assert turns.is_turn(tickets[1], contexts[1])
    turns.end(tickets[1], 30)
    assert [context.retried for context in contexts] == [[], [20], [], [30]]
