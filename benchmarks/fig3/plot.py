"""The plot of `sidecore bench fig3`: for each operation a bar by VM exit and one by sidecall, made of their parts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.fig3.measure import pairs
from benchmarks.harness.parts import GUEST_PART, PARTS, parts
from benchmarks.harness.plotting import COLOURS
from benchmarks.harness.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR_WIDTH = 0.38


def draw(figure: "Figure", all_results: Sequence[Results], names: Sequence[str]) -> None:
    """A panel for each profile."""
    figure.set_size_inches(1.5 + 5 * len(all_results), 4)
    panels = figure.subplots(1, len(all_results), squeeze=False)[0]
    for axes, results in zip(panels, all_results, strict=True):
        draw_panel(axes, results, names)
    panels[0].set_ylabel("cycles (median, IQR)")
    panels[0].legend(loc="upper right", fontsize=7)


def draw_panel(axes: "Axes", results: Results, names: Sequence[str]) -> None:
    """The bars of one profile; from the left: VM exit, sidecall; above them what is gained."""
    shown = list(pairs(results, names))
    sides = [side for pair in shown for side in (pair.exit, pair.sidecall)]
    places = [place + shift for place in range(len(shown)) for shift in (-BAR_WIDTH / 2, BAR_WIDTH / 2)]
    splits = [parts(side.account) for side in sides]
    bottom = [0.0] * len(sides)
    for colour, part in zip(COLOURS, (*PARTS, GUEST_PART), strict=False):
        heights = [split[part] for split in splits]
        axes.bar(places, heights, BAR_WIDTH, bottom=bottom, color=colour, edgecolor="white", linewidth=0.4, label=part)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    rows = [side.measurement for side in sides]
    medians = [row.median for row in rows]
    below = [row.median - row.quartiles[0] for row in rows]
    above = [row.quartiles[1] - row.median for row in rows]
    axes.errorbar(places, medians, yerr=(below, above), fmt="none", ecolor="black", capsize=2)
    for place, pair in enumerate(shown):
        top = max(pair.exit.measurement.median, pair.sidecall.measurement.median)
        axes.text(place, top, f"{-round(pair.improvement, 2) + 0.0:+.0%}\n", ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(shown)), [pair.text.replace(", ", "\n") for pair in shown])
    axes.set_title(results.run.profile)
