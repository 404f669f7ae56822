"""What the clients' psapp measured (guest_images/lib/psapp.h): of our own kernel it is read from the guest's memory.

~ psapp figures at 1f5000        printed before the first probe; a mark on the POST port when they are complete
struct psapp_figures | sample sample ...          a kernel that prints while others measure would disturb them
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.harness.measurements import ProtocolError

READY_MARK = 0x50
_FIGURES = re.compile(rb"~ psapp figures at ([0-9a-f]{1,16})\r?\n")
_LAYOUT = struct.Struct("<8Q")
_SAMPLE_BYTES = 4
_SAMPLES_MOST = 100_000


@dataclass(frozen=True)
class Flow:
    """One client's round trips, in the order of sending, without the warm-up; in cycles of its TSC."""

    samples: tuple[int, ...]
    lost: int
    damaged: int


def flow_of(output: bytes, read_memory: Callable[[int, int], bytes]) -> Flow:
    """From what a client printed and its memory, `read_memory(gpa, bytes)`. Raises ProtocolError."""
    found = _FIGURES.search(output)
    if found is None:
        raise ProtocolError(f"psapp did not say where its figures are; it said {output[-80:]!r} last")
    gpa = int(found[1], 16)
    _, _, lost, _, damaged, _, count, _ = _LAYOUT.unpack(read_memory(gpa, _LAYOUT.size))
    if count > _SAMPLES_MOST:
        raise ProtocolError(f"psapp says that it has {count} samples")
    samples = read_memory(gpa + _LAYOUT.size, _SAMPLE_BYTES * count)
    return Flow(struct.unpack(f"<{count}I", samples), lost, damaged)
