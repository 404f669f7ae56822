"""Where a round trip goes, hop by hop: a chain of places that a probe and its answer pass, and the time between two.

    client  posted polled fetched sent ~~wire~~ arrived classified delivered signalled taken upcalled scheduled injected
    server     seen --echo--> posted polled ... ~~wire~~ ... injected seen                                       client

The NIC and the VMM stamp a VIF at each place when somebody listens. A flow has one probe under way, so the next stamp
of the chain belongs to it; others are of signals that bring this guest nothing, and are left alone. A place that is not
passed (a guest that looks by itself needs no signal) has no time of its own: the next has all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

CLIENT, SERVER = 0, 1
WAY = (  # of a frame from one guest to the other: the place, and what happens until it is reached
    ("posted", "guest"),
    ("polled", "poll of the send queue"),
    ("fetched", "DMA in"),
    ("sent", "microengines, to send"),
    ("arrived", "wire"),
    ("classified", "microengines, to classify"),
    ("delivered", "DMA out"),
    ("signalled", "signal"),
    ("taken", "interrupt, VM exit"),
    ("upcalled", "VMM"),
    ("scheduled", "schedule"),
    ("injected", "inject"),
    ("seen", "guest's interrupt and driver"),
)
MANDATORY = ("posted", "delivered", "seen")
LAST_AT_SENDER = "sent"
ECHO, ENDS = "server's echo", "psapp and the client's driver"


@dataclass(frozen=True)
class Step:
    """A place of the chain: at which host, its stamp, and the hop that ends there."""

    host: int
    stamp: str
    hop: str


def chain() -> tuple[Step, ...]:
    """A round trip, from the client's descriptor to what the client's driver sees."""
    names = [name for name, _ in WAY]
    boundary = names.index(LAST_AT_SENDER)
    steps = []
    for sender, receiver in ((CLIENT, SERVER), (SERVER, CLIENT)):
        for place, (name, text) in enumerate(WAY):
            hop = ECHO if name == "posted" and sender == SERVER else text
            steps.append(Step(sender if place <= boundary else receiver, name, hop))
    return tuple(steps)


CHAIN = chain()
HOPS = (*dict.fromkeys(step.hop for step in CHAIN[1:]), ENDS)  # in order; of both directions together
NEXT_MANDATORY = tuple(
    next((later for later in range(place, len(CHAIN)) if CHAIN[later].stamp in MANDATORY), len(CHAIN) - 1)
    for place in range(len(CHAIN) + 1)
)


@dataclass
class FlowHops:
    """Follows one flow's round trips: picoseconds by hop, summed over those that have ended."""

    skipped: int  # round trips of the warm-up
    counted: int  # those behind it whose samples count; a client that is done goes on
    trips: int = 0
    sums_ps: dict[str, int] = field(default_factory=dict)
    total_ps: int = 0
    _place: int = -1  # of CHAIN, that was reached last
    _since_ps: int = 0
    _begun_ps: int = 0
    _spent_ps: list[tuple[str, int]] = field(default_factory=list)

    def stamp(self, host: int, name: str, now_ps: int) -> None:
        """The flow's VIF at `host` was stamped."""
        for place in range(self._place + 1, NEXT_MANDATORY[self._place + 1] + 1):
            if CHAIN[place].host == host and CHAIN[place].stamp == name:
                break
        else:
            return
        if place == 0:
            self._begun_ps = now_ps
            self._spent_ps = []
        else:
            self._spent_ps.append((CHAIN[place].hop, now_ps - self._since_ps))
        self._place, self._since_ps = place, now_ps
        if place == len(CHAIN) - 1:
            self._end(now_ps)

    def _end(self, now_ps: int) -> None:
        self._place = -1
        if self.skipped:
            self.skipped -= 1
            return
        if self.trips == self.counted:
            return
        self.trips += 1
        self.total_ps += now_ps - self._begun_ps
        for hop, spent_ps in self._spent_ps:
            self.sums_ps[hop] = self.sums_ps.get(hop, 0) + spent_ps


class HostStamps:
    """What a NIC and the VMM of one host tell: hands each stamp to its flow. VIF `first` is of flow 0, and so on."""

    def __init__(self, host: int, flows: Sequence[FlowHops], *, first: int = 0) -> None:
        self._host = host
        self._flows = {first + number: flow for number, flow in enumerate(flows)}

    def stamp(self, vif_number: int, hop: str, now_ps: int) -> None:
        """A VIF of no flow is a driver domain's own."""
        flow = self._flows.get(vif_number)
        if flow is not None:
            flow.stamp(self._host, hop, now_ps)


def mean_hops_ns(flows: Sequence[FlowHops], mean_round_trip_ns: float) -> dict[str, float]:
    """Nanoseconds of an average round trip by hop; they sum to `mean_round_trip_ns`, which the guests measured."""
    trips = sum(flow.trips for flow in flows)
    if not trips:
        return {}
    means = {hop: sum(flow.sums_ps.get(hop, 0) for flow in flows) / trips / 1000 for hop in HOPS[:-1]}
    return means | {ENDS: mean_round_trip_ns - sum(means.values())}
