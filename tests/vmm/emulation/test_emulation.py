"""The instruction emulator: the same registers, memory and flags as a stock Unicorn, on random instructions."""

import os

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from emulator.x86 import RCX, RDI, RSP
from tests.vmm.emulation.forms import BIT_UNDEFINED, FORMS, Case, Form, cases
from tests.vmm.emulation.oracle import CODE, DATA, DATA_BYTES, STATUS, Machine, run_oracle
from vmm.emulation import Emulated, PageFault, Unhandled, emulate
from vmm.emulation.decode import Decoded, decode
from vmm.emulation.table import INSTRUCTIONS

SEED = int(os.environ.get("SIDECORE_TEST_SEED", "1"))
EXAMPLES = int(os.environ.get("SIDECORE_TEST_EXAMPLES", "500"))
CHECKED_FLAGS = STATUS | 0x400
NOP = b"\x90"


@pytest.fixture(autouse=True)
def _show_seed() -> None:
    print(f"SIDECORE_TEST_SEED={SEED} SIDECORE_TEST_EXAMPLES={EXAMPLES}")


def check(case: Case) -> None:
    before, machine = case.machine, case.machine.copy()
    expected = run_oracle(case.machine, case.code, case.bits)
    outcome = emulate(machine, case.code.ljust(15, NOP), case.bits)
    if not isinstance(outcome, Emulated):
        assert expected is None or expected.rip == CODE, (case.name, case.code.hex(" "), outcome)
        assert machine == before
        return
    assert expected is not None, (case.name, case.code.hex(" "))
    if expected.rip == CODE and not outcome.is_repeating:
        expected = run_oracle(expected, case.code, case.bits)  # REP: Unicorn looks at a count of 0 in a step of its own
        assert expected is not None
    mask = (1 << 64) - 1 if case.bits == 64 else 0xFFFF_FFFF
    assert [value & mask for value in machine.gpr] == expected.gpr, case.code.hex(" ")
    assert machine.rip == expected.rip, case.code.hex(" ")
    differ = (machine.rflags ^ expected.rflags) & CHECKED_FLAGS & ~case.undefined
    assert differ == 0, (case.name, case.code.hex(" "), hex(differ))
    assert machine.memory == expected.memory


@pytest.mark.parametrize("bits", [64, 32, 16])
def test_emulates_as_a_stock_unicorn_does(bits: int) -> None:
    @seed(SEED)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(cases(bits))
    def run(case: Case) -> None:
        check(case)

    run()


@pytest.mark.parametrize("target", [DATA, DATA + 0x1123])
@pytest.mark.parametrize(
    "code",
    [
        "c7 05 {} 78 56 34 12",
        "48 c7 05 {} 78 56 34 f2",
        "66 c7 05 {} 78 56",
        "c6 05 {} 78",
        "67 80 05 {} 78",
        "48 01 05 {}",
        "66 48 c1 25 {} 05",
    ],
)
def test_rip_relative_addresses_count_from_the_end_of_the_instruction(code: str, target: int) -> None:
    instruction = bytes.fromhex(code.format((target - CODE).to_bytes(4, "little").hex()))
    machine = Machine(list(range(16)), bytearray(range(256)) * (DATA_BYTES // 256))
    check(Case("rip", instruction, 64, machine, 0))


@pytest.mark.parametrize(
    "code",
    [
        "48 0f c1 c0",  # xadd rax, rax
        "0f c0 e0",  # xadd al, ah
        "87 c0",  # xchg eax, eax
        "8f 44 24 10",  # pop [rsp + 16]: RSP after the increment
        "66 8f 04 24",  # pop word [rsp]
        "ff 74 24 10",  # push [rsp + 16]: RSP before the decrement
        "5c",  # pop rsp
        "54",  # push rsp
        "66 5c",  # pop sp
        "67 48 0f ab 0f",  # bts [edi], rcx: EDI and the bit offset wrap together at 4 GiB
    ],
)
def test_emulates_what_random_choice_seldom_makes(code: str) -> None:
    registers = [0x1234_5678_9ABC_DEF0] * 16
    registers[RCX], registers[RSP], registers[RDI] = (DATA + 0x1008) * 8 + 3, DATA + 0x20, 0xFFFF_FFF8
    machine = Machine(registers, bytearray(range(256)) * (DATA_BYTES // 256))
    check(Case("seldom", bytes.fromhex(code), 64, machine, BIT_UNDEFINED if "ab" in code else 0))


def _encodings(form: Form) -> list[bytes]:
    modrm = b"" if form.kind in ("plain", "string") else bytes([(form.digit or 0) << 3])
    return [
        prefix + bytes.fromhex(form.opcode) + modrm + bytes(8)
        for prefix in (b"", b"\x66", b"\x48")
        if form.opcode != "63" or prefix != b"\x66"
    ]


def test_every_row_of_the_table_is_compared_with_unicorn() -> None:
    decoded = [decode(code, bits) for form in FORMS for bits in form.modes for code in _encodings(form)]
    assert {one.mnemonic for one in decoded if isinstance(one, Decoded)} == set(INSTRUCTIONS)


def test_hostile_bytes_change_nothing_or_are_emulated() -> None:
    prefix = st.sampled_from(b"\x66\x67\x2e\x36\x64\x65\xf0\xf2\xf3\x40\x44\x48\x4f\x0f")
    codes = st.builds(lambda some, rest: bytes(some) + rest, st.lists(prefix, max_size=5), st.binary(max_size=15))

    @seed(SEED)
    @settings(max_examples=3 * EXAMPLES, deadline=None, database=None)
    @given(codes, st.sampled_from([16, 32, 64]), st.lists(st.integers(0, (1 << 64) - 1), min_size=16, max_size=16))
    def run(code: bytes, bits: int, registers: list[int]) -> None:
        machine = Machine([n if n & 1 else DATA + n % DATA_BYTES for n in registers], bytearray(DATA_BYTES))
        before = machine.copy()
        outcome = emulate(machine, code, bits)
        if isinstance(outcome, Emulated):
            assert 1 <= outcome.length_bytes <= 15
            assert machine.rip == CODE + (0 if outcome.is_repeating else outcome.length_bytes)
        else:
            assert isinstance(outcome, (PageFault, Unhandled))
            assert machine == before

    run()
