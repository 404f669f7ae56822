"""The page that a guest shares with its virtual interface; devices/nic/vif_page.py says what is where.

The guest owns it: nothing in it is to be trusted, and nothing of the VMM's state is in it.
"""

from collections.abc import Sequence

from devices.nic.vif_page import (
    DESCRIPTOR_BYTES,
    MASKED,
    PENDING,
    RECEIVE_RING,
    RECEIVED,
    RING_COUNT,
    SEND_RING,
    descriptor_at,
    unpack,
)
from emulator.x86 import PAGE_BYTES
from vmm.guest_memory import GuestMemory
from vmm.vcpu import VCpu

WORD_BYTES, LINE_BYTES = 4, 64
RING_BYTES = RING_COUNT * DESCRIPTOR_BYTES


class VifPage:
    """The page at `gpa`, all of it RAM, of the guest that has `memory` and `vcpus`."""

    def __init__(self, memory: GuestMemory, vcpus: Sequence[VCpu], gpa: int) -> None:
        self.vcpus = vcpus
        self.gpa = gpa
        self.hpa = memory.hpa_of(gpa)
        self._memory = memory

    @property
    def is_pending(self) -> bool:
        """Whether the guest has yet to look."""
        return self._word(PENDING) != 0

    @property
    def is_masked(self) -> bool:
        """Whether the guest looks by itself, and is not to be called."""
        return self._word(MASKED) != 0

    @property
    def received(self) -> int:
        """How many frames the device has delivered, as it says there."""
        return self._word(RECEIVED)

    def set_pending(self) -> None:
        """The guest is to look."""
        self._memory.write(self.gpa + PENDING, (1).to_bytes(WORD_BYTES, "little"))

    def covers(self, gpa: int) -> bool:
        """Whether a guest-physical address is inside."""
        return self.gpa <= gpa < self.gpa + PAGE_BYTES

    def state(self, ring: int, index: int) -> int:
        """Whose a descriptor is."""
        return unpack(self._memory.read(self.gpa + descriptor_at(ring, index), DESCRIPTOR_BYTES))[2]

    def line(self, hpa: int) -> bytes:
        """The line at a host-physical address inside."""
        return self._memory.read(self.gpa + (hpa - self.hpa & -LINE_BYTES), LINE_BYTES)

    def _word(self, offset: int) -> int:
        return int.from_bytes(self._memory.read(self.gpa + offset, WORD_BYTES), "little")


def descriptor_of(hpa: int, page_hpa: int) -> tuple[int, int] | None:
    """The ring and the index of the descriptor at a host-physical address inside the page; None: no descriptor."""
    for ring in (SEND_RING, RECEIVE_RING):
        offset = hpa - page_hpa - ring
        if 0 <= offset < RING_BYTES:
            return ring, offset // DESCRIPTOR_BYTES
    return None
