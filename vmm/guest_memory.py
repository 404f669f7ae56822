"""A guest's memory in the host's: where it lies, and the checked ways to it.

gpa 0 ............ memory_bytes     nobody answers beyond: reads are all ones, writes are dropped
 |  + base_hpa
 v
hpa base_hpa ..... base_hpa + memory_bytes
"""

from emulator.memory import HostMemory

HOLE_HPA = 1 << 36  # far above any RAM of a host: nothing answers here
HOLE_BYTES = 1 << 30


class GuestMemory:
    """RAM [base_hpa, base_hpa + size_bytes) of `host`, at guest-physical addresses from 0 on."""

    def __init__(self, host: HostMemory, *, base_hpa: int, size_bytes: int) -> None:
        self._host = host
        self.base_hpa = base_hpa
        self.size_bytes = size_bytes

    def is_ram(self, gpa: int, length_bytes: int = 1) -> bool:
        """Whether the guest has RAM at [gpa, gpa + length_bytes)."""
        return gpa >= 0 and gpa + length_bytes <= self.size_bytes

    def hpa_of(self, gpa: int) -> int:
        """Host-physical address of guest-physical `gpa`.

        Outside the guest's RAM this is an address where nothing answers on the host's bus either: a guest's stray
        access reads all ones and is dropped, as on hardware, and never reaches another domain.
        """
        if 0 <= gpa < self.size_bytes:
            return self.base_hpa + gpa
        return HOLE_HPA | gpa & (HOLE_BYTES - 1)

    def read(self, gpa: int, length_bytes: int) -> bytes:
        """Bytes at `gpa`; all ones where the guest has no RAM."""
        if self.is_ram(gpa, length_bytes):
            return self._host.read(self.base_hpa + gpa, length_bytes)
        return bytes(
            self._host.bytes[self.base_hpa + gpa + i] if self.is_ram(gpa + i) else 0xFF for i in range(length_bytes)
        )

    def write(self, gpa: int, data: bytes) -> None:
        """Store `data` at `gpa`; what does not fall on the guest's RAM is dropped."""
        if self.is_ram(gpa, len(data)):
            self._host.write(self.base_hpa + gpa, data)
            return
        for i, byte in enumerate(data):
            if self.is_ram(gpa + i):
                self._host.bytes[self.base_hpa + gpa + i] = byte
