"""The shapes instructions have: each compiles decoded operands to a function that carries the instruction out.

A function reads everything first, then makes its only store to memory, then writes registers: a fault changes nothing.
"""

from collections.abc import Callable

from emulator.x86 import GENERAL_PROTECTION, RAX, RBX, RCX, RDX
from vmm.emulation.arithmetic import ZF, Condition, Factory, subtract
from vmm.emulation.decode import Decoded, Immediate, Memory, Register
from vmm.emulation.operands import (
    Place,
    Value,
    compile_bit_place,
    compile_place,
    compile_register,
    compile_value,
    register_place,
)
from vmm.emulation.state import CpuState, Execute, Stop, Unhandled

Compile = Callable[[Decoded], Execute]


def move(decoded: Decoded) -> Execute:
    """Destination <- source, which is zero-extended: MOV, MOVNTI, MOVZX."""
    destination, source = decoded.operands
    return _move(compile_place(destination, decoded), compile_value(source, decoded))


def move_converted(convert: Callable[[int, int], int]) -> Compile:
    """Destination <- convert(source, bits of the source): MOVSX, MOVSXD, MOVBE."""

    def compile_form(decoded: Decoded) -> Execute:
        destination, source = decoded.operands
        read = compile_value(source, decoded)
        bits, mask = 8 * source.size_bytes, (1 << 8 * destination.size_bytes) - 1

        def converted(state: CpuState) -> int | Stop:
            value = read(state)
            return convert(value, bits) & mask if isinstance(value, int) else value

        return _move(compile_place(destination, decoded), converted)

    return compile_form


def swap_bytes(value: int, bits: int) -> int:
    """The value with its bytes in the other order."""
    return int.from_bytes(value.to_bytes(bits // 8, "big"), "little")


def set_byte(condition: Condition) -> Compile:
    """Destination <- 1 or 0: SETcc."""

    def compile_form(decoded: Decoded) -> Execute:
        return _move(compile_place(decoded.operands[0], decoded), lambda state: int(condition(state.rflags)))

    return compile_form


def _move(place: Place, read: Value) -> Execute:
    _, locate, _, write = place

    def execute(state: CpuState) -> Stop | None:
        linear = locate(state)
        if not isinstance(linear, int):
            return linear
        value = read(state)
        if not isinstance(value, int):
            return value
        return write(state, linear, value)

    return execute


def move_if(condition: Condition) -> Compile:
    """CMOVcc: the source is always read, and a 32-bit destination loses its upper half either way."""

    def compile_form(decoded: Decoded) -> Execute:
        destination, source = decoded.operands
        assert isinstance(destination, Register)
        read, write = compile_value(source, decoded), register_place(destination).write
        read_destination = compile_register(destination)

        def execute(state: CpuState) -> Stop | None:
            value = read(state)
            if not isinstance(value, int):
                return value
            return write(state, 0, value if condition(state.rflags) else read_destination(state))

        return execute

    return compile_form


def modify(factory: Factory, *, is_stored: bool = True) -> Compile:
    """Destination, flags <- operation(destination, source or nothing): ADD .. SHR; without the store CMP, TEST."""

    def compile_form(decoded: Decoded) -> Execute:
        destination = compile_place(decoded.operands[0], decoded)
        source = decoded.operands[1] if len(decoded.operands) > 1 else Immediate(0, 1)
        return _modify(destination, compile_value(source, decoded), factory, is_stored=is_stored)

    return compile_form


def modify_bit(factory: Factory, *, is_stored: bool = True) -> Compile:
    """BT, BTS, BTR, BTC; a bit number in a register reaches beyond a memory operand, an immediate does not."""

    def compile_form(decoded: Decoded) -> Execute:
        base, number = decoded.operands
        if isinstance(base, Memory) and isinstance(number, Register):
            place = compile_bit_place(base, number, decoded)
        else:
            place = compile_place(base, decoded)
        return _modify(place, compile_value(number, decoded), factory, is_stored=is_stored)

    return compile_form


def _modify(place: Place, read_source: Value, factory: Factory, *, is_stored: bool) -> Execute:
    size_bytes, locate, read, write = place
    operation = factory(8 * size_bytes)

    def execute(state: CpuState) -> Stop | None:
        linear = locate(state)
        if not isinstance(linear, int):
            return linear
        old = read(state, linear)
        if not isinstance(old, int):
            return old.as_write() if is_stored else old
        source = read_source(state)
        if not isinstance(source, int):
            return source
        rflags = state.rflags
        new, new_rflags = operation(old, source, rflags)
        if is_stored:
            fault = write(state, linear, new)
            if fault is not None:
                return fault
        if new_rflags != rflags:
            state.rflags = new_rflags
        return None

    return execute


def exchange(factory: Factory | None) -> Compile:
    """Source <- destination, destination <- operation(destination, source) or source: XADD, XCHG."""

    def compile_form(decoded: Decoded) -> Execute:
        first, second = decoded.operands
        if isinstance(second, Memory):  # XCHG has no order
            first, second = second, first
        assert isinstance(second, Register)
        place, read_other, write_other = (
            compile_place(first, decoded),
            compile_register(second),
            register_place(second).write,
        )
        operation = factory(8 * place.size_bytes) if factory else None
        is_same = first == second

        def execute(state: CpuState) -> Stop | None:
            linear = place.locate(state)
            if not isinstance(linear, int):
                return linear
            old = place.read(state, linear)
            if not isinstance(old, int):
                return old.as_write()
            new, rflags, new_rflags = read_other(state), 0, 0
            if operation:
                rflags = state.rflags
                new, new_rflags = operation(old, new, rflags)
            fault = place.write(state, linear, new)
            if fault is not None:
                return fault
            if not is_same:
                write_other(state, 0, old)
            if new_rflags != rflags:
                state.rflags = new_rflags
            return None

        return execute

    return compile_form


def compare_and_exchange(decoded: Decoded) -> Execute:
    """CMPXCHG: the destination is written in any case, with its old value if it differs from the accumulator.

    SDM 2A: the accumulator is written on a mismatch only.
    """
    destination, source = decoded.operands
    assert isinstance(source, Register)
    place, read_source = compile_place(destination, decoded), compile_register(source)
    accumulator = Register(RAX, place.size_bytes)
    read_accumulator, write_accumulator = compile_register(accumulator), register_place(accumulator).write
    operation = subtract(8 * place.size_bytes)

    def execute(state: CpuState) -> Stop | None:
        linear = place.locate(state)
        if not isinstance(linear, int):
            return linear
        old = place.read(state, linear)
        if not isinstance(old, int):
            return old.as_write()
        expected, rflags = read_accumulator(state), state.rflags
        _, new_rflags = operation(expected, old, rflags)
        fault = place.write(state, linear, read_source(state) if expected == old else old)
        if fault is not None:
            return fault
        if expected != old:
            write_accumulator(state, 0, old)
        if new_rflags != rflags:
            state.rflags = new_rflags
        return None

    return execute


def compare_and_exchange_pair(decoded: Decoded) -> Execute:
    """CMPXCHG8B and CMPXCHG16B: xDX:xAX against memory, xCX:xBX into it; only ZF changes."""
    place = compile_place(decoded.operands[0], decoded)
    half_bits = 4 * place.size_bytes
    half_mask = (1 << half_bits) - 1
    alignment_mask = 15 if place.size_bytes == 16 else 0
    unaligned = Unhandled(f"{decoded.mnemonic}: address not a multiple of 16", GENERAL_PROTECTION)

    def pair(state: CpuState, high: int, low: int) -> int:
        return (state.read_gpr(high) & half_mask) << half_bits | state.read_gpr(low) & half_mask

    def execute(state: CpuState) -> Stop | None:
        linear = place.locate(state)
        if not isinstance(linear, int):
            return linear
        if linear & alignment_mask:
            return unaligned
        old = place.read(state, linear)
        if not isinstance(old, int):
            return old.as_write()
        is_equal = pair(state, RDX, RAX) == old
        fault = place.write(state, linear, pair(state, RCX, RBX) if is_equal else old)
        if fault is not None:
            return fault
        if not is_equal:
            state.write_gpr(RAX, old & half_mask)
            state.write_gpr(RDX, old >> half_bits)
        state.rflags = state.rflags & ~ZF | (ZF if is_equal else 0)
        return None

    return execute
