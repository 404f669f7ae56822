"""What all plots share: style, colours, and how one becomes a file. Matplotlib is imported when something is drawn."""

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOT_SUFFIXES = (".png", ".svg")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 150,
    "svg.hashsalt": "sidecore",  # else the names inside an SVG differ from run to run
}
# Okabe and Ito's colours, which everybody can tell apart, and two more.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999", "#000000", "#7F3C8D")
MARKERS = "osD^v<>PX*"
LINES = ("-", "--", ":", "-.")


def plot_bytes(draw: Callable[["Figure"], None], suffix: str) -> bytes:
    """The file of a plot; the same for the same figures. No display is needed."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    data = BytesIO()
    with mpl.rc_context(STYLE):
        figure = Figure(layout="constrained")
        draw(figure)
        figure.savefig(data, format=suffix[1:], metadata={"Date": None} if suffix == ".svg" else None)
    return data.getvalue()
