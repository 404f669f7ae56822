"""Figure 1 under load: guests share a sidecore fairly, and what cannot be is one line."""

import pytest

from benchmarks.fig1_load import Load, load_table, run_load
from emulator.errors import ConfigError


def test_two_guests_are_served_alike_and_wait_for_each_other() -> None:
    results = run_load(Load("netburst-2006", guests=2))
    first, second = results.medians
    assert all(first[name] == pytest.approx(second[name], rel=0.05) for name in first)
    assert [counts.requests for counts in results.counts] == [results.counts[0].requests] * 2
    assert results.waiting_max_cycles > 50  # another's request was served first
    title, table = load_table([results])
    assert "under load" in title
    assert table.row_count == 1


def test_more_sidecores_than_guests_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 sidecores for 2 guests"):
        run_load(Load("netburst-2006", guests=2, sidecores=3))
