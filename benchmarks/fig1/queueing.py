"""How requests waited for a sidecore: figures from what `Sidecore.on_served` tells.

    visible        another request is in service       polls   began           ended
       |<------------------ behind ------------------>|<----->|<-- service -->|
       |<---------------------- wait ------------------------>|

A sidecore serves one request at a time, and its slots one after the other; so while a request waits, each other slot is
served at most once: nobody starves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from vmm.sidecore.slots import Served


@dataclass(frozen=True)
class Wait:
    """A request's: how long in all, and while others were served; how many of these were begun meanwhile."""

    request: Served
    cycles: int
    behind_cycles: int
    passed_over: int


def waits_of(served: Sequence[Served]) -> list[Wait]:
    """The waits of all that one sidecore served, in the order in which it did."""
    waits = []
    for index, request in enumerate(served):
        behind_cycles = passed_over = 0
        for earlier in reversed(served[:index]):
            if earlier.ended_cycles <= request.visible_cycles:
                break
            behind_cycles += earlier.ended_cycles - max(earlier.began_cycles, request.visible_cycles)
            passed_over += earlier.began_cycles >= request.visible_cycles
        waits.append(Wait(request, request.began_cycles - request.visible_cycles, behind_cycles, passed_over))
    return waits


@dataclass(frozen=True)
class Queue:
    """Requests of one kind, of all guests, at one sidecore."""

    waits: tuple[Wait, ...]  # in order of service
    utilisation: float  # of the sidecore, by whatever, from when the first could be seen to the end of the last

    @property
    def guests(self) -> tuple[int, ...]:
        """The numbers of their domains."""
        return tuple(sorted({wait.request.domain for wait in self.waits}))

    def progress(self) -> tuple[int, ...]:
        """How many of each guest's requests had been served when the first guest had no more, by guest."""
        left = [wait.request.domain for wait in self.waits]
        end = min(len(left) - left[::-1].index(guest) for guest in self.guests)
        return tuple(left[:end].count(guest) for guest in self.guests)


def queue_of(served: Sequence[Served], operation: str, *, warm_up: int = 0) -> Queue:
    """The requests for `operation` among all of one sidecore, without the first `warm_up` of each guest."""
    seen: dict[int, int] = {}
    waits = []
    for wait in waits_of(served):
        request = wait.request
        if request.operation == operation:
            seen[request.domain] = seen.get(request.domain, 0) + 1
            if seen[request.domain] > warm_up:
                waits.append(wait)
    begin = min(wait.request.visible_cycles for wait in waits)
    end = max(wait.request.ended_cycles for wait in waits)
    busy = sum(each.ended_cycles - each.began_cycles for each in served if begin <= each.began_cycles < end)
    return Queue(tuple(waits), busy / (end - begin))


def percentile(values: Sequence[int], percent: int) -> int:
    """The smallest value that so many percent of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def service_cycles(waits: Sequence[Wait]) -> float:
    """What the sidecore took for one, on average."""
    return mean(wait.request.ended_cycles - wait.request.began_cycles for wait in waits)
