"""What `sidecore bench mem` measures: what memory costs a guest: latency by size and stride, TLB reach, bandwidth.

    guest kernel `mem` --lines--> Results of each (profile, paging) --> curves by size and by pages, bytes per cycle

Latency and pages are rings, whose curves are in harness/curves.py: `profiles check` reads them, too. Bandwidth is that
of 64-bit words in order, as in LMbench's `bw_mem`.
"""

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.harness.accounts import Account
from benchmarks.harness.curves import Curve, translation_curve
from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.results import Results, Row, Run, Spread

IMAGE = "mem"
STREAMS = ("read", "write", "copy")


def measure(runs: Sequence[Run]) -> list[Results]:
    """Run the guest on every machine. Raises ConfigError."""
    return run_all(runs)


def bandwidth_curve(results: Results, stream: str) -> Curve:
    """Bytes per cycle, by the size in bytes; `stream` is one of STREAMS."""
    return {row.parameters[0]: 1 / row.value for row in results.named(f"{stream}_bandwidth")}


def run_names(all_results: Sequence[Results]) -> list[str]:
    """What tells the runs apart: the profile, the way of paging, or both."""
    profiles = {results.run.profile for results in all_results}
    pagings = {results.run.paging for results in all_results}
    if len(profiles) == 1:
        return [results.run.paging for results in all_results]
    if len(pagings) == 1:
        return [results.run.profile for results in all_results]
    return [f"{results.run.profile} {results.run.paging}" for results in all_results]


def rows_of(results: Results) -> list[Row]:
    """What was measured, and what follows from it: what a page costs beyond a line, bytes per cycle."""
    beyond = translation_curve(results)
    pages = [
        replace(row, metric="beyond_a_line", value=beyond[row.parameters[0]], spread=Spread(), account=Account({}, {}))
        for row in results.named("page_latency")
    ]
    streams = [
        replace(row, unit="bytes_per_cycle", value=1 / row.value, spread=Spread(), account=Account({}, {}))
        for stream in STREAMS
        for row in results.named(f"{stream}_bandwidth")
    ]
    return [*results.rows, *pages, *streams]
