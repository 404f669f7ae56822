"""`emulate`: carry out the one instruction at RIP.

An instruction is decoded and compiled to closures once; the result depends on its bytes alone and is kept.
Left to the caller: single-step traps (RFLAGS.TF), clearing RFLAGS.RF, the end of blocking by STI or MOV SS.

Speed of a cached instruction on the tests' register file, CPython 3.11 on a small virtual machine (aim: below 4 us):

    mov [rdi], rsi         1.0 us      lock and [rdi], imm32   1.6 us      lock cmpxchg [rdi], rsi   2.2 us
    xchg [rdi], rsi        1.7 us      lock bts [rdi], imm8    1.7 us      lock bts [rdi], rcx       2.8 us

    python -m timeit -s 'import tests.vmm.emulation.oracle as o; from vmm.emulation import emulate' \\
        -s 'machine = o.Machine([o.DATA] * 16, bytearray(o.DATA_BYTES))' \\
        -s 'code = bytes.fromhex("f0480fb137").ljust(15)' \\
        'emulate(machine, code, 64)'
"""

from functools import lru_cache
from typing import NamedTuple

from emulator.x86 import INVALID_OPCODE
from vmm.emulation.decode import Memory, decode
from vmm.emulation.state import CpuState, Emulated, Execute, PageFault, Unhandled
from vmm.emulation.table import INSTRUCTIONS

_CACHED_INSTRUCTIONS = 4096  # a guest can make up any number of them


def emulate(state: CpuState, code: bytes, bits: int) -> Emulated | Unhandled | PageFault:
    """Carry out the instruction that `code` (the up to 15 bytes at RIP) starts with, of 16-, 32- or 64-bit code."""
    compiled = _compile(code, bits)
    if isinstance(compiled, Unhandled):
        return compiled
    execute, length_bytes, rip_mask, done = compiled
    stop = execute(state)
    if stop is not None:
        return stop
    state.rip = state.rip + length_bytes & rip_mask
    return done


class _Compiled(NamedTuple):
    execute: Execute
    length_bytes: int
    rip_mask: int
    done: Emulated


@lru_cache(_CACHED_INSTRUCTIONS)
def _compile(code: bytes, bits: int) -> _Compiled | Unhandled:
    decoded = decode(code, bits)
    if isinstance(decoded, Unhandled):
        return decoded
    row = INSTRUCTIONS.get(decoded.mnemonic)
    if row is None:
        return Unhandled(f"{decoded.mnemonic} is not emulated")
    if decoded.is_locked and not (row.is_lockable and isinstance(decoded.operands[0], Memory)):
        return Unhandled(f"{decoded.mnemonic} with LOCK", INVALID_OPCODE)
    return _Compiled(
        row.compile(decoded),
        decoded.length_bytes,
        (1 << bits) - 1,
        Emulated(decoded.mnemonic, decoded.length_bytes, decoded.fetch_count),
    )
