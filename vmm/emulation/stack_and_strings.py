"""PUSH and POP; MOVS, STOS and LODS, one element per call.

    REP: count = xCX (of the address size); 0: nothing to do; else one element, count - 1, and RIP stays until it is 0.

# MODEL: in 16- and 32-bit code the stack pointer is taken to be as wide as the code (SS.B = CS.D).
"""

from collections.abc import Callable

from emulator.x86 import RCX, RSP
from vmm.emulation.arithmetic import DF
from vmm.emulation.decode import SS, Decoded, Memory, Register
from vmm.emulation.operands import (
    after_increment,
    compile_locate,
    compile_place,
    compile_register,
    compile_value,
    register_place,
)
from vmm.emulation.state import CpuState, Emulated, Execute, Stop

MoveRegister = Callable[[CpuState, int], None]


def push(decoded: Decoded) -> Execute:
    """PUSH: the source is read before the stack pointer moves."""
    source = decoded.operands[0]
    size_bytes = source.size_bytes
    slot = Memory(size_bytes, decoded.bits, SS, RSP, displacement=-size_bytes)
    locate, read = compile_locate(slot, decoded), compile_value(source, decoded)
    move_pointer = _compile_move_register(RSP, decoded.bits)

    def execute(state: CpuState) -> Stop | None:
        linear = locate(state)
        if not isinstance(linear, int):
            return linear
        value = read(state)
        if not isinstance(value, int):
            return value
        fault = state.store(linear, size_bytes, value)
        if fault is None:
            move_pointer(state, -size_bytes)
        return fault

    return execute


def pop(decoded: Decoded) -> Execute:
    """POP: the destination's address, or the destination itself if it is xSP, is that after the pointer moved."""
    destination = decoded.operands[0]
    size_bytes = destination.size_bytes
    place = compile_place(after_increment(destination, RSP, size_bytes), decoded)
    read_top = compile_value(Memory(size_bytes, decoded.bits, SS, RSP), decoded)
    move_pointer = _compile_move_register(RSP, decoded.bits)

    def to_memory(state: CpuState) -> Stop | None:
        linear = place.locate(state)
        if not isinstance(linear, int):
            return linear
        value = read_top(state)
        if not isinstance(value, int):
            return value
        fault = place.write(state, linear, value)
        if fault is None:
            move_pointer(state, size_bytes)
        return fault

    def to_register(state: CpuState) -> Stop | None:
        value = read_top(state)
        if not isinstance(value, int):
            return value
        move_pointer(state, size_bytes)
        return place.write(state, 0, value)

    return to_memory if isinstance(destination, Memory) else to_register


def move_element(decoded: Decoded) -> Execute:
    """MOVS, STOS, LODS: one element from the source (memory or the accumulator) to the destination, pointers move."""
    destination, source = decoded.operands
    size_bytes = destination.size_bytes
    place, read = compile_place(destination, decoded), compile_value(source, decoded)
    memories = [operand for operand in decoded.operands if isinstance(operand, Memory)]
    move_pointers = [_compile_move_register(m.base, m.address_bits) for m in memories if m.base is not None]

    def execute(state: CpuState) -> Stop | None:
        linear = place.locate(state)
        if not isinstance(linear, int):
            return linear
        value = read(state)
        if not isinstance(value, int):
            return value
        fault = place.write(state, linear, value)
        if fault is None:
            step_bytes = -size_bytes if state.rflags & DF else size_bytes
            for move_pointer in move_pointers:
                move_pointer(state, step_bytes)
        return fault

    return _repeat(execute, memories[0].address_bits, decoded) if decoded.is_repeated else execute


def _repeat(step: Execute, address_bits: int, decoded: Decoded) -> Execute:
    read_count = compile_register(Register(RCX, address_bits // 8))
    move_count = _compile_move_register(RCX, address_bits)
    repeating = Emulated(decoded.mnemonic, decoded.length_bytes, decoded.fetch_count, is_repeating=True)

    def execute(state: CpuState) -> Stop | Emulated | None:
        count = read_count(state)
        if not count:
            return None
        stop = step(state)
        if stop is not None:
            return stop
        move_count(state, -1)
        return repeating if count > 1 else None

    return execute


def _compile_move_register(index: int, bits: int) -> MoveRegister:
    """A function that adds to the low `bits` of a register."""
    register, mask = Register(index, bits // 8), (1 << bits) - 1
    read, write = compile_register(register), register_place(register).write

    def move(state: CpuState, delta: int) -> None:
        write(state, 0, read(state) + delta & mask)

    return move
