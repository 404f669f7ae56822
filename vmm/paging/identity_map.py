"""What the processor walks while the guest's paging is off: guest-physical addresses as they are, in PAE format."""

from emulator.x86 import LARGE, PAGE_BYTES
from vmm.domain import Domain
from vmm.paging.host_pages import HostPages

MIB2 = 2 << 20
FLAGS = 0x67  # present, writable, user, accessed, dirty


def build_identity_map(domain: Domain, pages: HostPages) -> int:
    """Map guest-physical addresses below 4 GiB to where they lie on the host, but not to devices; returns the root."""
    words = domain.machine.memory.words
    root = pages.allocate()
    for gib in range(4):
        directory = pages.allocate()
        words[(root >> 3) + gib] = directory | 1
        for index in range(512):
            gpa = (gib << 30) + index * MIB2
            if domain.mmio_fills(gpa, MIB2):
                continue
            if 0 < domain.memory.run_bytes(gpa) < MIB2 or domain.mmio_covers(gpa, MIB2):  # memory ends inside
                table = pages.allocate()
                for page in range(512):
                    if not domain.is_device_page((gpa >> 12) + page):
                        words[(table >> 3) + page] = domain.hpa_of(gpa + page * PAGE_BYTES) | FLAGS
                words[(directory >> 3) + index] = table | FLAGS
            else:
                words[(directory >> 3) + index] = domain.hpa_of(gpa) & ~(MIB2 - 1) | FLAGS | LARGE
    return root
