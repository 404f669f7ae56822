"""Two processors to compare: registers and memory in Python for the emulator, and a stock Unicorn as the oracle."""

from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any

from unicorn import x86_const as u

from vmm.emulation import PageFault

unicorn: Any = import_module("unicorn")  # half typed: its own annotations do not pass strict checks

CODE, DATA, DATA_BYTES = 0x4000, 0x8000, 0x3000  # below 64 KiB: 16-bit addresses reach them
GS_BASE = 0x8800
FLAGS_FIXED = 0x2
STATUS = 0x8D5
PF_WRITE = 2
_MODES = {16: unicorn.UC_MODE_16, 32: unicorn.UC_MODE_32, 64: unicorn.UC_MODE_64}
_NAMES = ("AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI", "8", "9", "10", "11", "12", "13", "14", "15")


@dataclass(repr=False)
class Machine:
    """A `CpuState`: DATA_BYTES of memory at DATA, everything else faults, `read_only` pages (numbers) on stores."""

    gpr: list[int]
    memory: bytearray
    rip: int = CODE
    rflags: int = FLAGS_FIXED
    bases: dict[int, int] = field(default_factory=dict)
    read_only: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        registers = " ".join(f"{value:#x}" for value in self.gpr)
        return f"<registers {registers} flags {self.rflags:#x} memory {self.memory[:64].hex()}...>"

    def read_gpr(self, index: int) -> int:
        return self.gpr[index]

    def write_gpr(self, index: int, value: int) -> None:
        assert 0 <= value < 1 << 64
        self.gpr[index] = value

    def segment_base(self, index: int) -> int:
        return self.bases.get(index, 0)

    def load(self, linear: int, size_bytes: int) -> int | PageFault:
        assert 0 <= linear < 1 << 64
        if not (linear >= DATA and linear + size_bytes <= DATA + DATA_BYTES):
            return PageFault(linear, 0)
        return int.from_bytes(self.memory[linear - DATA : linear - DATA + size_bytes], "little")

    def store(self, linear: int, size_bytes: int, value: int) -> PageFault | None:
        if not (linear >= DATA and linear + size_bytes <= DATA + DATA_BYTES):
            return PageFault(linear, PF_WRITE)
        for page in (linear >> 12, linear + size_bytes - 1 >> 12):
            if page in self.read_only:
                return PageFault(linear, PF_WRITE | 1)
        self.memory[linear - DATA : linear - DATA + size_bytes] = value.to_bytes(size_bytes, "little")
        return None

    def copy(self) -> "Machine":
        return Machine(list(self.gpr), bytearray(self.memory), self.rip, self.rflags, dict(self.bases), self.read_only)


def run_oracle(machine: Machine, code: bytes, bits: int) -> Machine | None:
    """The state after one step of Unicorn from `machine`, or None if the instruction raised an exception."""
    oracle = _oracle(bits)
    names = _register_ids(bits)
    oracle.mem_write(CODE, code.ljust(32, b"\x90"))
    oracle.mem_write(DATA, bytes(machine.memory))
    for name, value in zip(names, machine.gpr, strict=False):
        oracle.reg_write(name, value)
    oracle.reg_write(u.UC_X86_REG_EFLAGS, machine.rflags)
    if bits == 64:
        oracle.reg_write(u.UC_X86_REG_GS_BASE, GS_BASE)
    oracle.ctl_remove_cache(CODE, CODE + 32)
    try:
        oracle.emu_start(CODE, CODE + 0x800, count=1)
    except unicorn.UcError:
        return None
    return Machine(
        gpr=[oracle.reg_read(name) for name in names] + machine.gpr[len(names) :],
        memory=oracle.mem_read(DATA, DATA_BYTES),
        rip=oracle.reg_read(u.UC_X86_REG_RIP if bits == 64 else u.UC_X86_REG_EIP),
        rflags=oracle.reg_read(u.UC_X86_REG_EFLAGS),
        bases=machine.bases,
    )


@lru_cache
def _oracle(bits: int) -> Any:
    oracle = unicorn.Uc(unicorn.UC_ARCH_X86, _MODES[bits])
    oracle.mem_map(CODE, 0x1000, unicorn.UC_PROT_EXEC)  # no data here
    oracle.mem_map(DATA, DATA_BYTES)
    return oracle


@lru_cache
def _register_ids(bits: int) -> list[int]:
    return [getattr(u, f"UC_X86_REG_{'R' if bits == 64 else 'E'}{name}") for name in _NAMES[: 16 if bits == 64 else 8]]
