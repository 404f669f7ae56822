"""The plot of `sidecore bench fig4`: round trips by the number of guests, as in the paper, and a round trip's hops."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.fig4.hops import HOPS
from benchmarks.fig4.results import PointResult
from benchmarks.harness.plotting import COLOURS, LINES, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(figure: "Figure", results: Sequence[PointResult]) -> None:
    """Left medians with their inter-quartile ranges, right stacked hops."""
    figure.set_size_inches(11, 4.5)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    _draw_round_trips(left, results)
    _draw_hops(right, results)


def _draw_round_trips(axes: "Axes", results: Sequence[PointResult]) -> None:
    for number, name in enumerate(dict.fromkeys(result.setup.signals for result in results)):
        points = sorted((r for r in results if r.setup.signals == name), key=lambda r: r.setup.guests)
        medians = [point.median_us for point in points]
        below = [point.median_us - point.quantile_us(0.25) for point in points]
        above = [point.quantile_us(0.75) - point.median_us for point in points]
        axes.errorbar(
            [point.setup.guests for point in points],
            medians,
            yerr=(below, above),
            label=name,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            linestyle=LINES[number % len(LINES)],
            capsize=3,
        )
    axes.set_xlabel("guests on each host")
    axes.set_ylabel("round trip (us): median, inter-quartile range")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")


def _draw_hops(axes: "Axes", results: Sequence[PointResult]) -> None:
    places = range(len(results))
    bottoms = [0.0] * len(results)
    for number, hop in enumerate(HOPS):
        heights = [result.hops_ns.get(hop, 0.0) / 1000 for result in results]
        hatch = "" if number < len(COLOURS) else "//"
        axes.bar(places, heights, bottom=bottoms, label=hop, color=COLOURS[number % len(COLOURS)], hatch=hatch)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    labels = [f"{result.setup.signals}\nn = {result.setup.guests}" for result in results]
    axes.set_xticks(places, labels, rotation=90 if len(results) > 4 else 0, fontsize=7)
    axes.set_ylabel("an average round trip, by hop (us)")
    axes.legend(fontsize=7, bbox_to_anchor=(1.0, 1.0), loc="upper left")
