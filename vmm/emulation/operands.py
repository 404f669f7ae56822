"""Operands compiled to closures: where an operand is, what it holds, how to change it.

    Place   locate(state) -> linear (0 for a register)     once per instruction, before anything changes
            read(state, linear), write(state, linear, value)
    Value   value(state)                                    a source that is only read

Segment limits and rights are not checked: # MODEL: outside 64-bit mode segments are taken to be flat and writable.
Alignment checks (CR0.AM) are not made.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from emulator.x86 import GENERAL_PROTECTION, STACK_FAULT
from vmm.emulation.arithmetic import sign_extend
from vmm.emulation.decode import FS, GS, RIP, SS, Decoded, Immediate, Memory, Operand, Register
from vmm.emulation.state import CpuState, PageFault, Stop, Unhandled

MASK_32 = (1 << 32) - 1
MASK_64 = (1 << 64) - 1
CANONICAL_BITS = 48  # 4-level paging
_HALF = 1 << CANONICAL_BITS - 1

Offset = Callable[[CpuState], int]
Locate = Callable[[CpuState], int | Unhandled]
Value = Callable[[CpuState], int | Stop]


class Place(NamedTuple):
    """An operand that can be changed."""

    size_bytes: int
    locate: Locate
    read: Callable[[CpuState, int], int | PageFault]
    write: Callable[[CpuState, int, int], PageFault | None]


def compile_place(operand: Operand, decoded: Decoded) -> Place:
    """The closures of a register or memory operand."""
    match operand:
        case Register():
            return register_place(operand)
        case Memory():
            return memory_place(operand, compile_locate(operand, decoded))
        case Immediate():
            raise AssertionError(f"{decoded.mnemonic} to a constant")


def compile_value(operand: Operand, decoded: Decoded) -> Value:
    """A function that reads the operand."""
    match operand:
        case Immediate():
            value = operand.value
            return lambda _: value
        case Register():
            return compile_register(operand)
        case Memory():
            size_bytes, locate = operand.size_bytes, compile_locate(operand, decoded)

            def load(state: CpuState) -> int | Stop:
                linear = locate(state)
                return state.load(linear, size_bytes) if isinstance(linear, int) else linear

            return load


def compile_register(register: Register) -> Callable[[CpuState], int]:
    """A function that reads (part of) a general register."""
    index, shift, mask = register.index, register.shift, (1 << 8 * register.size_bytes) - 1
    if shift:
        return lambda state: state.read_gpr(index) >> shift & mask
    return lambda state: state.read_gpr(index) & mask


def register_place(register: Register) -> Place:
    """A register; writing 32 bits clears the upper half, writing 8 or 16 keeps the rest (SDM 1 3.4.1.1)."""
    index, shift, mask = register.index, register.shift, (1 << 8 * register.size_bytes) - 1
    keep = MASK_64 & ~(mask << shift)
    read = compile_register(register)

    def write_whole(state: CpuState, _: int, value: int) -> None:
        state.write_gpr(index, value)

    def write_part(state: CpuState, _: int, value: int) -> None:
        state.write_gpr(index, state.read_gpr(index) & keep | value << shift)

    write = write_whole if register.size_bytes >= 4 else write_part
    return Place(register.size_bytes, lambda _: 0, lambda state, _: read(state), write)


def memory_place(memory: Memory, locate: Locate) -> Place:
    """Memory at the address that `locate` finds."""
    size_bytes = memory.size_bytes
    return Place(
        size_bytes,
        locate,
        lambda state, linear: state.load(linear, size_bytes),
        lambda state, linear, value: state.store(linear, size_bytes, value),
    )


def compile_locate(memory: Memory, decoded: Decoded, offset: Offset | None = None) -> Locate:
    """The linear address of a memory operand (of `offset` in its segment, if given), or the exception it raises."""
    in_segment = offset or compile_offset(memory, decoded)
    segment = memory.segment
    if decoded.bits != 64:
        return lambda state: state.segment_base(segment) + in_segment(state) & MASK_32
    has_base = segment in (FS, GS)
    vector = STACK_FAULT if segment == SS else GENERAL_PROTECTION  # SDM 1 3.3.7.1
    not_canonical = Unhandled(f"{decoded.mnemonic}: address not canonical", vector)
    last_start = (1 << CANONICAL_BITS) - memory.size_bytes

    def locate(state: CpuState) -> int | Unhandled:
        linear = in_segment(state)
        if has_base:
            linear = linear + state.segment_base(segment) & MASK_64
        return linear if linear + _HALF & MASK_64 <= last_start else not_canonical

    return locate


def compile_offset(memory: Memory, decoded: Decoded) -> Offset:
    """The effective address: base + index * scale + displacement, modulo the address size."""
    base, index, scale, displacement = memory.base, memory.index, memory.scale, memory.displacement
    mask = (1 << memory.address_bits) - 1
    if base == RIP:
        return lambda state: state.rip + displacement & mask
    if base is not None and index is not None:
        return lambda state: state.read_gpr(base) + state.read_gpr(index) * scale + displacement & mask
    if base is not None:
        return lambda state: state.read_gpr(base) + displacement & mask
    if index is not None:
        return lambda state: state.read_gpr(index) * scale + displacement & mask
    constant = displacement & mask
    return lambda _: constant


def compile_bit_place(memory: Memory, bit_offset: Register, decoded: Decoded) -> Place:
    """The unit of a bit string, starting at `memory`, that holds the bit a register numbers (SDM 2A 3.1.1.9, BitBase).

    bit offset, signed:   | unit offset                  | bit in the unit: 4, 5 or 6 bits |
    """
    unit_bits = 8 * memory.size_bytes
    shift = unit_bits.bit_length() - 1
    mask = (1 << memory.address_bits) - 1
    offset, read_bit_offset = compile_offset(memory, decoded), compile_register(bit_offset)

    def unit_offset(state: CpuState) -> int:
        unit = sign_extend(read_bit_offset(state), unit_bits) >> shift
        return offset(state) + unit * memory.size_bytes & mask

    return memory_place(memory, compile_locate(memory, decoded, unit_offset))


def after_increment(operand: Operand, stack_pointer: int, size_bytes: int) -> Operand:
    """POP computes the address of its destination after the stack pointer moved (SDM 2B, POP)."""
    if isinstance(operand, Memory) and operand.base == stack_pointer:
        return replace(operand, displacement=operand.displacement + size_bytes)
    return operand
