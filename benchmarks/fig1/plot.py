"""The plot of `sidecore bench fig1`: for each operation a bar by VM exit and one by sidecall, made of their parts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.fig1.measure import BARS, account_of, measurement
from benchmarks.harness.parts import GUEST_PART, PARTS, parts
from benchmarks.harness.plotting import COLOURS
from benchmarks.harness.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR_WIDTH = 0.38


def draw(figure: "Figure", all_results: Sequence[Results]) -> None:
    """A panel for each profile."""
    figure.set_size_inches(1 + 3.4 * len(all_results), 4)
    panels = figure.subplots(1, len(all_results), squeeze=False)[0]
    for axes, results in zip(panels, all_results, strict=True):
        draw_panel(axes, results)
    panels[0].set_ylabel("cycles (median, IQR)")
    panels[0].legend(loc="upper left", fontsize=7)


def draw_panel(axes: "Axes", results: Results) -> None:
    """The bars of one profile; from the left: VM exit, sidecall."""
    places, names = [], []
    for place, (exit_name, call_name, _) in enumerate(BARS):
        places += [place - BAR_WIDTH / 2, place + BAR_WIDTH / 2]
        names += [exit_name, call_name]
    bottom = [0.0] * len(names)
    splits = [parts(account_of(results, name)) for name in names]
    for colour, part in zip(COLOURS, (*PARTS, GUEST_PART), strict=False):
        heights = [split[part] for split in splits]
        axes.bar(places, heights, BAR_WIDTH, bottom=bottom, color=colour, edgecolor="white", linewidth=0.4, label=part)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    rows = [measurement(results, name) for name in names]
    below = [row.median - row.quartiles[0] for row in rows]
    above = [row.quartiles[1] - row.median for row in rows]
    medians = [row.median for row in rows]
    axes.errorbar(places, medians, yerr=(below, above), fmt="none", ecolor="black", capsize=2)
    axes.set_xticks(range(len(BARS)), [text.replace(" ", "\n", 1) for _, _, text in BARS])
    axes.set_title(results.run.profile)
