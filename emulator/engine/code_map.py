"""Which pages of a host's memory have translated code, of any CPU: see unicorn/code.c."""

from emulator.engine._engine import ffi, lib
from emulator.memory import HostMemory
from emulator.x86 import PAGE_BYTES


class CodeMap:
    """The code map of a memory. There is one, and its CPUs share it."""

    def __init__(self, memory: HostMemory) -> None:
        pages = memory.bounds[2] // PAGE_BYTES
        opened = lib.sc_code_open(pages)
        if opened == ffi.NULL:
            raise MemoryError
        self.map = ffi.gc(opened, lib.sc_code_close)
        self._counts = memoryview(ffi.buffer(lib.sc_code_counts(self.map), pages))

    def written(self, hpa: int, length_bytes: int) -> None:
        """Take away the translations of [hpa, hpa + length_bytes), which is RAM and has changed."""
        first, last = hpa // PAGE_BYTES, (hpa + length_bytes - 1) // PAGE_BYTES
        if any(self._counts[first : last + 1]):
            lib.sc_code_written(self.map, hpa, length_bytes)


def code_map(memory: HostMemory) -> CodeMap:
    """That of `memory`."""
    if not isinstance(memory.code, CodeMap):
        memory.code = CodeMap(memory)
    return memory.code
