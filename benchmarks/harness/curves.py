"""The curves in what the guest `mem` measured: latency by size, what pages cost beyond lines.

As LMbench measures it: `lat_mem_rd` is a ring of pointers walked backward, `tlb` one line on each of many pages. What a
page costs beyond a cache line is the difference between a ring over pages and a ring over as many lines that lie side
by side.
"""

from collections.abc import Mapping

from benchmarks.harness.results import Results

LINE_BYTES = 64  # of the guest's rings, and of every profile's caches
Curve = Mapping[int, float]


def latency_curve(results: Results, stride_bytes: int = LINE_BYTES) -> Curve:
    """Cycles of a load, by the size of the ring in bytes."""
    rows = results.named("load_latency")
    return {row.parameters[0]: row.value for row in rows if row.parameters[1] == stride_bytes}


def strides(results: Results) -> list[int]:
    """The strides that there are latencies of."""
    return list(dict.fromkeys(row.parameters[1] for row in results.named("load_latency")))


def page_curve(results: Results) -> Curve:
    """Cycles of a load, by the number of pages that the ring goes over."""
    return {row.parameters[0]: row.value for row in results.named("page_latency")}


def translation_curve(results: Results) -> Curve:
    """Cycles of a load beyond those of a ring over as many lines side by side: what the TLBs do not hold."""
    side_by_side = latency_curve(results)
    return {count: cycles - side_by_side[count * LINE_BYTES] for count, cycles in page_curve(results).items()}
