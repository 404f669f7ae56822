"""Claims about the lines that guests measure with, and their statistics."""

import pytest

from benchmarks.harness.accounts import Account
from benchmarks.harness.measurements import (
    Measurement,
    ProtocolError,
    Unavailable,
    median_index,
    nanoseconds,
    parse_line,
)
from benchmarks.harness.results import Spread, row_of


def measurement(cycles: tuple[int, ...], empty: tuple[int, ...] = (0,), operations: int = 1) -> Measurement:
    return Measurement("x", (), operations, empty, cycles)


def test_a_line_of_samples() -> None:
    assert parse_line("~ cpuid 50 empty 3 4 cycles 103 104") == Measurement("cpuid", (), 50, (3, 4), (103, 104))


def test_parameters_follow_the_name() -> None:
    row = parse_line("~ load_latency/4096/64 8 empty 1 cycles 33")
    assert row == Measurement("load_latency", (4096, 64), 8, (1,), (33,))


def test_a_line_that_says_why_there_is_no_measurement() -> None:
    assert parse_line("~ vmcall unavailable: no hypervisor") == Unavailable("vmcall", "no hypervisor")


@pytest.mark.parametrize(
    "line",
    [
        "~ cpuid",
        "~ cpuid 50",
        "~ cpuid 50 empty cycles 1",
        "~ cpuid 50 empty 1 cycles",
        "~ cpuid 50 empty 1 cycles 1 2",
        "~ cpuid 0 empty 1 cycles 1",
        "~ cpuid 50 empty 1 cycles 0x10",
        "~ cpuid 50 empty 1 cycles -1",
        "~ cpuid 50 empty 1 cycles 1 ",
        "~ cpuid 50 empty 1  cycles 1",
        "~ cpuid/ 50 empty 1 cycles 1",
        "~ cpuid/x 50 empty 1 cycles 1",
        "~  cpuid 50 empty 1 cycles 1",
        "~ 50 empty 1 cycles 1",
        "~ cpuid \u0665 empty 1 cycles 1",
        "~ vmcall unavailable:",
        "~ vmcall unavailable: ",
    ],
)
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(ProtocolError, match="~"):
        parse_line(line)


def test_the_median_empty_round_is_taken_off_and_the_rest_shared_by_the_operations() -> None:
    row = measurement((1007, 2007, 4007), (1, 7, 100), operations=10)
    assert row.samples == (100.0, 200.0, 400.0)
    assert row.median == 200.0
    assert (row.median_round, row.median_empty_round) == (1, 1)


def test_quartiles_of_eleven_rounds() -> None:
    row = measurement((11, 3, 9, 1, 5, 7, 2, 8, 4, 10, 6))
    assert row.median == 6
    assert Spread(row.samples).quartiles == (3, 9)
    assert (row.samples[0], row.samples[-1]) == (1, 11)


def test_the_median_is_one_of_the_samples_and_the_first_of_equals() -> None:
    assert median_index([5, 5, 5]) == 1
    assert median_index([4, 1, 3, 2]) == 3
    assert measurement((4, 1, 3, 2), (0, 0, 0, 0)).median == 2


def test_a_row_is_of_one_operation() -> None:
    row = row_of({"profile": "haswell"}, measurement((30, 30, 60), (0, 0, 0), operations=3), Account({"guest": 3}, {}))
    assert row.record() == {
        "spec": {"profile": "haswell"},
        "metric": row.metric,
        "unit": "cycles",
        "value": 10.0,
        "about": {},
        "spread": {
            "min": 10.0, "q1": 10.0, "q3": 20.0, "max": 20.0, "samples": [10.0, 10.0, 20.0], "operations_per_sample": 3,
        },
        "account": {"cycles": {"guest": 3}, "exits": {}},
    }  # fmt: skip


def test_parameters_of_a_row_have_names() -> None:
    row = row_of({}, Measurement("load_latency", (4096, 64), 1, (0,), (3,)), Account({}, {}))
    assert row.about == {"size_bytes": 4096, "stride_bytes": 64}
    assert row.parameters == (4096, 64)


def test_nanoseconds_to_picoseconds() -> None:
    assert nanoseconds(1, 3_000_000_000) == 0.333
