"""The end-of-run summary for the terminal, and the statistics file, both from `stats.RunStats`.

The exit table has the columns of `perf kvm stat report` (tools/perf/Documentation/perf-kvm.txt in Linux), and where
there is room for them cycles, which perf cannot know, with the 50th, 90th and 99th percentile. Time% is the share of
the time in exits, as there.
"""

import json
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.segment import Segments
from rich.table import Table
from rich.text import Text

from vmm.session.output_file import write_output
from vmm.session.report.core_use import cores_table, duty_lines
from vmm.session.report.tables import make_table, natural_order, percent_text
from vmm.session.stats import RunStats

US_PER_SECOND = 10**6
WITH_CYCLES_MIN_COLUMNS = 140  # a terminal this wide has room for cycles beside perf's columns
UNLIMITED_COLUMNS = 10_000
CYCLE_HEADINGS = ("Cycles", "Avg cycles", "p50", "p90", "p99")


def print_summary(stats: RunStats, console: Console, instructions_before: int = 0) -> None:
    """Print the end-of-run summary. Figures are never cut: a terminal too narrow even for perf's columns wraps them.

    `instructions_before`: those of `stats` that a snapshot had when this run went on from it.
    """
    with_cycles = not console.is_terminal or console.width >= WITH_CYCLES_MIN_COLUMNS
    options = console.options.update(width=UNLIMITED_COLUMNS)
    summary = render_summary(stats, instructions_before, with_cycles=with_cycles)
    console.print(Segments(console.render(summary, options)), crop=False)


def render_summary(stats: RunStats, instructions_before: int, *, with_cycles: bool) -> RenderableType:
    """Exit table, ledger, totals; a table without rows is left out."""
    parts: list[RenderableType] = []
    if stats["exits"]:
        parts += [exit_table(stats, with_cycles=with_cycles), ""]
    if stats["ledger"]:
        parts += [ledger_table(stats), ""]
    if len(stats["accounts"]) > 1:
        parts += [cores_table(stats), *duty_lines(stats), ""]
    return Group(*parts, totals_table(stats, instructions_before))


def exit_table(stats: RunStats, *, with_cycles: bool) -> Table:
    """VM exits by the time they took, most first; equal times by name."""
    all_count = sum(row["count"] for row in stats["exits"].values())
    all_cycles = sum(row["cycles"] for row in stats["exits"].values())
    hz = stats["frequency_hz"]
    headings = ("Samples", "Samples%", "Time%", "Min Time", "Max Time", "Avg time")
    table = make_table("VM exits", "VM-EXIT", *headings, *(CYCLE_HEADINGS if with_cycles else ()))

    def add_row(name: str, count: int, cycles: int, min_text: str, max_text: str, *percentiles: int) -> None:
        shares = (percent_text(count, all_count), percent_text(cycles, all_cycles))
        in_cycles: tuple[str, ...] = ()
        if with_cycles:
            in_cycles = (f"{cycles:,}", _ratio_text(cycles, count, digits=1), *(f"{p:,}" for p in percentiles))
        table.add_row(Text(name), str(count), *shares, min_text, max_text, _us_text(cycles, count, hz), *in_cycles)

    for name, row in sorted(stats["exits"].items(), key=lambda item: (-item[1]["cycles"], item[0])):
        limits = (_us_text(row["min_cycles"], 1, hz), _us_text(row["max_cycles"], 1, hz))
        percentiles = (row["p50_cycles"], row["p90_cycles"], row["p99_cycles"])
        add_row(name, row["count"], row["cycles"], *limits, *percentiles)
    add_row("Total", all_count, all_cycles, "", "")
    return table


def ledger_table(stats: RunStats) -> Table:
    """Where every cycle of each pCPU went: a row per category that has any, most expensive first."""
    pcpus = sorted(stats["ledger"], key=natural_order)
    all_cycles = sum(sum(categories.values()) for categories in stats["ledger"].values())
    by_category: dict[str, int] = {}
    for categories in stats["ledger"].values():
        for category, cycles in categories.items():
            by_category[category] = by_category.get(category, 0) + cycles
    table = make_table("Cycle ledger", "Category", "Cycles%", *pcpus)
    spent = (category for category in by_category if by_category[category])
    for category in sorted(spent, key=lambda name: (-by_category[name], name)):
        cells = (f"{stats['ledger'][pcpu].get(category, 0):,}" for pcpu in pcpus)
        table.add_row(Text(category), percent_text(by_category[category], all_cycles), *cells)
    sums = (f"{sum(stats['ledger'][pcpu].values()):,}" for pcpu in pcpus)
    table.add_row("Total", percent_text(all_cycles, all_cycles), *sums)
    return table


def totals_table(stats: RunStats, instructions_before: int = 0) -> Table:
    """Cycles, instructions, both kinds of seconds, and the emulator's speed."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for value, what in total_lines(stats, instructions_before):
        table.add_row(value, what)
    return table


def total_lines(stats: RunStats, instructions_before: int = 0) -> tuple[tuple[str, str], ...]:
    """(value, what) of each line below the tables. MIPS are of this run, the others of the guest's whole life."""
    host_seconds = stats["host_seconds"]
    executed = stats["instructions"] - instructions_before
    mips = f"{executed / host_seconds / 1e6:.1f}" if host_seconds > 0 else "-"
    return (
        (f"{stats['cycles']:,}", f"cycles ({stats['frequency_hz'] / 1e6:,.0f} MHz)"),
        (f"{stats['instructions']:,}", "instructions"),
        (f"{stats['guest_seconds']:.6f}", "guest seconds"),
        (f"{host_seconds:.2f}", "workstation seconds"),
        (mips, "MIPS"),
    )


def _us_text(cycles: int, count: int, frequency_hz: int) -> str:
    """`cycles` / `count` in microseconds of guest-platform time; hundredths would drown in 10 ms and more."""
    part, whole = cycles * US_PER_SECOND, count * frequency_hz
    return _ratio_text(part, whole, digits=2 if part < 10_000 * whole else 0, unit="us")


def _ratio_text(part: int, whole: int, *, digits: int, unit: str = "") -> str:
    """`part` / `whole` with `digits` decimals, rounded half up."""
    if whole == 0:
        return "-"
    scale = 10**digits
    scaled = (2 * part * scale + whole) // (2 * whole)
    return f"{scaled // scale}{f'.{scaled % scale:0{digits}}' if digits else ''}{unit}"


def stats_json(stats: RunStats) -> str:
    """The statistics file: sorted keys, one newline at the end. Raises ValueError for NaN, which JSON cannot hold."""
    return json.dumps(stats, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_stats(path: Path, stats: RunStats) -> None:
    """Write `stats` to `path` as `write_output` does."""
    write_output(path, stats_json(stats))
