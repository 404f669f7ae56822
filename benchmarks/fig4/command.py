"""`sidecore bench fig4`: measures, prints the tables, writes the files."""

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.fig4.isolation import Isolation, isolation_ways, measure_isolation
from benchmarks.fig4.map import regimes
from benchmarks.fig4.measure import measure
from benchmarks.fig4.plot import draw
from benchmarks.fig4.results import PointResult, pool
from benchmarks.fig4.setup import LINUX_IMAGE, Setup
from benchmarks.fig4.tables import carriers_table, isolation_table, map_table, tables
from benchmarks.fig4.throughput import FRAME_BYTES, Throughput, carriers, measure_throughputs
from benchmarks.harness.outputs import Outputs
from benchmarks.harness.text import show_titled
from vmm.cli.output import say

NAME = "fig4"


def measure_and_report(
    setup: Setup,
    counts: Sequence[int],
    outputs: Outputs,
    *,
    phases: int,
    has_map: bool,
    has_carriers: bool,
    has_isolation: bool,
) -> None:
    """Each count of guests without and with a sidecore, from so many phases of the flows. Raises ConfigError.

    With a map, every regime at the last count; with carriers, the NIC beside driver domains there, and throughput; with
    isolation, what others' packets cost a guest that only computes.

    Ctrl-C shows and writes what is done, and is passed on.
    """
    outputs.check()
    points = points_of(setup, counts)
    named = list(regimes(replace(setup, guests=counts[-1]))) if has_map else []
    ways = carriers(replace(setup, guests=counts[-1])) if has_carriers else []
    if ways and all(way.carrier != "linux" for way in ways):
        say(f"the driver domain that is a Linux is left out; sidecore images build {LINUX_IMAGE} makes it, once")
    ways_of_isolation = isolation_ways(replace(setup, guests=counts[-1])) if has_isolation else []
    wanted = list(dict.fromkeys([*points, *(point for _, *pair in named for point in pair), *ways]))
    rates: list[Throughput] = []
    isolated: dict[Setup, Isolation] = {}
    found: dict[Setup, list[PointResult]] = {}
    interrupted: KeyboardInterrupt | None = None
    try:
        for result in measure([replace(point, phase=phase) for point in wanted for phase in range(phases)]):
            found.setdefault(replace(result.setup, phase=0), []).append(result)
        rates += measure_throughputs([(way, frame_bytes) for way in ways for frame_bytes in FRAME_BYTES])
        for each in measure_isolation(ways_of_isolation) if ways_of_isolation else ():
            isolated[each.setup] = each
    except KeyboardInterrupt as stop:
        interrupted = stop
        say(f"stopped: {sum(map(len, found.values()))} of {len(wanted) * phases} runs are done")
    pooled = {point: pool(results) for point, results in found.items()}
    results = [pooled[point] for point in points if point in pooled]
    if results:
        for title, table in tables(results):
            show_titled(title, table)
    done = [(name, pooled[one], pooled[two]) for name, one, two in named if one in pooled and two in pooled]
    if done:
        show_titled(*map_table(done))
    compared = [(pooled[way], [rate for rate in rates if rate.setup == way]) for way in ways if way in pooled]
    if compared:
        show_titled(*carriers_table(compared))
    if isolated:
        show_titled(*isolation_table([isolated[way] for way in ways_of_isolation if way in isolated]))
    rows = [row for each in isolated.values() for row in each.rows()]
    rows += [row for result in pooled.values() for row in result.rows()] + [
        row for rate in rates for row in rate.rows()
    ]
    outputs.write(NAME, rows, (lambda figure: draw(figure, results)) if results else None)
    if interrupted is not None:
        raise interrupted


def points_of(setup: Setup, counts: Sequence[int]) -> list[Setup]:
    """Without a sidecore, then with as many as `setup` has, at least one."""
    with_one = replace(setup, sidecores=max(1, setup.sidecores))
    return [replace(each, guests=count) for each in (replace(setup, sidecores=0), with_one) for count in counts]
