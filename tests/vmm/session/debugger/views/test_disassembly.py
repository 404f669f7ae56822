"""Instructions with symbols; what is in front of RIP; and where there is nothing to decode."""

import pytest

from emulator.errors import ConfigError
from emulator.vmx import fields as f
from tests.vmm.session.debugger.views.rig import stopped
from vmm.session.debugger.views.disassembly import disassemble, instruction_at_rip
from vmm.session.debugger.views.subject import Subject

FREE = 0x1C00000  # memory that the kernel does not use, mapped one to one


def code_at(address: int, text: str) -> Subject:
    subject = stopped("default", "shadow", 2_000_000)
    subject.memory.write(address, bytes.fromhex(text))
    subject.vmcs.save(f.GUEST_RIP, address)
    return subject


def test_an_arrow_is_at_rip_and_calls_name_where_they_go() -> None:
    subject = code_at(FREE, "90 0f 22 d8 c3")
    target = subject.symbols.address_of("console_init")
    assert target is not None
    subject.memory.write(FREE + 4, b"\xe8" + (target - FREE - 9).to_bytes(4, "little", signed=True))
    lines = disassemble(subject, count=3).text().splitlines()
    assert lines[0] == f"=> {FREE:x}: 90                       nop"
    assert lines[1] == f"   {FREE + 1:x}: 0f 22 d8                 mov cr3, rax"
    assert lines[2].endswith(f"call {target:#x} <console_init>")
    assert disassemble(subject, FREE + 1, 1).text().startswith("  ")


def test_what_is_in_front_begins_with_the_function() -> None:
    subject = stopped("default", "ept", 2_000_000)
    begin = subject.symbols.address_of("console_init")
    assert begin is not None
    everything = disassemble(subject, begin, 12).instructions
    subject.vmcs.save(f.GUEST_RIP, everything[6].address)
    shown = disassemble(subject, count=4, before=3)
    assert [i.address for i in shown.instructions] == [i.address for i in everything[3:10]]
    assert [i.is_current for i in shown.instructions] == [False] * 3 + [True] + [False] * 3
    assert "console_init+" in shown.text().splitlines()[0]


def test_in_front_of_the_middle_of_an_instruction_nothing_is_known() -> None:
    subject = stopped("default", "ept", 2_000_000)
    begin = subject.symbols.address_of("console_init")
    assert begin is not None
    long = next(i for i in disassemble(subject, begin, 12).instructions if len(i.encoding) > 3)
    assert len(disassemble(subject, long.address + 1, 2, before=5).instructions) == 2


def test_bytes_that_are_no_instruction_stand_alone() -> None:
    shown = disassemble(code_at(FREE, "06 90 c3"), count=3)
    assert [(i.encoding.hex(), i.name) for i in shown.instructions] == [("06", ""), ("90", "nop"), ("c3", "ret")]
    assert "06                       (no instruction)" in shown.text()


def test_where_memory_ends_it_says_so() -> None:
    subject = stopped("default", "shadow", 2_000_000)
    subject.vmcs.save(f.GUEST_RIP, 0x1234_5678_9000)
    assert disassemble(subject).text() == "   123456789000: no memory is mapped here"
    assert instruction_at_rip(subject) is None
    subject.vmcs.save(f.GUEST_RIP, 1 << 50)  # not canonical
    assert "no memory is mapped here" in disassemble(subject).text()


def test_16_bit_code_is_decoded_as_such() -> None:
    subject = code_at(FREE, "b8 34 12 90")
    subject.vmcs.save(f.GUEST_CS_ACCESS_RIGHTS, 0x9B)
    subject.vmcs.save(f.GUEST_CS_BASE, FREE)
    subject.vmcs.save(f.GUEST_RIP, 0)
    first = disassemble(subject, count=2).instructions[0]
    assert (first.address, first.name, first.operands) == (FREE, "mov", "ax, 0x1234")


@pytest.mark.parametrize("count", [0, -1, 10**9])
def test_an_impossible_count_is_a_mistake_of_one_line(count: int) -> None:
    with pytest.raises(ConfigError, match=f"{count} instructions cannot be shown; choose a number from 1 to 4096"):
        disassemble(stopped("default", "ept", 1_000), count=count)
