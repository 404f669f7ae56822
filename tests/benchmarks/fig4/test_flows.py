"""Samples of psapp are read from where it says they are, or not at all."""

import struct

import pytest

from benchmarks.fig4.flows import Flow, flow_of
from benchmarks.harness.measurements import ProtocolError

OUTPUT = b"booted\r\n~ psapp figures at 2000\r\n"


def memory(count: int, *samples: int) -> bytes:
    return struct.pack("<8Q", 5, 3, 1, 0, 2, 2_800_000, count, 0) + struct.pack(f"<{len(samples)}I", *samples)


def read(data: bytes, gpa: int, length_bytes: int) -> bytes:
    at = gpa - 0x2000
    return data[at : at + length_bytes]


def test_samples_and_counts_are_those_of_the_guest() -> None:
    data = memory(3, 0x4F2A0, 0xFF, 1)
    assert flow_of(OUTPUT, lambda gpa, length_bytes: read(data, gpa, length_bytes)) == Flow((0x4F2A0, 0xFF, 1), 1, 2)


@pytest.mark.parametrize(("output", "count"), [(b"~ psapp", 0), (OUTPUT, 10**6)])
def test_what_cannot_be_is_refused(output: bytes, count: int) -> None:
    data = memory(count)
    with pytest.raises(ProtocolError):
        flow_of(output, lambda gpa, length_bytes: read(data, gpa, length_bytes))
