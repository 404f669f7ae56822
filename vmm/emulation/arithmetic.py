"""Results and status flags of the integer instructions (SDM 1 3.4.3.1 and the instruction pages of SDM 2).

Each factory takes the operand width and gives a function (destination, source, RFLAGS) -> (result, RFLAGS). Flags that
the manual leaves undefined:

    AND OR XOR TEST   AF is 0                  SHL SHR SAR   AF is 0; OF of counts above 1 as for 1; CF of SHL and SHR
    BT BTS BTR BTC    OF SF AF PF stay                       by more than the width is 0
"""

from collections.abc import Callable

CF, PF, AF, ZF, SF, DF, OF = 1 << 0, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 10, 1 << 11
STATUS = CF | PF | AF | ZF | SF | OF
_PARITY = tuple(PF if byte.bit_count() % 2 == 0 else 0 for byte in range(256))
_SF_BIT, _OF_BIT = 7, 11

Operation = Callable[[int, int, int], tuple[int, int]]
Factory = Callable[[int], Operation]


def add(bits: int, *, carry_in: int = 0) -> Operation:
    """ADD, and ADC with `carry_in` = CF."""
    mask, top = (1 << bits) - 1, bits - 1

    def operation(a: int, b: int, rflags: int) -> tuple[int, int]:
        total = a + b + (rflags & carry_in)
        result = total & mask
        return result, (
            rflags & ~STATUS
            | total >> bits
            | _PARITY[result & 0xFF]
            | (a ^ b ^ result) & AF
            | (0 if result else ZF)
            | result >> top << _SF_BIT
            | ((a ^ result) & (b ^ result)) >> top << _OF_BIT
        )

    return operation


def subtract(bits: int, *, borrow_in: int = 0) -> Operation:
    """SUB and CMP, and SBB with `borrow_in` = CF."""
    mask, top = (1 << bits) - 1, bits - 1

    def operation(a: int, b: int, rflags: int) -> tuple[int, int]:
        total = a - b - (rflags & borrow_in)
        result = total & mask
        return result, (
            rflags & ~STATUS
            | (CF if total < 0 else 0)
            | _PARITY[result & 0xFF]
            | (a ^ b ^ result) & AF
            | (0 if result else ZF)
            | result >> top << _SF_BIT
            | ((a ^ b) & (a ^ result)) >> top << _OF_BIT
        )

    return operation


def add_with_carry(bits: int) -> Operation:
    """ADC."""
    return add(bits, carry_in=CF)


def subtract_with_borrow(bits: int) -> Operation:
    """SBB."""
    return subtract(bits, borrow_in=CF)


def increment(bits: int) -> Operation:
    """INC: as adding 1, CF stays."""
    operation = add(bits)
    return lambda a, _, rflags: _keep_carry(operation(a, 1, rflags), rflags)


def decrement(bits: int) -> Operation:
    """DEC: as subtracting 1, CF stays."""
    operation = subtract(bits)
    return lambda a, _, rflags: _keep_carry(operation(a, 1, rflags), rflags)


def _keep_carry(outcome: tuple[int, int], rflags: int) -> tuple[int, int]:
    return outcome[0], outcome[1] & ~CF | rflags & CF


def negate(bits: int) -> Operation:
    """NEG."""
    operation = subtract(bits)
    return lambda a, _, rflags: operation(0, a, rflags)


def invert(bits: int) -> Operation:
    """NOT: no flag changes."""
    mask = (1 << bits) - 1
    return lambda a, _, rflags: (a ^ mask, rflags)


def _logic_flags(result: int, rflags: int, top: int) -> int:
    return (
        rflags & ~STATUS | _PARITY[result & 0xFF] | (0 if result else ZF) | result >> top << _SF_BIT
    )  # CF and OF are 0


def bitwise_and(bits: int) -> Operation:
    """AND and TEST."""
    return lambda a, b, rflags: (a & b, _logic_flags(a & b, rflags, bits - 1))


def bitwise_or(bits: int) -> Operation:
    """OR."""
    return lambda a, b, rflags: (a | b, _logic_flags(a | b, rflags, bits - 1))


def bitwise_xor(bits: int) -> Operation:
    """XOR."""
    return lambda a, b, rflags: (a ^ b, _logic_flags(a ^ b, rflags, bits - 1))


def shift_left(bits: int) -> Operation:
    """SHL."""
    mask, top, count_mask = (1 << bits) - 1, bits - 1, 63 if bits == 64 else 31

    def operation(a: int, b: int, rflags: int) -> tuple[int, int]:
        count = b & count_mask
        if not count:
            return a, rflags
        shifted = a << count
        result, carry = shifted & mask, shifted >> bits & 1
        return result, _logic_flags(result, rflags, top) | carry | (carry ^ result >> top) << _OF_BIT

    return operation


def shift_right(bits: int) -> Operation:
    """SHR."""
    top, count_mask = bits - 1, 63 if bits == 64 else 31

    def operation(a: int, b: int, rflags: int) -> tuple[int, int]:
        count = b & count_mask
        if not count:
            return a, rflags
        result = a >> count
        return result, _logic_flags(result, rflags, top) | a >> count - 1 & 1 | a >> top << _OF_BIT

    return operation


def shift_right_arithmetic(bits: int) -> Operation:
    """SAR: OF is 0."""
    mask, top, count_mask = (1 << bits) - 1, bits - 1, 63 if bits == 64 else 31

    def operation(a: int, b: int, rflags: int) -> tuple[int, int]:
        count = b & count_mask
        if not count:
            return a, rflags
        signed = sign_extend(a, bits)
        result = signed >> count & mask
        return result, _logic_flags(result, rflags, top) | signed >> count - 1 & 1

    return operation


def bit_test(bits: int) -> Operation:
    """BT: CF is the bit; the bit offset counts modulo the width."""
    return lambda a, b, rflags: (a, rflags & ~CF | a >> (b & bits - 1) & 1)


def bit_set(bits: int) -> Operation:
    """BTS."""
    return lambda a, b, rflags: (a | 1 << (b & bits - 1), rflags & ~CF | a >> (b & bits - 1) & 1)


def bit_reset(bits: int) -> Operation:
    """BTR."""
    return lambda a, b, rflags: (a & ~(1 << (b & bits - 1)), rflags & ~CF | a >> (b & bits - 1) & 1)


def bit_complement(bits: int) -> Operation:
    """BTC."""
    return lambda a, b, rflags: (a ^ 1 << (b & bits - 1), rflags & ~CF | a >> (b & bits - 1) & 1)


def sign_extend(value: int, bits: int) -> int:
    """The signed number that `bits` bits hold."""
    sign = 1 << bits - 1
    return (value ^ sign) - sign


Condition = Callable[[int], bool]

# tttn encodings 0 to 15 in their order (SDM 2D B.1.4.7): mnemonic suffix, whether it holds for an RFLAGS value
CONDITIONS: dict[str, Condition] = {
    "o": lambda rflags: rflags & OF != 0,
    "no": lambda rflags: rflags & OF == 0,
    "b": lambda rflags: rflags & CF != 0,
    "ae": lambda rflags: rflags & CF == 0,
    "e": lambda rflags: rflags & ZF != 0,
    "ne": lambda rflags: rflags & ZF == 0,
    "be": lambda rflags: rflags & (CF | ZF) != 0,
    "a": lambda rflags: rflags & (CF | ZF) == 0,
    "s": lambda rflags: rflags & SF != 0,
    "ns": lambda rflags: rflags & SF == 0,
    "p": lambda rflags: rflags & PF != 0,
    "np": lambda rflags: rflags & PF == 0,
    "l": lambda rflags: _is_less(rflags),
    "ge": lambda rflags: not _is_less(rflags),
    "le": lambda rflags: rflags & ZF != 0 or _is_less(rflags),
    "g": lambda rflags: rflags & ZF == 0 and not _is_less(rflags),
}


def _is_less(rflags: int) -> bool:
    return (rflags & SF != 0) != (rflags & OF != 0)
