"""A machine's memory as it was: pages in a nameless file, which any number of machines begin with and share."""

import os

import numpy as np

from emulator.memory import HostMemory
from emulator.x86 import PAGE_BYTES
from vmm.session.snapshot.touched import runs_of, touched_runs

WORDS = PAGE_BYTES // 8


class MemoryFile:
    """Pages of a machine's memory in a nameless file, sparse: what was never written to it is zero."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.descriptor = os.memfd_create("sidecore snapshot")
        os.ftruncate(self.descriptor, size_bytes)
        self.runs: list[tuple[int, int]] = []  # (first page, pages), ascending

    def __del__(self) -> None:
        os.close(self.descriptor)

    def add(self, first_page: int, data: bytes | memoryview) -> None:
        """Store whole pages behind all others."""
        os.pwrite(self.descriptor, data, first_page * PAGE_BYTES)
        if self.runs and sum(self.runs[-1]) == first_page:
            first, count = self.runs.pop()
            self.runs.append((first, count + len(data) // PAGE_BYTES))
        else:
            self.runs.append((first_page, len(data) // PAGE_BYTES))

    def add_all(self, memory: HostMemory) -> None:
        """Store every page that is not zero."""
        for start, touched in touched_runs(memory):
            words = np.frombuffer(memory.words[start * WORDS : (start + touched) * WORDS], dtype=np.uint64)
            is_used = np.bitwise_or.reduce(words.reshape(touched, WORDS), axis=1) != 0
            for first, count in runs_of(is_used, start):
                self.add(first, memory.bytes[first * PAGE_BYTES : (first + count) * PAGE_BYTES])

    def read(self, first_page: int, count: int) -> bytes:
        """The contents of pages."""
        return os.pread(self.descriptor, count * PAGE_BYTES, first_page * PAGE_BYTES)
