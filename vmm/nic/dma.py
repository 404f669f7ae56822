"""A guest's memory as the NIC reaches it: guest-physical addresses of that guest alone, past all cores.

    microengine --read, write--> the guest's RAM?  no: all ones, dropped
                                     |
                                 HostDma: the caches of the host follow; no core pays
                                     |
                                 shadow tables follow; who shares the page is told

So the NIC's queues are filled without the VMM, as the paper has it: by an I/O MMU, or by addresses that were checked.
MODEL: shadow tables follow a store into a guest's page table at once and for nothing; on hardware of the time nobody
would notice it. No I/O MMU takes time for its walks.
"""

from collections.abc import Sequence
from typing import Protocol

from emulator.dma import HostDma
from vmm.cost.meter import Unpaid
from vmm.guest_memory import GuestMemory
from vmm.vcpu import VCpu


class Sharer(Protocol):
    """Who shares pages with the guest."""

    def device_stored(self, vcpu: VCpu, gpa: int, length_bytes: int) -> None:
        """A device of the host has stored there, inside one page."""
        ...


class VifPort:
    """The port to `memory` of the guest that has `vcpus`, over `host`. An access lies inside one page."""

    def __init__(
        self,
        memory: GuestMemory,
        host: HostDma,
        vcpus: Sequence[VCpu],
        sharers: Sequence[Sharer],
        unpaid: Unpaid,
        *,
        fills_caches: bool = False,
    ) -> None:
        """With `fills_caches` stores go to the last-level cache of the core where the guest's first vCPU is."""
        self._memory = memory
        self._host = host
        self._vcpus = vcpus
        self._sharers = sharers
        self._unpaid = unpaid
        self._fills_caches = fills_caches

    def is_ram(self, gpa: int, length_bytes: int) -> bool:
        """Whether all of it is the guest's RAM."""
        return self._memory.is_ram(gpa, length_bytes)

    def read(self, gpa: int, length_bytes: int) -> bytes:
        """The bytes at `gpa`; all ones where the guest has no RAM."""
        if not self._memory.is_ram(gpa, length_bytes):
            return b"\xff" * length_bytes
        return self._host.read(self._memory.hpa_of(gpa), length_bytes)

    def write(self, gpa: int, data: bytes) -> None:
        """Store `data` at `gpa`; dropped where the guest has no RAM."""
        if not self._memory.is_ram(gpa, len(data)):
            return
        vcpu = self._vcpus[0]
        taker = vcpu.pcpu.number if self._fills_caches else None
        self._host.write(self._memory.hpa_of(gpa), data, taker=taker)
        vcpu.paging.guest_memory_written(self._unpaid, gpa, len(data))
        for sharer in self._sharers:
            sharer.device_stored(vcpu, gpa, len(data))
