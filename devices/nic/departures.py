"""When the card may send a frame at the earliest: other hosts get so far without it (emulator/world.py).

    send:  Poll --> Fetch --> Route --> Put TRANSMIT --.     transmit:  Get TRANSMIT --> Transmit --> first bit
                                                       `-----------------^

From wherever a context is, its units take at least their latencies. What a core does, or a frame that comes, leads to a
frame only by a poll that finds something afterwards. Programs that are not the card's own may send at any time.
"""

from collections.abc import Sequence

from devices.nic.chip import Chip
from devices.nic.host_requests import Fetch, Poll
from devices.nic.microengine import SLEEP, Microengine
from devices.nic.programs import TRANSMIT, USES, send, transmit
from devices.nic.requests import Get, Put, Route, Transmit


class Departures:
    """Of the frames of a `chip`. `answer_ps`: from anything outside to the first bit of a frame because of it."""

    def __init__(self, chip: Chip, microengines: Sequence[Microengine]) -> None:
        self._events = chip.events
        self._ring = chip.rings[TRANSMIT]
        self._contexts = [c for engine in microengines for c in engine.contexts if c.program in (send, transmit)]
        self._is_known = all(c.program in USES for engine in microengines for c in engine.contexts)
        scratch_ps, dram_ps = chip.scratch.latency_ps, chip.dram.latency_ps
        self._get_ps = scratch_ps + dram_ps  # from an entry in the ring on
        put_ps = scratch_ps + self._get_ps  # a context may have waited for its turn: the step to it is over
        fetch_ps = chip.swap_ps + chip.step_ps + chip.sram.latency_ps + put_ps
        poll_ps = chip.swap_ps + chip.step_ps + chip.dma.read_ps + fetch_ps
        self.answer_ps = poll_ps if self._is_known else 0
        self._after_ps: dict[type, int] = {
            Poll: poll_ps,
            Fetch: fetch_ps,
            Route: put_ps,
            Put: self._get_ps,
            Get: dram_ps,
        }
        self._before_ps: dict[type, int] = {Put: put_ps, Transmit: dram_ps}  # while it waits to begin

    def first_ps(self, next_ps: int) -> int:
        """The first bit of what has not been sent yet, if nothing happens outside the chip before `next_ps`."""
        if not self._is_known:
            return next_ps
        first_ps, chip_ps = next_ps + self.answer_ps, self._events.first_ps()
        if chip_ps is None:
            return first_ps
        chip_ps = min(chip_ps, next_ps)  # what comes from outside sets off more
        if self._ring.depth:
            first_ps = chip_ps + self._get_ps
        for context in self._contexts:
            request, since_ps = type(context.request), context.answered_ps
            if since_ps is not None:
                after_ps = self._after_ps.get(request, self.answer_ps)
                first_ps = min(first_ps, (since_ps if context.state == SLEEP else chip_ps) + after_ps)
            elif request in self._before_ps:
                first_ps = min(first_ps, chip_ps + self._before_ps[request])
        return first_ps
