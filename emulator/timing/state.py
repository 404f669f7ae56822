"""Builds the state array of `kernels.layout` for a profile: shapes and latencies in, empty caches and TLBs out."""

from typing import Any

import numpy as np

from emulator.profiles.profile import Profile
from emulator.timing.kernels import layout
from emulator.timing.kernels.layout import ARRAY_NAMES, ARRAY_WORDS, PCPU_WORDS, PCPUS, Pcpu
from emulator.timing.topology import Place, places_of

StateArray = np.ndarray[Any, np.dtype[np.int64]]


def build_state(profile: Profile, pcpu_count: int) -> StateArray:
    """The state of a machine with `pcpu_count` pCPUs, all caches and TLBs empty. Raises ConfigError."""
    places = places_of(profile, pcpu_count)
    header = np.zeros(PCPUS + (pcpu_count + 1) * PCPU_WORDS, np.int64)
    _write_machine(header, profile, places)
    store_buffer_entries = profile.core.store_buffer_entries
    header[layout.STORE_BUFFER_ENTRIES] = store_buffer_entries
    for pcpu, place in enumerate(places):
        words = PCPUS + pcpu * PCPU_WORDS
        header[words + Pcpu.CORE], header[words + Pcpu.PACKAGE] = place.core, place.package
        header[words + Pcpu.THREAD] = place.thread << layout.THREAD_SHIFT
        header[words + Pcpu.STORE_RING] = len(header) + pcpu * store_buffer_entries
    devices = PCPUS + pcpu_count * PCPU_WORDS
    header[devices + Pcpu.CORE] = header[devices + Pcpu.PACKAGE] = layout.NOWHERE
    store_buffers = np.zeros(pcpu_count * store_buffer_entries, np.int64)
    entries = _describe_arrays(header, profile, len(header) + len(store_buffers))
    return np.concatenate([header, store_buffers, np.full(entries, layout.EMPTY, np.int64)])


def _write_machine(header: StateArray, profile: Profile, places: list[Place]) -> None:
    core, caches, memory, tlb = profile.core, profile.caches, profile.memory, profile.tlb

    def beyond_l1(latency_cycles: int) -> int:
        return max(latency_cycles - caches.l1d_latency_cycles, 0)

    header[layout.CORE_COUNT] = max(place.core for place in places) + 1
    header[layout.PACKAGE_COUNT] = max(place.package for place in places) + 1
    header[layout.CORES_OF_PACKAGE] = profile.core.core_count
    header[layout.IS_L2_PRIVATE] = caches.l2_ways > 0 and not caches.is_l2_shared
    header[layout.LINE_SHIFT] = caches.line_bytes.bit_length() - 1
    header[layout.L1D_LATENCY] = caches.l1d_latency_cycles
    header[layout.L2_CYCLES] = beyond_l1(caches.l2_latency_cycles)
    header[layout.L3_CYCLES] = beyond_l1(caches.l3_latency_cycles)
    header[layout.DRAM_CYCLES] = beyond_l1(memory.dram_latency_cycles)
    header[layout.DIRTY_CYCLES] = beyond_l1(core.dirty_line_cycles)
    header[layout.REMOTE_DIRTY_CYCLES] = beyond_l1(core.remote_dirty_line_cycles)
    # MODEL: to invalidate other readers takes as long as reaching the level that knows of them: the cache the package
    # shares; without one the bus, or another package: as a transfer. No separate numbers are published.
    header[layout.UPGRADE_CYCLES] = header[layout.DIRTY_CYCLES]
    if caches.l3_ways:
        header[layout.UPGRADE_CYCLES] = header[layout.L3_CYCLES]
    elif caches.l2_ways and caches.is_l2_shared:
        header[layout.UPGRADE_CYCLES] = header[layout.L2_CYCLES]
    header[layout.STLB_HIT_CYCLES] = tlb.stlb_hit_cycles
    header[layout.IS_STLB_FOR_CODE] = tlb.is_stlb_for_code
    header[layout.IS_STLB_FOR_2M] = tlb.is_stlb_for_2m


def _describe_arrays(header: StateArray, profile: Profile, offset: int) -> int:
    """Write the descriptors, the first array at word `offset`; how many words all arrays take."""
    caches, tlb = profile.caches, profile.tlb
    first, cores, packages = offset, int(header[layout.CORE_COUNT]), int(header[layout.PACKAGE_COUNT])
    for number, name in enumerate(ARRAY_NAMES):
        if name == "paging_structures":
            entries = ways = tlb.paging_structure_entries
        elif name.startswith("l"):
            entries, ways = getattr(caches, f"{name}_size_bytes") // caches.line_bytes, getattr(caches, f"{name}_ways")
        else:
            entries, ways = getattr(tlb, f"{name}_entries"), getattr(tlb, f"{name}_ways")
        descriptor = header[number * ARRAY_WORDS : (number + 1) * ARRAY_WORDS]
        if name.endswith("2m") and not entries:  # they share the array of 4 KiB pages
            descriptor[:] = header[(number - 1) * ARRAY_WORDS : number * ARRAY_WORDS]
            continue
        is_shared = name == "l3" or (name == "l2" and caches.is_l2_shared)
        sets = entries // ways if ways else 1
        mask = sets - 1 if sets & (sets - 1) == 0 else -1
        instances = packages if is_shared else cores
        descriptor[:] = (offset, sets, mask, ways, entries, instances)
        offset += entries * instances
    return offset - first + 1  # one more: an array of no entries may be last, its first word is read and is EMPTY
