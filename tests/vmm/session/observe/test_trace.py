"""Claims about the trace file."""

import json
from pathlib import Path

import pytest

from emulator.errors import ConfigError
from emulator.vmx.exit_reasons import ExitReason
from tests.vmm.fakes import exited_vcpu
from vmm.session.observe.trace import BUFFER_RECORDS, TraceWriter
from vmm.vcpu import Exit

RUN: dict[str, str | int] = {"frequency_hz": 3_000_000_000, "paging": "ept"}


def record(trace: TraceWriter, cycle: int) -> None:
    vcpu = exited_vcpu(domain=3, vcpu=2, pcpu=1, EXIT_QUALIFICATION=0x182, GUEST_PHYSICAL_ADDRESS=0xFEE0_0000)
    trace.exit_ended(vcpu, Exit(ExitReason.EPT_VIOLATION, 0xFFFF_FFFF_8100_0000, cycle), 4100)


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_exit_is_one_line_between_the_first_and_the_last(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t", RUN) as trace:
        record(trace, 100)
        record(trace, 5000)
    first, *records, last = lines_of(tmp_path / "t")
    assert first == {"trace": "sidecore", "version": 1, **RUN}
    assert [line["cycle"] for line in records] == [100, 5000]
    assert records[0] == {
        "cycle": 100, "cycles": 4100, "pcpu": 1, "domain": 3, "vcpu": 2,
        "exit": "EPT_VIOLATION", "rip": "0xffffffff81000000",
        "qualification": "0x182", "information": "0x0", "gpa": "0xfee00000",
    }  # fmt: skip
    assert last == {"records": 2, "dropped": 0}


def test_the_file_is_bounded_and_says_what_is_missing(tmp_path: Path) -> None:
    count = 2 * BUFFER_RECORDS + 10
    with TraceWriter(tmp_path / "t", RUN, limit_bytes=10_000) as trace:
        for cycle in range(count):
            record(trace, cycle)
    assert (tmp_path / "t").stat().st_size < 10_500
    _, *records, last = lines_of(tmp_path / "t")
    assert [line["cycle"] for line in records] == list(range(len(records)))
    assert 10 < len(records) < 100
    assert last == {"records": len(records), "dropped": count - len(records)}


def test_a_run_that_fails_leaves_a_complete_file(tmp_path: Path) -> None:
    def fail() -> None:
        with TraceWriter(tmp_path / "t", RUN) as trace:
            record(trace, 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert lines_of(tmp_path / "t")[-1] == {"records": 1, "dropped": 0}


def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^cannot write the trace '/dev/full': No space left on device$"):
        TraceWriter(Path("/dev/full"), RUN)
