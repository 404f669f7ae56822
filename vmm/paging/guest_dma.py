"""A guest's memory as its virtual devices reach it: the VMM copies, and everybody sees what was written.

    virtual device --read, write--> the guest's RAM?  no: all ones, dropped; never another domain's memory
                                        |
                                     the copy, at the cost of the core that does it, through its caches
                                        |
                                     shadow tables follow (Paging.guest_memory_written), who shares the page is told

Code that changes is noticed by each engine when it runs it next (emulator/engine/time/blocks.c); a TLB keeps what it
has, as on hardware, but for rights that the VMM takes away.
"""

from collections.abc import Sequence
from typing import Protocol

from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.guest_memory import GuestMemory
from vmm.vcpu import VCpu


class Copier(Protocol):
    """Who runs the virtual devices: the hypervisor."""

    def meter_for(self, vcpu: VCpu) -> Meter:
        """Who pays for what a device of this vCPU's domain does now."""
        ...

    def guest_memory_written(self, vcpu: VCpu, gpa: int, length_bytes: int) -> None:
        """A device has stored into the memory of this vCPU's domain: who shares a page with it may have to know."""
        ...


class GuestDma:
    """The port to `memory` of the domain whose vCPUs `vcpus` will have. An access lies inside one page."""

    def __init__(self, memory: GuestMemory, vcpus: Sequence[VCpu], copier: Copier) -> None:
        self._memory = memory
        self._vcpus = vcpus
        self._copier = copier

    def read(self, gpa: int, length_bytes: int) -> bytes:
        """The bytes at `gpa`; all ones where the guest has no RAM."""
        if not self._memory.is_ram(gpa, length_bytes):
            return b"\xff" * length_bytes
        self._charge(gpa, length_bytes, is_write=False)
        return self._memory.read(gpa, length_bytes)

    def write(self, gpa: int, data: bytes) -> None:
        """Store `data` at `gpa`; dropped where the guest has no RAM."""
        if not self._memory.is_ram(gpa, len(data)):
            return
        meter, vcpu = self._charge(gpa, len(data), is_write=True), self._vcpus[0]
        self._memory.write(gpa, data)
        vcpu.paging.guest_memory_written(meter, gpa, len(data))
        self._copier.guest_memory_written(vcpu, gpa, len(data))

    def _charge(self, gpa: int, length_bytes: int, *, is_write: bool) -> Meter:
        meter = self._copier.meter_for(self._vcpus[0])
        meter.follow(paths.GUEST_COPY)
        meter.touch(self._memory.hpa_of(gpa), length_bytes, is_write)
        return meter
