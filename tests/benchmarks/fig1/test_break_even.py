"""How slow lines may become before a sidecall takes as long as the VM exit."""

from benchmarks.fig1.break_even import measure_break_evens, slower_run
from benchmarks.fig1.measure import measure
from benchmarks.fig1.tables import break_even_table
from benchmarks.harness.results import Run


def test_at_the_break_even_a_sidecall_takes_as_long_as_the_exit() -> None:
    (shadow,) = measure([Run("fig1", "netburst-2006", "shadow", "fast", has_sidecore=True)])
    (found,) = measure_break_evens([shadow])
    assert set(found) == {"null", "cpuid", "pte"}
    null = found["null"]
    assert 4 <= null.slope < 4.5  # the request's line and the answer's, each taken away and brought
    at_cycles = round(null.cycles) - null.transfer_cycles
    (slowest,) = measure([slower_run(shadow.results.run, at_cycles)])
    assert abs(slowest.pair("null").improvement) < 0.01
    title, table = break_even_table([shadow], [found])
    assert "Break-even" in title
    assert table.row_count == 1
