"""The plot of `sidecore bench fig1`: for each operation a bar by VM exit and one by sidecall, made of their parts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.harness.pair_plot import draw_panels
from benchmarks.harness.pairs import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(figure: "Figure", compared: Sequence[Comparison]) -> None:
    """A panel for each profile."""
    figure.set_size_inches(1 + 3.4 * len(compared), 4)
    panels = draw_panels(figure, compared, legend_place="upper left")
    for axes, comparison in zip(panels, compared, strict=True):
        axes.set_xticks(range(len(comparison.pairs)), [pair.text.replace(" ", "\n", 1) for pair in comparison.pairs])
