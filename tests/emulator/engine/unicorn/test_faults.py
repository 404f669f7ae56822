"""An instruction that faults on its operand says so as processors do, and can be done again as if nothing had been."""

import pytest

from tests.emulator.engine.rig import DATA, A, P, Rig, U, W

PF, WRITE = 14, 2
CF, PARITY, ZF, SF, OF = 1, 4, 64, 128, 2048
ABSENT = 0x80000  # a page that is absent in most tests

# Instructions that read their operand and write it.
BOTH = [
    "add {}, ecx", "or {}, ecx", "adc {}, ecx", "sbb dword ptr {}, 1", "and {}, ecx", "sub {}, ecx", "xor {}, ecx",
    "inc dword ptr {}", "dec dword ptr {}", "not dword ptr {}", "neg dword ptr {}", "shl dword ptr {}, 1",
    "sar dword ptr {}, cl", "rol dword ptr {}, 3", "ror dword ptr {}, cl", "rcl dword ptr {}, 1",
    "rcr dword ptr {}, cl",
    "shld {}, ecx, 3", "shrd {}, ecx, cl", "bts {}, ecx", "btr dword ptr {}, 3", "btc {}, ecx", "xadd {}, ecx",
    "cmpxchg {}, ecx", "cmpxchg8b qword ptr {}", "cmpxchg16b xmmword ptr {}", "xchg {}, ecx", "lock add {}, ecx",
    "lock neg dword ptr {}", "lock xadd {}, ecx", "lock cmpxchg {}, ecx", "lock bts {}, ecx",
    "lock cmpxchg8b qword ptr {}",
]  # fmt: skip
READ = ["cmp {}, ecx", "test {}, ecx", "add ecx, {}", "bt {}, ecx", "bt dword ptr {}, 3", "mul dword ptr {}"]


def faulting(text: str, entry: int) -> Rig:
    rig = Rig(f"mov ecx, 4\n {text.format(f'[{ABSENT}]')}\n hlt")
    rig.set_page(ABSENT, entry)
    rig["cr0"] = 0x80010031
    return rig.run()


@pytest.mark.parametrize("text", BOTH)
def test_what_reads_and_writes_its_operand_faults_as_a_write(text: str) -> None:
    absent, read_only = faulting(text, 0), faulting(text, ABSENT | P | U)
    assert (absent.halted_in, absent.frame(has_error=True)["error"]) == (PF, WRITE)
    assert (read_only.halted_in, read_only.frame(has_error=True)["error"]) == (PF, WRITE | P)


@pytest.mark.parametrize("text", READ)
def test_what_only_reads_it_faults_as_a_read(text: str) -> None:
    rig = faulting(text, 0)
    assert (rig.halted_in, rig.frame(has_error=True)["error"]) == (PF, 0)


def test_a_load_that_is_written_next_sets_the_dirty_flag_at_once_and_one_that_is_not_does_not() -> None:
    rig = Rig(f"mov eax, [{DATA}]\n hlt").run()
    assert rig.word(0x4000 + (DATA >> 12) * 8) & 0x60 == A
    rig = Rig(f"inc dword ptr [{DATA}]\n hlt").run()
    assert rig.word(0x4000 + (DATA >> 12) * 8) & 0x60 == 0x60


# What computes flags, faults, and is done again once its page is there: what is before, itself, bytes before and
# after, flags after.
DEMAND = {
    "setc behind cmp": ("mov eax, 1\n cmp eax, 2", "setc byte ptr {}", 0, 1, CF | PARITY | SF),
    "setbe behind dec": ("stc\n mov eax, 1\n dec eax", "setbe byte ptr {}", 0, 1, CF | PARITY | ZF),
    "setp behind add": ("mov eax, 3\n add eax, 0", "setp byte ptr {}", 0, 1, PARITY),
    "setle behind sub": ("mov eax, 0x80000000\n sub eax, 1", "setle byte ptr {}", 0, 1, PARITY | OF),
    "seto behind sar": ("mov eax, 3\n sar eax, 1", "seto byte ptr {}", 0, 0, CF),
    "rcl": ("mov eax, 1\n cmp eax, 2", "rcl byte ptr {}, 1", 0x40, 0x81, PARITY | SF | OF),
    "rcr": ("mov eax, 1\n cmp eax, 2", "rcr byte ptr {}, 1", 1, 0x80, CF | PARITY | SF | OF),
    "adc": ("mov eax, 1\n cmp eax, 2", "adc byte ptr {}, 5", 1, 7, 0),
    "sbb": ("mov eax, 1\n cmp eax, 2", "sbb byte ptr {}, 5", 9, 3, PARITY),
}


@pytest.mark.parametrize("first", ["absent", "read-only", "read-only and read before"])
@pytest.mark.parametrize("name", DEMAND)
def test_flags_survive_a_page_that_comes_on_demand(name: str, first: str) -> None:
    before, text, byte, after, flags = DEMAND[name]
    handler = f"push rax\n mov eax, {ABSENT | P | W | U}\n mov [{0x4000 + (ABSENT >> 12) * 8}], rax\n"
    handler += f" invlpg [{ABSENT}]\n pop rax\n add rsp, 8\n iretq"
    read = f"mov dl, [{ABSENT}]\n" if first == "read-only and read before" else ""
    rig = Rig(f"{read} {before}\n {text.format(f'[{ABSENT}]')}\n pushfq\n pop rsi\n hlt\n handler: {handler}")
    code = rig.memory.read(0x10000, 200)
    rig.set_gate(PF, target=0x10000 + code.index(b"\xf4", code.index(b"\x9c\x5e")) + 1)
    rig.put(ABSENT, bytes([byte]))
    rig.set_page(ABSENT, 0 if first == "absent" else ABSENT | P | U)
    rig.run()
    assert rig.is_halted
    assert rig.halted_in is None
    assert rig.word(ABSENT, 1) == after
    mask = CF | PARITY | ZF | SF | (0 if name == "setle behind sub" else OF)
    assert rig["rsi"] & mask == flags & mask
