"""Which instructions are emulated: one row per mnemonic. To add one: a row here; an operation or a form if new."""

from typing import NamedTuple

from vmm.emulation import arithmetic as a
from vmm.emulation import forms
from vmm.emulation import stack_and_strings as s


class Row(NamedTuple):
    """How to compile the instruction; whether LOCK may precede it with a destination in memory (SDM 2A, LOCK)."""

    compile: forms.Compile
    is_lockable: bool = False


LOCKABLE = True

# fmt: off
INSTRUCTIONS: dict[str, Row] = {
    "mov":        Row(forms.move),
    "movabs":     Row(forms.move),
    "movnti":     Row(forms.move),
    "movzx":      Row(forms.move),
    "movsx":      Row(forms.move_converted(a.sign_extend)),
    "movsxd":     Row(forms.move_converted(a.sign_extend)),
    "movbe":      Row(forms.move_converted(forms.swap_bytes)),
    "xchg":       Row(forms.exchange(None), LOCKABLE),
    "xadd":       Row(forms.exchange(a.add), LOCKABLE),
    "cmpxchg":    Row(forms.compare_and_exchange, LOCKABLE),
    "cmpxchg8b":  Row(forms.compare_and_exchange_pair, LOCKABLE),
    "cmpxchg16b": Row(forms.compare_and_exchange_pair, LOCKABLE),
    "add":        Row(forms.modify(a.add), LOCKABLE),
    "adc":        Row(forms.modify(a.add_with_carry), LOCKABLE),
    "sub":        Row(forms.modify(a.subtract), LOCKABLE),
    "sbb":        Row(forms.modify(a.subtract_with_borrow), LOCKABLE),
    "and":        Row(forms.modify(a.bitwise_and), LOCKABLE),
    "or":         Row(forms.modify(a.bitwise_or), LOCKABLE),
    "xor":        Row(forms.modify(a.bitwise_xor), LOCKABLE),
    "inc":        Row(forms.modify(a.increment), LOCKABLE),
    "dec":        Row(forms.modify(a.decrement), LOCKABLE),
    "neg":        Row(forms.modify(a.negate), LOCKABLE),
    "not":        Row(forms.modify(a.invert), LOCKABLE),
    "cmp":        Row(forms.modify(a.subtract, is_stored=False)),
    "test":       Row(forms.modify(a.bitwise_and, is_stored=False)),
    "shl":        Row(forms.modify(a.shift_left)),
    "sal":        Row(forms.modify(a.shift_left)),
    "shr":        Row(forms.modify(a.shift_right)),
    "sar":        Row(forms.modify(a.shift_right_arithmetic)),
    "bt":         Row(forms.modify_bit(a.bit_test, is_stored=False)),
    "bts":        Row(forms.modify_bit(a.bit_set), LOCKABLE),
    "btr":        Row(forms.modify_bit(a.bit_reset), LOCKABLE),
    "btc":        Row(forms.modify_bit(a.bit_complement), LOCKABLE),
    "push":       Row(s.push),
    "pop":        Row(s.pop),
    **{f"{name}{size}": Row(s.move_element) for name in ("movs", "stos", "lods") for size in "bwdq"},
    **{f"set{suffix}": Row(forms.set_byte(condition)) for suffix, condition in a.CONDITIONS.items()},
    **{f"cmov{suffix}": Row(forms.move_if(condition)) for suffix, condition in a.CONDITIONS.items()},
}
# fmt: on
