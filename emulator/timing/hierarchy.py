"""Caches, TLBs, page walks, coherence between cores and memory: what a machine's accesses cost.

    MemoryHierarchy (this file)    what Python calls, and the addresses of what the CPU engine calls
    topology.py                    which core and package a pCPU is
    state.py                       the state array for a profile
    kernels/                       the models (see kernels/__init__.py, kernels/layout.py)

All cycles are stalls: what an access takes beyond a load that hits L1, which the model of the instructions has.
"""

from collections.abc import Callable, Sequence

import numpy as np

from emulator.profiles.profile import Profile
from emulator.timing.kernels import layout
from emulator.timing.kernels.layout import ARRAY_NAMES, ARRAY_WORDS, FIRST_COUNTER, PCPU_WORDS, PCPUS, Pcpu
from emulator.timing.state import build_state

COUNTERS = tuple(word.name.lower() for word in Pcpu if word >= FIRST_COUNTER)


def prepare_kernels(on_compile: Callable[[], None]) -> None:
    """Compile the kernels now, if this version of them has not been yet; `on_compile` is called before that."""
    from emulator.timing.kernels.compiled import load_kernels

    load_kernels(on_compile)


class MemoryHierarchy:
    """The memory hierarchy of all pCPUs of a machine. Two can live in one process."""

    def __init__(self, profile: Profile, pcpu_count: int, *, on_compile: Callable[[], None] | None = None) -> None:
        """`on_compile` is called when the kernels must be compiled first. Raises ConfigError."""
        from emulator.timing.kernels.compiled import ffi, load_kernels  # numba takes a second to import

        self.pcpu_count = pcpu_count
        self.state = build_state(profile, pcpu_count)
        kernels = load_kernels(on_compile)
        self._kernels = kernels  # keeps the code behind the addresses alive
        self._ffi = ffi
        self._state = ffi.from_buffer("int64_t[]", self.state)
        self.state_address = int(ffi.cast("intptr_t", self._state))
        self.data_kernel = kernels["data"].address
        self.fetch_kernel = kernels["fetch"].address
        self.walk_kernel = kernels["walk"].address
        self.drain_kernel = kernels["drain"].address
        self.flush_kernel = kernels["flush"].address
        self.invalidate_kernel = kernels["invalidate"].address

    def access(self, pcpu: int, hpa: int, size_bytes: int, is_write: bool, now_cycles: int) -> int:
        """Stall of a load or store of up to a page at a host-physical address, without TLB."""
        return self._call("physical", pcpu, hpa & layout.HPA_MASK, size_bytes << 1 | is_write, now_cycles)

    def device_access(self, hpa: int, size_bytes: int, is_write: bool, *, taker: int | None = None) -> None:
        """A device loads or stores up to a page itself: the caches follow, and no core stalls.

        The last-level cache of pCPU `taker` gets what is stored, by direct cache access; None: no cache does.
        """
        core = -1 if taker is None else self._checked(taker)
        hpa, size_write = hpa & layout.HPA_MASK, size_bytes << 1 | is_write
        self._kernels["device"].call(self._state, self.pcpu_count, core, hpa, size_write)

    def data(self, pcpu: int, hpa: int, size_bytes: int, is_write: bool, now_cycles: int) -> int:
        """As the data kernel: stall of a guest's load or store within a page; -1: `walk` first."""
        return self._call("data", pcpu, hpa & layout.HPA_MASK, size_bytes << 1 | is_write, now_cycles)

    def fetch(self, pcpu: int, hpa: int, size_bytes: int, now_cycles: int) -> int:
        """As the fetch kernel: stall of a fetch within a page; -1: `walk` first."""
        return self._call("fetch", pcpu, hpa & layout.HPA_MASK, size_bytes, now_cycles)

    def walk(
        self,
        pcpu: int,
        hpa: int,
        linear: int,
        references: Sequence[int],
        now_cycles: int,
        *,
        is_code: bool = False,
        is_large: bool = False,
        is_global: bool = False,
    ) -> int:
        """As the walk kernel: cycles of a walk that reads the entries at `references` and finds `hpa`."""
        words = self._ffi.new("int64_t[]", [reference & layout.HPA_MASK for reference in references])
        kind = layout.CODE_WALK if is_code else layout.DATA_WALK
        page_kind = layout.PAGE_IS_LARGE * is_large | layout.PAGE_IS_GLOBAL * is_global
        page = _page_of(linear)
        return self._call(
            "walk", pcpu, kind, hpa & layout.HPA_MASK, page, page_kind, words, len(references), now_cycles
        )

    def drain(self, pcpu: int, now_cycles: int) -> int:
        """Stall until all stores of the pCPU are done, as LOCK, MFENCE and serialising instructions wait."""
        return self._call("drain", pcpu, now_cycles)

    def invalidate_translations(self, pcpu: int, *, keep_global: bool) -> None:
        """Drop the pCPU's translations, as MOV to CR3 does (`keep_global`), or a VM exit without VPID."""
        self._call("flush", pcpu, keep_global)

    def invalidate_page(self, pcpu: int, linear: int) -> None:
        """Drop the pCPU's translations of the page of `linear`, as INVLPG does."""
        self._call("invalidate", pcpu, _page_of(linear))

    def counter(self, pcpu: int, name: str) -> int:
        """One of `COUNTERS` of a pCPU; `kernels.layout.Pcpu` says what they count."""
        return int(self.state[self.counter_index(pcpu, name)])

    def counter_index(self, pcpu: int, name: str) -> int:
        """Where in `state` a counter is, for code that reads it often."""
        return PCPUS + self._checked(pcpu) * PCPU_WORDS + Pcpu[name.upper()]

    def entries(self, array: str, instance: int) -> list[list[int]]:
        """The sets of an array (one of `kernels.layout.ARRAY_NAMES`), each most recently used first: to look inside."""
        number = ARRAY_NAMES.index(array) * ARRAY_WORDS
        offset, _, _, ways, words, instances = (int(word) for word in self.state[number : number + ARRAY_WORDS])
        if not 0 <= instance < instances:
            raise IndexError(f"{array} has {instances} instances, there is no {instance}")
        first = offset + instance * words
        sets = (self.state[start : start + ways] for start in range(first, first + words, max(ways, 1)))
        return [[int(entry) for entry in entries if entry != layout.EMPTY] for entries in sets]

    def save(self) -> bytes:
        """What all caches, TLBs and counters hold."""
        return self.state.tobytes()

    def restore(self, saved: bytes) -> None:
        """Hold what `saved` says. Raises ValueError when it is of a hierarchy of another shape."""
        words = np.frombuffer(saved, np.int64)
        if len(words) != len(self.state) or (words[:PCPUS] != self.state[:PCPUS]).any():
            raise ValueError("these are the caches of another machine")
        self.state[:] = words

    def _call(self, name: str, pcpu: int, *arguments: object) -> int:
        return int(self._kernels[name].call(self._state, self._checked(pcpu), *arguments))

    def _checked(self, pcpu: int) -> int:
        if not 0 <= pcpu < self.pcpu_count:
            raise IndexError(f"there are {self.pcpu_count} pCPUs, no {pcpu}")
        return pcpu


def _page_of(linear: int) -> int:
    """The number of the 4 KiB page of a linear address, which may be given as negative."""
    return (linear & (1 << 64) - 1) >> 12
