"""Results of points of Figure 4, made up: for tests of what is computed and shown from them."""

from benchmarks.fig4.hops import HOPS
from benchmarks.fig4.results import HostFigures, PointResult
from benchmarks.fig4.setup import Setup

USES = {"guest": 0.5, "VMM": 0.2, "sidecalls": 0.0, "spin": 0.0, "idle": 0.3}


def host(packets: int = 100, redundant: int = 0) -> HostFigures:
    return HostFigures(packets, packets + redundant, redundant, redundant // 2, 0, (USES, USES))


def point(setup: Setup, *flows: tuple[int, ...], redundant: int = 0) -> PointResult:
    """Its round trips are `flows`, at 1 GHz."""
    samples = [sample for flow in flows for sample in flow]
    hops_ns = dict.fromkeys(HOPS, sum(samples) / len(samples) / len(HOPS))
    return PointResult(setup, 10**9, flows, 0, (host(redundant=redundant), host()), hops_ns, 0.5)
