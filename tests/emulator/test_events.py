"""Claims about the event queue: order, ties, cancelling, and events made by events."""

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from emulator.events import Event, EventQueue


def test_events_run_in_order_of_time_and_see_their_own_time() -> None:
    queue, seen = EventQueue(), []
    for when_ps in (40, 3, 7):
        queue.schedule(when_ps, lambda: seen.append(queue.now_ps))
    queue.run_until(100)
    assert seen == [3, 7, 40]
    assert queue.now_ps == 100


def test_the_limit_is_included_and_what_is_later_waits() -> None:
    queue, seen = EventQueue(), []
    for when_ps in (10, 11):
        queue.schedule(when_ps, lambda when_ps=when_ps: seen.append(when_ps))  # type: ignore[misc]
    queue.run_until(10)
    assert seen == [10]
    assert queue.next_ps() == 11


def test_a_tie_is_broken_by_the_order_of_scheduling() -> None:
    queue, seen = EventQueue(), []
    for name in "abc":
        queue.schedule(5, lambda name=name: seen.append(name))  # type: ignore[misc]
    queue.run_until(5)
    assert seen == ["a", "b", "c"]


def test_an_event_in_the_past_happens_as_soon_as_possible_and_time_never_runs_back() -> None:
    queue, seen = EventQueue(), []
    queue.run_until(50)
    event = queue.schedule(20, lambda: seen.append(queue.now_ps))
    assert event.when_ps == 50
    queue.run_until(10)
    assert (seen, queue.now_ps) == ([], 50)
    queue.run_until(50)
    assert (seen, queue.now_ps) == ([50], 50)


def test_a_cancelled_event_does_not_happen_and_is_not_the_next() -> None:
    queue, seen = EventQueue(), []
    first = queue.schedule(5, lambda: seen.append(5))
    queue.schedule(9, lambda: seen.append(9))
    queue.cancel(first)
    queue.cancel(first)
    queue.cancel(None)
    assert queue.next_ps() == 9
    queue.run_until(9)
    assert seen == [9]
    assert queue.next_ps() is None


def test_cancelling_an_event_that_is_past_does_nothing() -> None:
    queue = EventQueue()
    event = queue.schedule(1, lambda: None)
    queue.run_until(1)
    queue.cancel(event)
    assert queue.next_ps() is None


def test_an_event_may_schedule_and_cancel_others_in_the_same_run() -> None:
    queue, seen = EventQueue(), []
    doomed: list[Event] = []

    def first() -> None:
        seen.append("first")
        queue.schedule(queue.now_ps, lambda: seen.append("at once"))
        queue.schedule(queue.now_ps + 2, lambda: seen.append("later"))
        queue.cancel(doomed[0])

    queue.schedule(5, first)
    doomed.append(queue.schedule(6, lambda: seen.append("doomed")))
    queue.run_until(7)
    assert seen == ["first", "at once", "later"]


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans())), st.lists(st.integers(0, 60)))
def test_slicing_the_time_changes_nothing(plan: list[tuple[int, bool]], limits: list[int]) -> None:
    def record(limits: list[int]) -> list[tuple[int, int]]:
        queue = EventQueue()
        seen: list[tuple[int, int]] = []
        for number, (when_ps, again) in enumerate(plan):

            def happen(number: int = number, again: bool = again) -> None:
                seen.append((queue.now_ps, number))
                if again:
                    queue.schedule(queue.now_ps + 3, lambda: seen.append((queue.now_ps, -number)))

            queue.schedule(when_ps, happen)
        for limit in [*sorted(limits), 100]:
            queue.run_until(limit)
        return seen

    assert record(limits) == record([])


def test_putting_off_a_far_event_for_ever_keeps_the_queue_small() -> None:
    queue = EventQueue()
    ran: list[int] = []
    event = queue.schedule(10**18, lambda: ran.append(-1))
    for number in range(10_000):
        queue.cancel(event)
        event = queue.schedule(10**18 - number, partial(ran.append, number))
    assert queue.kept_count < 200
    queue.run_until(10**18)
    assert ran == [9_999]
    assert queue.kept_count == 0
