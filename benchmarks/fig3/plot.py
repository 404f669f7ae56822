"""The plot of `sidecore bench fig3`: for each operation a bar by VM exit and one by sidecall, made of their parts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.harness.pair_plot import draw_panels
from benchmarks.harness.pairs import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(figure: "Figure", compared: Sequence[Comparison]) -> None:
    """A panel for each profile; above the bars what is gained."""
    figure.set_size_inches(1.5 + 5 * len(compared), 4)
    panels = draw_panels(figure, compared, legend_place="upper right")
    for axes, comparison in zip(panels, compared, strict=True):
        for place, pair in enumerate(comparison.pairs):
            top = max(side.value for side in pair.sides)
            gain = -round(pair.improvement, 2) + 0.0  # never -0
            axes.text(place, top, f"{gain:+.0%}\n", ha="center", va="center", fontsize=7)
        axes.set_xticks(range(len(comparison.pairs)), [pair.text.replace(", ", "\n") for pair in comparison.pairs])
