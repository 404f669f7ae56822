"""The tables of `sidecore bench mem`: latency, TLB reach and bandwidth; runs stand beside each other."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.harness.curves import Curve, latency_curve, page_curve, translation_curve
from benchmarks.harness.measurements import nanoseconds
from benchmarks.harness.results import Results
from benchmarks.harness.text import tenths_text
from benchmarks.mem.measure import STREAMS, bandwidth_curve, run_names
from vmm.boot.loaders.memory_size import size_text
from vmm.cli.output import list_table

if TYPE_CHECKING:
    from rich.table import Table

Column = tuple[str, Mapping[int, str]]  # heading, text by row


def tables(all_results: Sequence[Results]) -> list[tuple[str, "Table"]]:
    """(title, table) of latency, TLB reach and bandwidth; runs stand beside each other."""
    latency = _columns(all_results, latency_curve, tenths_text)
    if len(all_results) == 1:
        hz, curve = all_results[0].frequency_hz, latency_curve(all_results[0])
        latency.append(("ns", {size: f"{nanoseconds(cycles, hz):.1f}" for size, cycles in curve.items()}))
    pages = _columns(all_results, page_curve, tenths_text)
    beyond = _columns(all_results, translation_curve, tenths_text, "beyond")
    pages = [column for pair in zip(pages, beyond, strict=True) for column in pair]
    streams = [_columns(all_results, partial(bandwidth_curve, stream=name), "{:.2f}".format, name) for name in STREAMS]
    bandwidth = [column for columns in zip(*streams, strict=True) for column in columns]
    where = _common_text(all_results)
    return [
        (f"Latency, {where}: cycles of a load, by the size of a ring of lines", _table("Size", latency, size_text)),
        (
            f"TLB reach, {where}: cycles of a load with one line on each page; beyond those of lines side by side",
            _table("Pages", pages, "{:,}".format),
        ),
        (f"Bandwidth, {where}: bytes per cycle", _table("Size", bandwidth, size_text)),
    ]


def _columns(
    all_results: Sequence[Results], curve: Callable[[Results], Curve], text: Callable[[float], str], what: str = ""
) -> list[Column]:
    pairs = zip(run_names(all_results), all_results, strict=True)
    return [(f"{name} {what}".strip(), {x: text(y) for x, y in curve(results).items()}) for name, results in pairs]


def _table(first: str, columns: Sequence[Column], text: Callable[[int], str]) -> "Table":
    headings = [heading for heading, _ in columns]
    table = list_table(first, *headings, right=(first, *headings))
    for x in columns[0][1]:
        table.add_row(text(x), *(column[x] for _, column in columns))
    return table


def _common_text(all_results: Sequence[Results]) -> str:
    profiles = {results.run.profile for results in all_results}
    pagings = {results.run.paging for results in all_results}
    common = [next(iter(names)) for names in (profiles, pagings) if len(names) == 1]
    return ", ".join([*common, f"{all_results[0].run.timing} timing"])
