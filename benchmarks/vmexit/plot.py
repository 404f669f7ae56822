"""The plot of `sidecore bench vmexit`.

One profile:   bars per operation, one for each way of paging (log scale), above what they consist of (the ledger).
Many profiles: a panel for each way of paging, with a line for each operation that leaves the guest.
"""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from benchmarks.harness.plotting import COLOURS, MARKERS
from benchmarks.harness.results import Results
from benchmarks.vmexit.measure import OPERATIONS, categories_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUP_WIDTH = 0.8  # of the room of an operation


def draw(figure: "Figure", all_results: Sequence[Results]) -> None:
    """Draw the results."""
    if len({results.run.profile for results in all_results}) == 1:
        figure.set_size_inches(9, 7.5)
        bars, accounts = figure.subplots(2, 1, sharex=True)
        draw_bars(bars, all_results)
        draw_accounts(accounts, all_results)
    else:
        draw_panels(figure, all_results)


def draw_panels(figure: "Figure", all_results: Sequence[Results]) -> None:
    """A panel for each way of paging, with one legend for all."""
    pagings = list(dict.fromkeys(results.run.paging for results in all_results))
    figure.set_size_inches(3 + 3.5 * len(pagings), 5.5)
    panels = figure.subplots(1, len(pagings), sharey=True, squeeze=False)[0]
    for axes, paging in zip(panels, pagings, strict=True):
        draw_profiles(axes, [results for results in all_results if results.run.paging == paging])
    panels[0].set_ylabel("cycles of one operation (median)")
    lines = {line.get_label(): line for axes in panels for line in axes.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside right center", fontsize=7)


def draw_bars(axes: "Axes", all_results: Sequence[Results]) -> None:
    """Medians with the inter-quartile range, for each operation and way of paging."""
    width = GROUP_WIDTH / len(all_results)
    for number, results in enumerate(all_results):
        rows = results.by_name()
        places = [place for place, name in enumerate(OPERATIONS) if name in rows]
        medians = [rows[name].value for name in OPERATIONS if name in rows]
        spreads = [rows[name].spread.quartiles for name in OPERATIONS if name in rows]
        below = [median - low for median, (low, _) in zip(medians, spreads, strict=True)]
        above = [high - median for median, (_, high) in zip(medians, spreads, strict=True)]
        left = [place - GROUP_WIDTH / 2 + (number + 0.5) * width for place in places]
        style: dict[str, Any] = {"color": COLOURS[number], "edgecolor": "white", "linewidth": 0.4, "capsize": 1.5}
        axes.bar(left, medians, width, yerr=(below, above), label=results.run.paging, **style)
    axes.set_yscale("log")
    axes.set_ylabel("cycles of one operation (median, IQR)")
    axes.set_title(f"Operations in a guest on {all_results[0].run.profile}, {all_results[0].run.timing} timing")
    axes.margins(y=0.15)
    axes.legend(ncols=len(all_results), loc="upper left")


def draw_accounts(axes: "Axes", all_results: Sequence[Results]) -> None:
    """What the bars consist of, by category of the ledger; the same order of bars."""
    width = GROUP_WIDTH / len(all_results)
    accounts = [{name: row.account for name, row in results.by_name().items()} for results in all_results]
    categories = categories_of(row for rows in accounts for row in rows.values())
    bars = [(place, number) for place in range(len(OPERATIONS)) for number in range(len(accounts))]
    rows = [accounts[number].get(list(OPERATIONS)[place]) for place, number in bars]
    left = [place - GROUP_WIDTH / 2 + (number + 0.5) * width for place, number in bars]
    bottom = [0.0] * len(bars)
    for colour, category in zip(cycle(COLOURS), categories, strict=False):
        heights = [row.cycles.get(category, 0) if row else 0 for row in rows]
        axes.bar(left, heights, width, bottom=bottom, color=colour, edgecolor="white", linewidth=0.4, label=category)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    names = ", ".join(results.run.paging for results in all_results)
    axes.set_ylabel("cycles of one operation (ledger)")
    axes.set_title(f"Where they went (from the left: {names})")
    axes.set_xticks(range(len(OPERATIONS)), list(OPERATIONS), rotation=45, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(OPERATIONS) - 0.4)
    axes.legend(ncols=3, loc="upper left")


def draw_profiles(axes: "Axes", all_results: Sequence[Results]) -> None:
    """A line for each operation across the profiles; under a VMM, only of those that leave the guest."""
    profiles = [results.run.profile for results in all_results]
    measured = [named for results in all_results for named in results.by_name().items()]
    leaving = {name for name, row in measured if row.account.exits} or {name for name, _ in measured}
    for number, name in enumerate(OPERATIONS):
        if name in leaving:
            rows = [results.by_name().get(name) for results in all_results]
            medians = [row.value if row else float("nan") for row in rows]
            line, marker = "-" if number < len(COLOURS) else "--", MARKERS[number % len(MARKERS)]
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(profiles, medians, line, marker=marker, markersize=4, color=colour, label=name)
    axes.set_yscale("log")
    axes.set_title(all_results[0].run.paging)
    axes.set_xticks(range(len(profiles)), profiles, rotation=45, ha="right", rotation_mode="anchor")
