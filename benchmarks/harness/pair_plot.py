"""Draws operations by VM exit and by sidecall: two bars for each, made of their parts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.harness.pairs import Comparison, Pair
from benchmarks.harness.parts import GUEST_PART, PARTS, parts
from benchmarks.harness.plotting import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR_WIDTH = 0.38


def draw_panels(figure: "Figure", compared: Sequence[Comparison], *, legend_place: str) -> "list[Axes]":
    """A panel for each profile, returned with its bars, titles and the legend."""
    panels = list(figure.subplots(1, len(compared), squeeze=False)[0])
    for axes, comparison in zip(panels, compared, strict=True):
        draw_bars(axes, comparison.pairs)
        axes.set_title(comparison.results.run.profile)
    panels[0].set_ylabel("cycles (median, IQR)")
    panels[0].legend(loc=legend_place, fontsize=7)
    return panels


def draw_bars(axes: "Axes", pairs: Sequence[Pair]) -> None:
    """From the left: VM exit, sidecall; with the inter-quartile range."""
    sides = [side for pair in pairs for side in pair.sides]
    places = [place + shift for place in range(len(pairs)) for shift in (-BAR_WIDTH / 2, BAR_WIDTH / 2)]
    splits = [parts(side.account) for side in sides]
    bottom = [0.0] * len(sides)
    for colour, part in zip(COLOURS, (*PARTS, GUEST_PART), strict=False):
        heights = [split[part] for split in splits]
        axes.bar(places, heights, BAR_WIDTH, bottom=bottom, color=colour, edgecolor="white", linewidth=0.4, label=part)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    medians = [side.value for side in sides]
    below = [side.value - side.spread.quartiles[0] for side in sides]
    above = [side.spread.quartiles[1] - side.value for side in sides]
    axes.errorbar(places, medians, yerr=(below, above), fmt="none", ecolor="black", capsize=2)
