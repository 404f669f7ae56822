"""The tables of `sidecore bench fig4`: round trips, signals, hops, and what the paper says beside what came out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.fig4.hops import HOPS
from benchmarks.fig4.isolation import Isolation
from benchmarks.fig4.results import PointResult, pairs_of
from benchmarks.fig4.setup import Carrier
from benchmarks.fig4.throughput import Throughput
from vmm.cli.output import list_table

if TYPE_CHECKING:
    from rich.table import Table

Titled = tuple[str, "Table"]
_CARRIERS: dict[Carrier, str] = {
    "nic": "the NIC, ",
    "stub": "a stub domain",
    "shared stub": "a stub domain among the guests",
    "linux": "a driver domain, Linux",
}


def tables(results: Sequence[PointResult]) -> list[Titled]:
    """All of them, in the order to show."""
    shown = [round_trips_table(results), signals_table(results), cores_table(results), hops_table(results)]
    pairs = pairs_of(results)
    return [*shown, gains_table(pairs)] if pairs else shown


def round_trips_table(results: Sequence[PointResult]) -> Titled:
    """A row for each point: quantiles of all samples of all flows."""
    numbers = ("n", "median us", "IQR", "5%", "25%", "75%", "95%", "99%", "lost", "samples", "by phase")
    table = list_table("Signals", *numbers, right=numbers)
    for result in results:
        parts = (0.05, 0.25, 0.75, 0.95, 0.99)
        cells = [f"{result.median_us:.1f}", f"{result.range_us:.1f}", *(f"{result.quantile_us(p):.1f}" for p in parts)]
        medians = result.phase_medians_us or (result.median_us,)
        phases = " .. ".join(dict.fromkeys(f"{median:.1f}" for median in (min(medians), max(medians))))
        counts = [str(result.lost), f"{len(result.pooled):,}", phases]
        table.add_row(result.setup.signals, str(result.setup.guests), *cells, *counts)
    return f"Figure 4: round trip of a {results[0].setup.probe_bytes}-byte probe, all flows pooled", table


def signals_table(results: Sequence[PointResult]) -> Titled:
    """A row for each host of each point."""
    numbers = ("n", "host", "packets", "signals", "redundant a packet", "schedulings a packet", "drops")
    table = list_table("Signals", *numbers, right=numbers)
    for result in results:
        for host, figures in enumerate(result.hosts, 1):
            table.add_row(
                result.setup.signals,
                str(result.setup.guests),
                str(host),
                f"{figures.packets:,}",
                f"{figures.signals:,}",
                f"{figures.redundant_per_packet:.3f}",
                f"{figures.schedulings_per_packet:.3f}",
                str(figures.drops),
            )
    return "Signals that bring nothing, and guests scheduled for them, for each packet (host 1: clients)", table


def cores_table(results: Sequence[PointResult]) -> Titled:
    """A row for each core of each host: the shares of its time."""
    uses = list(
        dict.fromkeys(
            use for result in results for figures in result.hosts for core in figures.core_use for use in core
        )
    )
    table = list_table("Signals", "n", "host", "core", *uses, right=("n", "host", "core", *uses))
    for result in results:
        for host, figures in enumerate(result.hosts, 1):
            for core, shares in enumerate(figures.core_use):
                cells = (f"{shares.get(use, 0.0):.0%}" for use in uses)
                table.add_row(result.setup.signals, str(result.setup.guests), str(host), str(core), *cells)
    return "What each core did", table


def hops_table(results: Sequence[PointResult]) -> Titled:
    """A column for each point; each sums to the average round trip."""
    names = tuple(f"{result.setup.signals}, n={result.setup.guests}" for result in results)
    table = list_table("Hop (there and back)", *names, right=names)
    for hop in HOPS:
        table.add_row(hop, *(f"{result.hops_ns.get(hop, 0.0) / 1000:.2f}" for result in results))
    table.add_row("round trip", *(f"{sum(result.hops_ns.values()) / 1000:.2f}" for result in results))
    return "Where an average round trip goes (us)", table


def gains_table(pairs: Sequence[tuple[PointResult, PointResult]]) -> Titled:
    """A row for each pair of points."""
    numbers = ("n", "think us", "median", "IQR", "redundant schedulings a packet: without", "with")
    table = list_table("Without a sidecore", *numbers, right=numbers)
    for without, with_one in pairs:
        table.add_row(
            without.setup.signals,
            str(without.setup.guests),
            str(without.setup.think_us),
            _change_text(without.median_us, with_one.median_us),
            _change_text(without.range_us, with_one.range_us),
            *(f"{mean_schedulings(result):.3f}" for result in (without, with_one)),
        )
    return "What a sidecore changes (the paper: little to n = 8; 0.5 and none at 16; more at 32, a smaller IQR)", table


def map_table(done: Sequence[tuple[str, PointResult, PointResult]]) -> Titled:
    """A row for each regime: without and with a sidecore."""
    numbers = ("median us", "with", "change", "IQR", "with ", "redundant a packet", "with  ")
    table = list_table("Regime", *numbers, right=numbers)
    for name, without, with_one in done:
        table.add_row(
            name,
            f"{without.median_us:.1f}",
            f"{with_one.median_us:.1f}",
            _change_text(without.median_us, with_one.median_us),
            f"{without.range_us:.1f}",
            f"{with_one.range_us:.1f}",
            *(f"{mean_schedulings(result):.3f}" for result in (without, with_one)),
        )
    return f"The map: what the paper leaves open, n = {done[0][1].setup.guests}, without and with a sidecore", table


def carriers_table(compared: Sequence[tuple[PointResult, Sequence[Throughput]]]) -> Titled:
    """A row for each way of carrying frames: round trips, and what two guests got that sent all they could."""
    sizes = sorted({rate.frame_bytes for _, rates in compared for rate in rates})
    rate_names = tuple(f"{size} bytes: Mb/s" for size in sizes)
    numbers = ("median us", "of the first", "IQR", *rate_names)
    table = list_table("Frames are carried by", *numbers, right=numbers)
    for result, rates in compared:
        by_size = {rate.frame_bytes: f"{min(rate.received_mbps):.0f}" for rate in rates}
        table.add_row(
            f"{_CARRIERS[result.setup.carrier]}{result.setup.signals if result.setup.carrier == 'nic' else ''}",
            f"{result.median_us:.1f}",
            f"{result.median_us / compared[0][0].median_us:.2f}",
            f"{result.range_us:.1f}",
            *(by_size.get(size, "-") for size in sizes),
        )
    guests = compared[0][0].setup.guests
    return f"What it is compared with, n = {guests}; throughput of two guests at most, each way", table


def isolation_table(measured: Sequence[Isolation]) -> Titled:
    """A row for each way of signalling."""
    numbers = ("packets", "lost a packet", "the VMM's", "receivers' own", "stalls of its time")
    table = list_table("Signals", *numbers, right=numbers)
    for each in measured:
        table.add_row(
            each.setup.signals,
            f"{each.packets:,}",
            f"{each.lost_per_packet:,.0f}",
            f"{each.vmm_per_packet:,.0f}",
            f"{each.receiving / max(1, each.packets):,.0f}",
            f"{each.stalls_part:.1%}",
        )
    return "What a guest that only computes loses beside receivers, in cycles", table


def mean_schedulings(result: PointResult) -> float:
    """Redundant guest schedulings for a packet, of both hosts."""
    packets = sum(figures.packets for figures in result.hosts)
    return sum(figures.redundant_schedulings for figures in result.hosts) / packets if packets else 0.0


def _change_text(before: float, after: float) -> str:
    return f"{after / before - 1:+.1%}" if before else "-"
