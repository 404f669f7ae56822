"""What is an instruction and what is none: #UD whatever its operand or the privilege would raise."""

import pytest

from tests.emulator.engine.rig import DATA, Rig

UD, GP = 6, 13
NONE = {
    "pop with /1": "8f0b", "xop": "8fe97812c3", "xbegin": "c7f810000000", "xabort": "c6f800",
    "mov with /1": "c70b10000000",
    "ff /7": "ff3b", "far call of a register": "ffdb", "0f ba /0": "0fba0303", "mov cr1": "0f20c8",
    "mov to cr5": "0f22e8",
    "mov dr8": "440f21c0", "movnti with 66": "660fc303", "3dnow": "0f0f030d", "extrq": "660f78c00102",
    "insertq": "f20f79c1",
    "movntss": "f30f2b03", "movlpd of registers": "660f12c1", "movmskps of memory": "0f5003",
    "psrlw of memory": "0f711301",
    "movq2dq of memory": "f30fd603", "vaddps": "c5f058c2", "vpxor": "c4e171efc2", "andn": "c4e270f2c2",
    "movbe": "0f38f003", "aesenc": "660f38dcc1", "aeskeygenassist": "660f3adfc101", "pclmulqdq": "660f3a44c100",
    "xgetbv": "0f01d0", "xsave": "0fae23", "rdfsbase": "f30faec0", "adcx": "660f38f6c1",
    "rdrand": "0fc7f0", "clac": "0f01ca", "vmrun": "0f01d8", "vmmcall": "0f01d9", "invlpga": "0f01df",
}  # fmt: skip


def run(code: str, *, cpl: int = 0) -> Rig:
    rig = Rig(bytes.fromhex(code) + b"\x90" * 16 + b"\xf4", cpl=cpl)
    rig["cr4"] = 0x620
    rig["rbx"] = 0xDEAD_BEEF_0000_0000  # no place, so it would fault
    return rig.run()


@pytest.mark.parametrize("cpl", [0, 3])
@pytest.mark.parametrize("name", NONE)
def test_what_is_no_instruction_is_an_undefined_opcode(name: str, cpl: int) -> None:
    rig = run(NONE[name], cpl=cpl)
    assert rig.halted_in == UD
    assert rig.frame(has_error=False)["rip"] == 0x10000


def test_an_operand_that_is_no_place_faults_where_there_is_an_instruction() -> None:
    assert run("8f03").halted_in == GP
    assert run("c70310000000").halted_in == GP


@pytest.mark.parametrize("code", ["0f18c1", "0f18d9", "0f0dc8", "0f18e0"])
def test_a_hint_of_a_register_does_nothing(code: str) -> None:
    rig = run(code)
    assert (rig.is_halted, rig.halted_in) == (True, None)


def test_the_second_encoding_of_test_is_test() -> None:
    rig = Rig(b"\xf6\xc9\x80" + bytes.fromhex("9c5e") + b"\xf4")
    rig["rcx"] = 0x80
    rig.run()
    assert rig.is_halted
    assert rig["rsi"] & 0x8C5 == 0x80  # SF
    rig = Rig(b"\xf7\x0c\x25" + DATA.to_bytes(4, "little") + b"\x01\0\0\0" + bytes.fromhex("9c5e") + b"\xf4").run()
    assert rig["rsi"] & 0x8C5 == 0x44  # ZF, PF
    assert rig.word(DATA) == 0


def test_rex_r_means_nothing_to_mov_of_an_immediate() -> None:
    rig = Rig(bytes.fromhex("4ec7c178563412") + b"\xf4")
    rig.run()
    assert rig.is_halted
    assert rig["rcx"] == 0x12345678
