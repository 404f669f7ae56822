"""`sidecore bench mem`: what memory costs a guest: latency by size and stride, TLB reach, bandwidth.

    guest kernel `mem` --lines--> Results of each (profile, paging) --> tables, figures for a file, mem_plot

As LMbench measures it: `lat_mem_rd` is a ring of pointers walked backward, `tlb` one line on each of many pages,
`bw_mem` 64-bit words in order. What a page costs beyond a cache line is the difference between a ring over pages and
a ring over as many lines that lie side by side.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.harness.curves import Curve, latency_curve, page_curve, translation_curve
from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.measurements import nanoseconds
from benchmarks.harness.outputs import Outputs
from benchmarks.harness.results import Results, Run
from benchmarks.harness.text import show_titled, tenths_text
from vmm.boot.loaders.memory_size import size_text
from vmm.cli.profiles import make_table

if TYPE_CHECKING:
    from rich.table import Table

IMAGE = "mem"
STREAMS = ("read", "write", "copy")


def measure_and_report(runs: Sequence[Run], outputs: Outputs) -> None:
    """Run them, print the tables, write the files. Raises ConfigError."""
    outputs.check()
    all_results = run_all(runs)
    for title, table in tables(all_results):
        show_titled(title, table)
    from benchmarks.mem.plot import draw

    outputs.write(figures(all_results), lambda figure: draw(figure, all_results))


# --- curves -------------------------------------------------------------------------------------------------------


def bandwidth_curve(results: Results, stream: str) -> Curve:
    """Bytes per cycle, by the size in bytes; `stream` is one of STREAMS."""
    return {row.parameters[0]: 1 / row.median for row in results.named(f"{stream}_bandwidth")}


# --- tables -------------------------------------------------------------------------------------------------------

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
    table = make_table(first, *headings, right=(first, *headings))
    for x in columns[0][1]:
        table.add_row(text(x), *(column[x] for _, column in columns))
    return table


def run_names(all_results: Sequence[Results]) -> list[str]:
    """What tells the runs apart: the profile, the way of paging, or both."""
    profiles = {results.run.profile for results in all_results}
    pagings = {results.run.paging for results in all_results}
    if len(profiles) == 1:
        return [results.run.paging for results in all_results]
    if len(pagings) == 1:
        return [results.run.profile for results in all_results]
    return [f"{results.run.profile} {results.run.paging}" for results in all_results]


def _common_text(all_results: Sequence[Results]) -> str:
    profiles = {results.run.profile for results in all_results}
    pagings = {results.run.paging for results in all_results}
    common = [next(iter(names)) for names in (profiles, pagings) if len(names) == 1]
    return ", ".join([*common, f"{all_results[0].run.timing} timing"])


# --- files --------------------------------------------------------------------------------------------------------


def figures(all_results: Sequence[Results]) -> dict[str, Any]:
    """All of it for a file: each curve as a list of points."""
    return {"benchmark": IMAGE, "runs": [_run_figures(results) for results in all_results]}


def _run_figures(results: Results) -> dict[str, Any]:
    hz = results.frequency_hz
    latency = [
        {**dict(zip(("size_bytes", "stride_bytes"), row.parameters, strict=True)), **row.statistics(hz)}
        for row in results.named("load_latency")
    ]
    beyond = translation_curve(results)
    pages = [
        {"pages": count, "beyond_a_line_cycles": beyond[count], **row.statistics(hz)}
        for row in results.named("page_latency")
        for count in row.parameters
    ]
    bandwidth = [
        {"stream": stream, "size_bytes": size, "bytes_per_cycle": rate, "bytes_per_second": round(rate * hz)}
        for stream in STREAMS
        for size, rate in bandwidth_curve(results, stream).items()
    ]
    curves = {"load_latency": latency, "page_latency": pages, "bandwidth": bandwidth}
    return results.run.facts() | {"frequency_hz": hz} | curves
