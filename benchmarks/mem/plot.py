"""The plot of `sidecore bench mem`: latency by size, what the TLBs do not hold, bandwidth.

Of one profile every way of paging is a line, with all strides; of many, each way of paging has a row of panels and each
profile a line.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.harness.curves import LINE_BYTES, Curve, latency_curve, strides, translation_curve
from benchmarks.harness.plotting import COLOURS, LINES
from benchmarks.harness.results import Results
from benchmarks.mem.measure import STREAMS, bandwidth_curve, run_names
from emulator.profiles.profile import load_profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_INCHES = (5.2, 4.2)


def draw(figure: "Figure", all_results: Sequence[Results]) -> None:
    """Draw the results."""
    profiles = list(dict.fromkeys(results.run.profile for results in all_results))
    if len(profiles) == 1:
        rows = {profiles[0]: list(all_results)}
    else:
        rows = {}
        for results in all_results:
            rows.setdefault(results.run.paging, []).append(results)
    figure.set_size_inches(3 * PANEL_INCHES[0], len(rows) * PANEL_INCHES[1])
    is_one_profile = len(profiles) == 1
    for panels, (title, row) in zip(figure.subplots(len(rows), 3, squeeze=False), rows.items(), strict=True):
        draw_latency(panels[0], row, all_strides=is_one_profile)
        draw_translation(panels[1], row)
        draw_bandwidth(panels[2], row)
        if is_one_profile:
            mark_capacities(panels, row[0])
        for axes in panels:
            axes.set_title(f"{axes.get_title()} ({title})")


def draw_latency(axes: "Axes", all_results: Sequence[Results], *, all_strides: bool) -> None:
    """Latency of a load by the size of the ring; a line style for each stride."""
    for colour, name, results in zip(COLOURS, run_names(all_results), all_results, strict=False):
        for line, stride in zip(LINES, strides(results) if all_strides else [LINE_BYTES], strict=False):
            label = f"{name}, stride {stride}" if all_strides else name
            _plot(axes, latency_curve(results, stride), line, colour, label)
    _scale(axes, "size of the ring (bytes)")
    axes.set_yscale("log")
    axes.set_ylabel("cycles of a load")
    axes.set_title("Latency")
    axes.legend(fontsize=7)
    frequencies_hz = {results.frequency_hz for results in all_results}
    if len(frequencies_hz) == 1:
        _add_nanoseconds(axes, frequencies_hz.pop())


def _add_nanoseconds(axes: "Axes", frequency_hz: int) -> None:
    """A second scale at the right."""

    def to_ns(cycles: Any) -> Any:
        return cycles * 1e9 / frequency_hz

    def to_cycles(ns: Any) -> Any:
        return ns * frequency_hz / 1e9

    axes.secondary_yaxis("right", functions=(to_ns, to_cycles)).set_ylabel("ns")


def draw_translation(axes: "Axes", all_results: Sequence[Results]) -> None:
    """What a load takes longer when each line is on a page of its own, by the number of pages."""
    for colour, name, results in zip(COLOURS, run_names(all_results), all_results, strict=False):
        _plot(axes, translation_curve(results), "o-", colour, name)
    _scale(axes, "4 KiB pages")
    axes.set_ylabel("cycles of a load beyond those of its line")
    axes.set_title("Address translation")
    axes.legend(fontsize=7)


def draw_bandwidth(axes: "Axes", all_results: Sequence[Results]) -> None:
    """Bytes per cycle by size; a line style for each stream."""
    for colour, name, results in zip(COLOURS, run_names(all_results), all_results, strict=False):
        for line, stream in zip(LINES, STREAMS, strict=False):
            _plot(axes, bandwidth_curve(results, stream), line, colour, f"{name}, {stream}")
    _scale(axes, "size (bytes; a copy has as many again to go to)")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("bytes per cycle")
    axes.set_title("Bandwidth")
    axes.legend(fontsize=6, ncols=2)


def mark_capacities(panels: "Sequence[Axes]", results: Results) -> None:
    """Dotted lines where the profile's caches and TLBs are full."""
    profile = load_profile(results.run.profile, results.run.overrides)
    caches = {level: getattr(profile.caches, f"{level}_size_bytes") for level in ("l1d", "l2", "l3")}
    tlbs = {"dtlb": profile.tlb.dtlb_4k_entries, "stlb": profile.tlb.stlb_entries}
    for axes, capacities in zip(panels, (caches, tlbs, caches), strict=True):
        for name, capacity in capacities.items():
            if capacity:
                axes.axvline(capacity, color="black", linestyle=":", linewidth=0.8)
                axes.text(capacity, 0.02, f" {name.upper()}", transform=axes.get_xaxis_transform(), fontsize=7)


def _plot(axes: "Axes", curve: Curve, line: str, colour: str, label: str) -> None:
    axes.plot(list(curve), list(curve.values()), line, color=colour, label=label, markersize=3, linewidth=1.2)


def _scale(axes: "Axes", label: str) -> None:
    """Powers of two, as 4K, 64K, 1M."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(base=4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power_text(int(value))))
    axes.set_xlabel(label)


def power_text(value: int) -> str:
    """4096 as 4K, 1 << 20 as 1M."""
    for suffix, shift in (("M", 20), ("K", 10)):
        if value >> shift:
            return f"{value >> shift}{suffix}"
    return str(value)
