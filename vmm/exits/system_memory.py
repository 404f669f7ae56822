"""Guest memory at linear addresses, as a processor reads and writes its own tables there: descriptors, task states.

    linear --guest's page tables, as a supervisor--> pieces of (gpa, size) --read, write--> RAM of the domain

Where there is no RAM, reads are all ones and stores are dropped, as the processor has it; a device is not asked.
"""

from dataclasses import dataclass

from emulator.x86 import PAGE_BYTES, PAGE_FAULT
from vmm.cost import paths
from vmm.paging.guest_walk import GuestFault, paging_mode, walk
from vmm.vcpu import VCpu

LINEAR_MASK = 0xFFFF_FFFF  # outside IA-32e mode

Pieces = list[tuple[int, int]]  # (gpa, size in bytes), each inside one page


@dataclass(frozen=True, slots=True)
class Fault:
    """An exception for the guest; `gva` is for CR2, with a #PF."""

    vector: int
    error_code: int
    gva: int = 0


class SystemMemory:
    """The memory of a vCPU in its paging mode of now, outside IA-32e mode."""

    def __init__(self, vcpu: VCpu) -> None:
        self._vcpu = vcpu
        self.mode = paging_mode(vcpu)

    def find(self, linear: int, size_bytes: int, *, write: bool = False, user: bool = False) -> Pieces | Fault:
        """Where the bytes lie, or the page fault of the first that may not be accessed so."""
        pieces: Pieces = []
        while size_bytes:
            linear &= LINEAR_MASK
            here = min(size_bytes, PAGE_BYTES - linear % PAGE_BYTES)
            found = walk(self._vcpu, self.mode, linear, write=write, user=user)
            if isinstance(found, GuestFault):
                return Fault(PAGE_FAULT, found.error_code, found.gva)
            pieces.append((found.gpa, here))
            linear, size_bytes = linear + here, size_bytes - here
        return pieces

    def read(self, pieces: Pieces) -> bytes:
        """The bytes there."""
        for gpa, size_bytes in pieces:
            self._charge(gpa, size_bytes, is_write=False)
        return b"".join(self._vcpu.domain.read(gpa, size_bytes) for gpa, size_bytes in pieces)

    def write(self, pieces: Pieces, data: bytes) -> None:
        """Store `data`; shadow tables follow."""
        vcpu = self._vcpu
        for gpa, size_bytes in pieces:
            self._charge(gpa, size_bytes, is_write=True)
            vcpu.domain.write(gpa, data[:size_bytes])
            vcpu.paging.guest_memory_written(vcpu.meter, gpa, size_bytes)
            data = data[size_bytes:]

    def _charge(self, gpa: int, size_bytes: int, *, is_write: bool) -> None:
        self._vcpu.meter.follow(paths.GUEST_COPY)
        if self._vcpu.domain.is_ram(gpa, size_bytes):
            self._vcpu.meter.touch(self._vcpu.domain.hpa_of(gpa), size_bytes, is_write)
