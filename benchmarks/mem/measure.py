"""What `sidecore bench mem` measures: what memory costs a guest: latency by size and stride, TLB reach, bandwidth.

    guest kernel `mem` --lines--> Results of each (profile, paging) --> curves by size and by pages, bytes per cycle

Latency and pages are rings, whose curves are in harness/curves.py: `profiles check` reads them, too. Bandwidth is that
of 64-bit words in order, as in LMbench's `bw_mem`.
"""

from collections.abc import Sequence
from typing import TypedDict

from benchmarks.harness.curves import Curve, translation_curve
from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.measurements import Statistics
from benchmarks.harness.results import BenchmarkFigures, Results, Run, RunFigures

IMAGE = "mem"
STREAMS = ("read", "write", "copy")


def measure(runs: Sequence[Run]) -> list[Results]:
    """Run the guest on every machine. Raises ConfigError."""
    return run_all(runs)


def bandwidth_curve(results: Results, stream: str) -> Curve:
    """Bytes per cycle, by the size in bytes; `stream` is one of STREAMS."""
    return {row.parameters[0]: 1 / row.median for row in results.named(f"{stream}_bandwidth")}


def run_names(all_results: Sequence[Results]) -> list[str]:
    """What tells the runs apart: the profile, the way of paging, or both."""
    profiles = {results.run.profile for results in all_results}
    pagings = {results.run.paging for results in all_results}
    if len(profiles) == 1:
        return [results.run.paging for results in all_results]
    if len(pagings) == 1:
        return [results.run.profile for results in all_results]
    return [f"{results.run.profile} {results.run.paging}" for results in all_results]


class LatencyFigures(Statistics):
    """A ring of lines in a file: cycles of a load."""

    size_bytes: int
    stride_bytes: int


class PageFigures(Statistics):
    """A ring over pages in a file: cycles of a load."""

    pages: int
    beyond_a_line_cycles: float


class BandwidthFigures(TypedDict):
    """A stream in a file."""

    stream: str
    size_bytes: int
    bytes_per_cycle: float
    bytes_per_second: int


class MemFigures(RunFigures):
    """A run in a file: each curve as a list of points."""

    load_latency: list[LatencyFigures]
    page_latency: list[PageFigures]
    bandwidth: list[BandwidthFigures]


def figures(all_results: Sequence[Results]) -> BenchmarkFigures:
    """All of it for a file."""
    return {"benchmark": IMAGE, "runs": [_run_figures(results) for results in all_results]}


def _run_figures(results: Results) -> MemFigures:
    hz = results.frequency_hz
    latency: list[LatencyFigures] = [
        {**row.statistics(hz), "size_bytes": row.parameters[0], "stride_bytes": row.parameters[1]}
        for row in results.named("load_latency")
    ]
    beyond = translation_curve(results)
    pages: list[PageFigures] = [
        {**row.statistics(hz), "pages": count, "beyond_a_line_cycles": beyond[count]}
        for row in results.named("page_latency")
        for count in row.parameters
    ]
    bandwidth: list[BandwidthFigures] = [
        {"stream": stream, "size_bytes": size, "bytes_per_cycle": rate, "bytes_per_second": round(rate * hz)}
        for stream in STREAMS
        for size, rate in bandwidth_curve(results, stream).items()
    ]
    return {**results.figures(), "load_latency": latency, "page_latency": pages, "bandwidth": bandwidth}
