"""What the instruction emulator asks of a processor, and what it answers.

code at RIP --emulate--> Emulated     the instruction is done (or one step of a REP), registers and RIP are new
                         PageFault    a memory operand faults; nothing changed, inject #PF
                         Unhandled    not emulated, or the processor raises `vector`; nothing changed
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from emulator.x86 import PF_WRITE


@dataclass(frozen=True, slots=True)
class PageFault:
    """#PF with this error code at this linear address."""

    gva: int
    error_code: int

    def as_write(self) -> "PageFault":
        """The same fault as a read-modify-write instruction takes it: its read already asks for a writable page."""
        return replace(self, error_code=self.error_code | PF_WRITE)


@dataclass(frozen=True, slots=True)
class Emulated:
    """The instruction was carried out. `is_repeating`: one step of a REP was, RIP still points at it.

    `fetch_count`: the pieces in which a decoder fetches it: each prefix, opcode byte, ModRM and SIB; displacement;
    immediate.
    """

    mnemonic: str
    length_bytes: int
    fetch_count: int
    is_repeating: bool = False


@dataclass(frozen=True, slots=True)
class Unhandled:
    """The instruction was not carried out: `reason` for people, `vector` if the processor raises this exception.

    `vector` 12 and 13 come with error code 0; 6 has none. None: the processor may well execute it, the emulator cannot.
    """

    reason: str
    vector: int | None = None


class CpuState(Protocol):
    """A processor's registers and its view of memory.

    `load` and `store` translate `linear` through the guest's page tables at the current privilege level. An access may
    cross a page (both pages must be checked before any byte is stored) and may wrap at the top of the linear addresses.
    In 64-bit mode `linear` is canonical.
    """

    rip: int
    rflags: int

    def read_gpr(self, index: int) -> int:
        """All 64 bits of RAX RCX RDX RBX RSP RBP RSI RDI R8 .. R15 (0 to 15)."""

    def write_gpr(self, index: int, value: int) -> None:
        """Set all 64 bits."""

    def segment_base(self, index: int) -> int:
        """Base of ES CS SS DS FS GS (0 to 5); in 64-bit mode only FS and GS are asked for."""

    def load(self, linear: int, size_bytes: int) -> int | PageFault:
        """The little-endian value of 1, 2, 4, 8 or 16 bytes."""

    def store(self, linear: int, size_bytes: int, value: int) -> PageFault | None:
        """Write all bytes, or none and say why."""


Stop = PageFault | Unhandled
Execute = Callable[[CpuState], "Stop | Emulated | None"]  # None: carried out, RIP moves on
