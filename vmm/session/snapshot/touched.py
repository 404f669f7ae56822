"""Which pages of a machine's memory may be other than zero: the workstation knows which it has given.

    /proc/self/pagemap   pages of its own that it has, or has swapped out           proc(5)
    SEEK_DATA            pages of the file that the memory began with, if any       lseek(2)

A page that is named may be zero all the same. Where the workstation does not tell, all are named.
"""

import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from emulator.memory import HostMemory
from emulator.x86 import PAGE_BYTES

GIVEN = np.uint64(1 << 63 | 1 << 62)  # present, or swapped out
PAGEMAP, ENTRY_BYTES = "/proc/self/pagemap", 8
CHUNK_PAGES = 1 << 18
Run = tuple[int, int]  # first page, pages


def touched_runs(memory: HostMemory) -> Iterator[Run]:
    """Runs of pages, ascending."""
    count = memory.end_hpa // PAGE_BYTES
    for first in range(0, count, CHUNK_PAGES):
        touched = _given(memory.address // PAGE_BYTES + first, min(CHUNK_PAGES, count - first))
        for start, pages in memory.begun_with:
            touched[max(start - first, 0) : max(start + pages - first, 0)] = True
        yield from runs_of(touched, first)


def runs_of(chosen: npt.NDArray[np.bool_], first_page: int = 0) -> Iterator[Run]:
    """Runs of pages that are chosen, the first of `chosen` being page `first_page`."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False)).tolist()
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        yield first_page + start, end - start


def _given(page: int, count: int) -> npt.NDArray[np.bool_]:
    """Of each page of this process's own memory, whether it has one."""
    try:
        with open(PAGEMAP, "rb", buffering=0) as pagemap:
            data = os.pread(pagemap.fileno(), count * ENTRY_BYTES, page * ENTRY_BYTES)
    except OSError:
        data = b""
    if len(data) < count * ENTRY_BYTES:
        return np.ones(count, dtype=np.bool_)
    given: npt.NDArray[np.bool_] = np.frombuffer(data, dtype=np.uint64) & GIVEN != 0
    return given
