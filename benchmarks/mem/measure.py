"""What `sidecore bench mem` measures: what memory costs a guest: latency by size and stride, TLB reach, bandwidth.

    guest kernel `mem` --lines--> Results of each (profile, paging) --> curves by size and by pages, bytes per cycle

The curves of rings are in harness/curves.py, because `profiles check` reads them, too. `bw_mem` is of LMbench: 64-bit
words in order.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.harness.curves import Curve, translation_curve
from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.results import Results, Run

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
