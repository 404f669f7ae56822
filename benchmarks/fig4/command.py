"""`sidecore bench fig4`: measures, prints the tables, writes the files."""

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.fig4.map import regimes
from benchmarks.fig4.measure import measure
from benchmarks.fig4.plot import draw
from benchmarks.fig4.results import PointResult, pool
from benchmarks.fig4.setup import Setup
from benchmarks.fig4.tables import map_table, tables
from benchmarks.harness.outputs import Outputs
from benchmarks.harness.text import show_titled
from vmm.cli.output import say

NAME = "fig4"


def measure_and_report(setup: Setup, counts: Sequence[int], outputs: Outputs, *, phases: int, has_map: bool) -> None:
    """Each count of guests without and with a sidecore, from so many phases of the flows. Raises ConfigError.

    With a map, every regime at the last count.

    Ctrl-C shows and writes what is done, and is passed on.
    """
    outputs.check()
    points = points_of(setup, counts)
    named = list(regimes(replace(setup, guests=counts[-1]))) if has_map else []
    wanted = list(dict.fromkeys([*points, *(point for _, *pair in named for point in pair)]))
    found: dict[Setup, list[PointResult]] = {}
    interrupted: KeyboardInterrupt | None = None
    try:
        for result in measure([replace(point, phase=phase) for point in wanted for phase in range(phases)]):
            found.setdefault(replace(result.setup, phase=0), []).append(result)
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
    rows = [row for result in pooled.values() for row in result.rows()]
    outputs.write(NAME, rows, (lambda figure: draw(figure, results)) if results else None)
    if interrupted is not None:
        raise interrupted


def points_of(setup: Setup, counts: Sequence[int]) -> list[Setup]:
    """Without a sidecore, then with as many as `setup` has, at least one."""
    with_one = replace(setup, sidecores=max(1, setup.sidecores))
    return [replace(each, guests=count) for each in (replace(setup, sidecores=0), with_one) for count in counts]
