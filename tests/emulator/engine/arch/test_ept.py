"""EPT: violations and misconfigurations with their addresses and qualification, and what is allowed goes through."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.engine import LEAVE, RESUME, Next
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from tests.emulator.engine.rig import CODE, DATA, EPT, MEMORY_BYTES, PD, PT, Exit, P, Rig, U, W

READ, WRITE, EXECUTE, WRITE_BACK, LARGE = 1, 2, 4, 6 << 3, 1 << 7
RWX = READ | WRITE | EXECUTE
LINEAR_VALID, NOT_A_TABLE = 1 << 7, 1 << 8
EPT_PT = EPT + 0x3000


def ept_guest(text: str, *, entry: int | None = None, gpa: int = DATA, **changes: object) -> Rig:
    """Guest-physical = host-physical below 2 MiB, but the page of `gpa` has `entry`."""
    rig = Rig("nop\n" + text + "\n vmcall", non_root=True, **changes)  # type: ignore[arg-type]
    for i, table in enumerate((EPT, EPT + 0x1000, EPT + 0x2000)):
        rig.put_word(table, EPT + 0x1000 * (i + 1) | RWX)
    for page in range(512):
        rig.put_word(EPT_PT + page * 8, page << 12 | RWX | WRITE_BACK)
    if entry is not None:
        set_ept(rig, gpa, entry)
    rig.vmcs.write(f.EPT_POINTER, EPT | 6 | 3 << 3)
    rig.set_control(f.SECONDARY_PROCESSOR_BASED_CONTROLS, c.PROC2_ENABLE_EPT)
    rig["rdi"] = DATA
    return rig


def set_ept(rig: Rig, gpa: int, entry: int) -> None:
    rig.put_word(EPT_PT + (gpa >> 12) * 8, entry)


ACCESSES = {"mov eax, [rdi + 8]": READ, "mov [rdi + 8], eax": WRITE, "lea rdi, [rdi + 8]\n jmp rdi": EXECUTE}


@pytest.mark.parametrize("text", ACCESSES)
@pytest.mark.parametrize("rights", [0, READ, READ | WRITE, READ | EXECUTE, RWX])
def test_an_access_needs_its_right(text: str, rights: int) -> None:
    access = ACCESSES[text]
    entry = 0x41000 | rights | WRITE_BACK if rights else 0
    rig = ept_guest(text, entry=entry)
    rig.put(0x41008, b"\x0f\x01\xc1")
    rig.put_word(0x41010, 0)
    rig.run()
    (seen,) = rig.exits
    needed = access | READ if access == WRITE else access
    if needed & ~rights:
        assert seen.reason == R.EPT_VIOLATION
        assert seen.qualification == access | rights << 3 | LINEAR_VALID | NOT_A_TABLE
        assert (seen.gpa, seen.linear) == (DATA + 8, DATA + 8)
        assert seen.rip == (DATA + 8 if access == EXECUTE else CODE + 1)
    else:
        assert seen.reason == R.VMCALL
        if access == READ:
            assert rig["rax"] == 0xC1010F
        elif access == WRITE:
            assert rig.word(0x41008, 4) == 0


def test_the_exit_repeats_until_the_vmm_maps_the_page_and_then_never_again() -> None:
    rig = ept_guest("mov eax, [rdi]\n mov ebx, [rdi + 4]\n mov [rdi], ebx", entry=0)
    rig.put_word(0x41000, 0x1111111122222222)

    def fill(seen: Exit) -> Next:
        if len(rig.exits) == 3:
            set_ept(rig, DATA, 0x41000 | RWX | WRITE_BACK)
        return LEAVE if seen.reason == R.VMCALL else RESUME

    rig.on_exit = fill
    rig.run()
    assert [seen.reason for seen in rig.exits] == [R.EPT_VIOLATION] * 3 + [R.VMCALL]
    assert rig.word(0x41000) == 0x1111111111111111


def test_a_mapping_that_is_taken_away_is_used_until_invept() -> None:
    rig = ept_guest(
        "mov eax, [rdi]\n in al, 0x10\n mov eax, [rdi]\n in al, 0x11\n mov eax, [rdi]", entry=DATA | RWX | WRITE_BACK
    )

    def change(port: int) -> None:
        set_ept(rig, DATA, 0)
        if port == 0x11:
            rig.engine.invept()

    rig.platform.on_port = change
    rig.run()
    (seen,) = rig.exits
    assert (seen.reason, seen.rip) == (R.EPT_VIOLATION, CODE + 1 + 2 + 2 + 2 + 2)


def test_a_right_that_is_added_is_seen_at_once() -> None:
    rig = ept_guest("mov eax, [rdi]\n mov [rdi], eax", entry=DATA | READ | WRITE_BACK)

    def add(seen: Exit) -> Next:
        set_ept(rig, DATA, DATA | RWX | WRITE_BACK)
        return LEAVE if seen.reason == R.VMCALL else RESUME

    rig.on_exit = add
    rig.run()
    assert [(seen.reason, seen.qualification & 0x3F) for seen in rig.exits] == [
        (R.EPT_VIOLATION, WRITE | READ << 3),
        (R.VMCALL, 0),
    ]


# --- a chain of entries of its own ------------------------------------------------------------------------------------

GPA = 1 << 39 | 3 << 30 | 5 << 21 | 7 << 12 | 0x230
LINEAR = 0x3F000230
CHAIN = 0x80000  # one page for each level below the root
TARGET = 0x141000


def chained(text: str, entries: dict[int, int]) -> Rig:
    """LINEAR (in RBX) is GPA, which four entries of its own translate to TARGET; `entries` (by level) replace some."""
    rig = ept_guest(text)
    rig.put_word(PD + (LINEAR >> 21) * 8, 0x90000 | P | W | U)
    rig.put_word(0x90000 + (LINEAR >> 12 & 511) * 8, GPA & ~0xFFF | P | W | U)
    table = EPT
    for level in range(4):
        child = CHAIN + 0x1000 * level | RWX if level < 3 else TARGET | RWX | WRITE_BACK
        entry = entries.get(level, child)
        rig.put_word(table + (GPA >> 39 - 9 * level & 511) * 8, entry)
        table = child & ~0xFFF
    rig["rbx"] = LINEAR
    return rig


TABLE = 0x80000


@pytest.mark.parametrize(
    ("level", "entry"),
    [
        *((level, TABLE | rights) for level in range(4) for rights in (WRITE, WRITE | EXECUTE)),
        *((level, TABLE | RWX | 1 << bit) for level in range(3) for bit in (40, 51)),
        *((0, TABLE | RWX | 1 << bit) for bit in (3, 4, 5, 6, 7)),
        *((level, TABLE | RWX | 1 << bit) for level in (1, 2) for bit in (3, 6)),
        *((3, TABLE | RWX | kind << 3) for kind in (2, 3, 7)),
        (2, LARGE | RWX | WRITE_BACK | 1 << 12),
        (2, LARGE | RWX | WRITE_BACK | 1 << 20),
        (1, LARGE | RWX | WRITE_BACK | 1 << 29),
    ],
)
def test_an_entry_that_means_nothing_is_a_misconfiguration(level: int, entry: int) -> None:
    rig = chained("mov eax, [rbx]", {level: entry}).run()
    (seen,) = rig.exits
    assert (seen.reason, seen.gpa) == (R.EPT_MISCONFIG, GPA)
    assert seen.rip == CODE + 1


@pytest.mark.parametrize("level", range(4))
def test_an_entry_that_is_absent_is_a_violation_whatever_else_it_has(level: int) -> None:
    rig = chained("mov eax, [rbx]", {level: TABLE | 1 << 45 | 1 << 7}).run()
    (seen,) = rig.exits
    assert (seen.reason, seen.gpa, seen.linear) == (R.EPT_VIOLATION, GPA, LINEAR)
    assert seen.qualification == READ | LINEAR_VALID | NOT_A_TABLE


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("missing", [READ, WRITE, EXECUTE])
def test_a_right_must_be_given_at_every_level(level: int, missing: int) -> None:
    text = {READ: "mov eax, [rbx]", WRITE: "mov [rbx], eax", EXECUTE: "jmp rbx"}[missing]
    rights = RWX & ~missing if missing != READ else 0
    base = TARGET | WRITE_BACK if level == 3 else CHAIN + 0x1000 * level
    rig = chained(text, {level: base | rights}).run()
    (seen,) = rig.exits
    assert (seen.reason, seen.gpa) == (R.EPT_VIOLATION, GPA)
    assert seen.qualification == missing | rights << 3 | LINEAR_VALID | NOT_A_TABLE


def test_the_rights_told_are_those_of_all_levels() -> None:
    rig = chained("mov [rbx], eax", {0: CHAIN | READ | EXECUTE, 2: CHAIN + 0x2000 | READ | WRITE}).run()
    assert rig.exits[0].qualification >> 3 & 7 == READ


@pytest.mark.parametrize(("level", "size"), [(1, 1 << 30), (2, 1 << 21)])
def test_large_pages_translate(level: int, size: int) -> None:
    rig = chained(
        "mov eax, [rbx]\n mov [rbx + 8], eax\n jmp 1f\n 1: lea rcx, [rbx + 16]\n jmp rcx",
        {level: LARGE | RWX | WRITE_BACK},
    )
    hpa = GPA & size - 1
    if hpa >= MEMORY_BYTES:  # put it where there is memory
        rig.put_word(PD + (LINEAR >> 21) * 8, 0x90000 | P | W | U)
        rig.put_word(0x90000 + (LINEAR >> 12 & 511) * 8, GPA & ~(size - 1) | TARGET | P | W | U)
        hpa = TARGET | GPA & 0xFFF
    rig.put_word(hpa, 0x12345678)
    rig.put(hpa + 16, b"\x0f\x01\xc1")
    rig.run()
    assert [seen.reason for seen in rig.exits] == [R.VMCALL]
    assert (rig["rax"], rig.word(hpa + 8)) == (0x12345678, 0x12345678)


def reference_walk(rig: Rig, access: int) -> tuple[int, int]:
    """SDM 3C 29.3: the exit reason (VMCALL where the access is done), and the rights that a violation tells."""
    table, rights = EPT, RWX
    for shift in (39, 30, 21, 12):
        entry = rig.word(table + (GPA >> shift & 511) * 8)
        if not entry & RWX:
            return R.EPT_VIOLATION, 0
        is_leaf = shift == 12 or (shift < 39 and entry & LARGE)
        reserved = (1 << 52) - (1 << 40)
        if is_leaf:
            reserved |= (1 << shift) - (1 << 12)
        else:
            reserved |= 0xF8 if shift == 39 else 0x78
        if not entry & READ or entry & reserved or (is_leaf and entry >> 3 & 7 in (2, 3, 7)):
            return R.EPT_MISCONFIG, 0
        rights &= entry
        table = entry & (1 << 40) - 0x1000
        if is_leaf:
            break
    wanted = READ | WRITE if access == WRITE else access
    return (R.VMCALL, 0) if rights & wanted == wanted else (R.EPT_VIOLATION, rights)


FLAGS = st.lists(
    st.sampled_from([READ, WRITE, EXECUTE, 1 << 3, 1 << 6, LARGE, 1 << 8, 1 << 13, 1 << 22, 1 << 40, 1 << 55]),
    max_size=2,
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(FLAGS.map(lambda bits: sum(set(bits))), min_size=4, max_size=4), st.sampled_from([READ, WRITE, EXECUTE])
)
def test_random_entries_end_as_the_reference_says(flags: list[int], access: int) -> None:
    text = {READ: "mov eax, [rbx]", WRITE: "mov [rbx], eax", EXECUTE: "jmp rbx"}[access]
    chain = [CHAIN | RWX, CHAIN + 0x1000 | RWX, CHAIN + 0x2000 | RWX, TARGET | RWX | WRITE_BACK]
    entries = {}
    for level, flag in enumerate(flags):
        is_leaf = level == 3 or (level > 0 and flag & LARGE)
        if not is_leaf or level == 3:
            flag &= ~(1 << 13 | 1 << 22)  # they would only name another table or page
        entries[level] = (LARGE | RWX | WRITE_BACK if is_leaf and level < 3 else chain[level]) ^ (flag & ~LARGE)
    rig = chained(text, entries)
    reason, rights = reference_walk(rig, access)
    for place in (TARGET | GPA & 0xFFF, GPA & (1 << 21) - 1):
        rig.put(place, b"\x0f\x01\xc1")
    rig.vmcs.write(f.EXCEPTION_BITMAP, 1 << 6)  # other fetches from a large page lie where there is no memory
    rig.run()
    (seen,) = rig.exits
    if reason == R.VMCALL and access == EXECUTE and seen.reason == R.EXCEPTION_NMI:
        assert seen.rip == LINEAR
    else:
        assert seen.reason == reason
    if reason == R.EPT_VIOLATION:
        assert (seen.qualification, seen.gpa) == (access | rights << 3 | LINEAR_VALID | NOT_A_TABLE, GPA)


# --- the guest's own tables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [PT, PD])
def test_a_violation_at_a_page_table_entry_says_so(table: int) -> None:
    rig = ept_guest("mov eax, [rdi]\n invlpg [rdi]", entry=0, gpa=table)
    rig.run()
    (seen,) = rig.exits
    assert (seen.reason, seen.gpa >> 12) == (R.EPT_VIOLATION, table >> 12)
    assert seen.qualification & (LINEAR_VALID | NOT_A_TABLE) == LINEAR_VALID


def test_accessed_and_dirty_bits_are_set_through_the_ept() -> None:
    rig = ept_guest("mov [rdi], eax", entry=0x141000 | RWX | WRITE_BACK)
    rig.run()
    assert [seen.reason for seen in rig.exits] == [R.VMCALL]
    assert rig.word(PT + (DATA >> 12) * 8) & 0x60 == 0x60


def test_a_guests_page_fault_is_its_own() -> None:
    rig = ept_guest("mov eax, [rdi]")
    rig.set_page(DATA, 0)
    rig.run()
    assert (rig.exits, rig.halted_in) == ([], 14)
    assert rig.shared.cr2 == DATA


# --- operands ---------------------------------------------------------------------------------------------------------

# instruction, linear address of its access to the page at DATA
OPERANDS = {
    "push rax": ("mov rsp, rdi\n add rsp, 0x108", DATA + 0x100),
    "pop rax": ("lea rsp, [rdi + 0x80]", DATA + 0x80),
    "call [rdi]": ("nop", DATA),
    "movsb": ("mov esi, 0x50000", DATA),
    "lodsb": ("lea rsi, [rdi + 3]", DATA + 3),
    "stosd": ("nop", DATA),
    "xchg [rdi + 0x10], eax": ("nop", DATA + 0x10),
    "mov eax, [rdi + rcx * 8 - 8]": ("mov ecx, 5", DATA + 32),
    "mov rax, [rdi - 4]": ("nop", DATA),
    "fxsave [rdi + 0x40]": ("nop", DATA + 0x40),
    "outsb": ("mov rsi, rdi", DATA),
    "insb": ("nop", DATA),
    "sgdt [rdi + 5]": ("nop", DATA + 5),
    "cmpxchg16b [rdi + 0x20]": ("nop", DATA + 0x20),
}


@pytest.mark.parametrize("text", OPERANDS)
def test_a_violation_tells_the_linear_address_of_the_operand(text: str) -> None:
    before, linear = OPERANDS[text]
    rig = ept_guest(f"{before}\n {text}", entry=0)
    rig["cr4"] |= 0x200
    rig.run()
    (seen,) = rig.exits
    assert (seen.reason, seen.qualification >> 7 & 3) == (R.EPT_VIOLATION, 3)
    assert (seen.linear, seen.gpa) == (linear, linear)


# --- unrestricted guest -----------------------------------------------------------------------------------------------


def test_an_unrestricted_guest_without_paging_translates_by_the_ept_alone() -> None:
    rig = Rig("mov eax, [0x40000]\n mov [0x40004], eax\n vmcall", bits=32, non_root=True)
    donor = ept_guest("nop", entry=0x141000 | RWX | WRITE_BACK)
    rig.put(EPT, donor.memory.read(EPT, 0x4000))
    rig.vmcs.write(f.EPT_POINTER, EPT | 6 | 3 << 3)
    rig.set_control(f.SECONDARY_PROCESSOR_BASED_CONTROLS, c.PROC2_ENABLE_EPT | c.PROC2_UNRESTRICTED_GUEST)
    rig.put_word(0x141000, 0x77)
    rig.run()
    assert [seen.reason for seen in rig.exits] == [R.VMCALL]
    assert rig.word(0x141000) == 0x77 << 32 | 0x77


def test_an_unrestricted_guest_may_turn_paging_off_and_on() -> None:
    rig = Rig(
        "mov eax, cr0\n and eax, 0x7fffffff\n mov cr0, eax\n or eax, 0x80000000\n mov cr0, eax\n vmcall",
        bits=32,
        non_root=True,
    )
    donor = ept_guest("nop")
    rig.put(EPT, donor.memory.read(EPT, 0x4000))
    rig.vmcs.write(f.EPT_POINTER, EPT | 6 | 3 << 3)
    rig.set_control(f.SECONDARY_PROCESSOR_BASED_CONTROLS, c.PROC2_ENABLE_EPT | c.PROC2_UNRESTRICTED_GUEST)
    rig.put_word(0x70000, 0x71000 | P | W, 4)
    for page in range(512):
        rig.put_word(0x71000 + page * 4, page << 12 | P | W, 4)
    rig["cr0"], rig["cr3"] = 0x80000031, 0x70000
    rig.run()
    assert [seen.reason for seen in rig.exits] == [R.VMCALL]
    assert rig["cr0"] == 0x80000031
