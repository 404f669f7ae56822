"""Bochs as an oracle. See bochs.c; this file builds and loads it.

bochscpu-python is used as a shared library of C functions, not as a Python module: setting a state word by word through
Python objects would cost more than running the case.
"""

import importlib.util
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from cffi import FFI

from emulator.memory import HostMemory
from tests.fuzz.processor_state import NAMES, State

SOURCE = Path(__file__).with_name("bochs.c")
LIMIT, HALT, SHUTDOWN = 0, 1, 2
COMPILE = ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-Wl,-z,lazy"]

ffi = FFI()
ffi.cdef("""
bool oracle_open(const char *library_path, uint8_t *memory, uint64_t memory_bytes);
void oracle_expect(uint64_t code, uint64_t bytes, uint64_t handlers, uint64_t low, uint64_t tables,
                   uint64_t tables_end);
bool oracle_strayed(void);
uint64_t oracle_run(uint64_t *state, uint64_t limit);
""")


@cache
def _library() -> Any:
    """bochs.c compiled. It is loaded before Bochs: its functions win."""
    with tempfile.TemporaryDirectory() as folder:
        ours = Path(folder) / "bochs_oracle.so"
        subprocess.run([*COMPILE, "-o", str(ours), str(SOURCE)], check=True)
        return ffi.dlopen(str(ours), ffi.RTLD_LAZY | ffi.RTLD_GLOBAL)


def _bochs_path() -> bytes:
    spec = importlib.util.find_spec("bochscpu")
    if spec is None or spec.origin is None:
        raise RuntimeError("bochscpu-python is not installed: pip install -e '.[dev]'")
    return bytes(next(Path(spec.origin).parent.glob("_bochscpu*.so")))


class Bochs:
    """The one CPU of Bochs over a memory of its own. It lives as long as the process."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory = HostMemory(memory_bytes)
        self._library = _library()
        self._words = ffi.new("uint64_t[]", len(NAMES))
        self._buffer = ffi.from_buffer("uint8_t[]", self.memory.map, require_writable=True)
        if not self._library.oracle_open(_bochs_path(), self._buffer, memory_bytes):
            raise RuntimeError("bochs.c was made for another version of bochscpu-python: see pyproject.toml")

    def expect(self, *places: int) -> None:
        """What belongs to a case: start and bytes of code, handlers, end of low memory, tables and their end."""
        self._library.oracle_expect(*places)

    def has_strayed(self) -> bool:
        """Whether the last run executed or touched anything elsewhere, or changed its code."""
        return bool(self._library.oracle_strayed())

    def run(self, state: State, limit_instructions: int) -> tuple[int, State]:
        """Run from `state`: how it ended (LIMIT, HALT, SHUTDOWN), and the state it came to."""
        words = self._words
        words[0 : len(state)] = state
        how = int(self._library.oracle_run(words, limit_instructions))
        return how, ffi.unpack(words, len(NAMES))
