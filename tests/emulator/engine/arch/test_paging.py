"""Translation: the engine's instructions, this project's own page walk and a reference walk of the SDM agree.

Random entries of all levels are put in the way of one access, in the three paging modes. The engine does loads, stores
and fetches itself; string I/O and event delivery use walk.c. The reference is SDM 3A 4.3 to 4.7, as it is told there.
Not compared: ADD to memory and the like, which the engine reads first and writes then (a read fault comes first).
"""

from dataclasses import dataclass

from hypothesis import example, given, settings
from hypothesis import strategies as st

from emulator.vmx import fields as f
from tests.emulator.engine.rig import CODE, DATA, HANDLERS, MEMORY_BYTES, NX, PML4, PS, A, D, P, Rig, U, W, assemble

TABLES = 0x90000  # of the access under test, one page per level from the root's child downwards
ROOT = 0x70000
LOW = 0x71000  # tables of the identity map below 4 MiB, for code, IDT and the like
FRAME = 0x140000
OFFSET = (
    0x13A7F8  # of the access in the region that the root's entry covers: below 2 MiB, so that large pages reach RAM
)
VMCALL = b"\x0f\x01\xc1"
PHYSICAL_BITS = 40


@dataclass(frozen=True)
class Mode:
    """A paging mode: shift and index width of each level from the root, and where the region under test begins."""

    name: str
    shifts: tuple[int, ...]
    index_bits: int
    entry_bytes: int
    region: int
    cr4: int
    efer: int
    bits: int

    def index(self, linear: int, shift: int) -> int:
        return linear >> shift & (1 << self.index_bits) - 1


MODES = (
    Mode("4-level", (39, 30, 21, 12), 9, 8, 1 << 39, 0x20, 0x500, 64),
    Mode("PAE", (30, 21, 12), 9, 8, 1 << 30, 0x20, 0, 32),
    Mode("32-bit", (22, 12), 10, 4, 1 << 23, 0, 0, 32),
)


@dataclass(frozen=True)
class Setting:
    """The bits of CR0, CR4, EFER and the privilege under which the access takes place."""

    mode: Mode
    cpl: int
    wp: bool
    nxe: bool
    smep: bool
    pse: bool


Outcome = int | tuple[int, int]  # hpa, or (#PF error code, linear address)


def reference_walk(rig: Rig, s: Setting, linear: int, *, write: bool, user: bool, fetch: bool) -> Outcome:
    """SDM 3A 4.3, 4.4.2, 4.5.4 for the walk, 4.6 for the rights, 4.7 for the error code."""
    mode = s.mode
    pae = mode.cr4 & 0x20 != 0
    reports_fetch = fetch and (s.smep or (s.nxe and pae))

    def fault(cause: int) -> Outcome:
        return cause | write << 1 | user << 2 | reports_fetch << 4, linear

    table, rights, no_execute = ROOT, W | U, False
    for shift in mode.shifts:
        entry = rig.word(table + mode.index(linear, shift) * mode.entry_bytes, mode.entry_bytes)
        is_pdpte = mode.name == "PAE" and shift == 30
        is_leaf = shift == 12 or (entry & PS != 0 and shift < 39 and not is_pdpte and (pae or s.pse))
        if not entry & P:
            return fault(0)
        reserved = 0
        if pae:
            ignored_from = 63 if mode.name == "PAE" else 52
            reserved |= (1 << ignored_from) - (1 << PHYSICAL_BITS) | (0 if s.nxe else NX)
        if shift == 39:
            reserved |= PS
        if is_leaf and shift > 12:
            reserved |= (1 << shift) - (1 << 13) if pae else 1 << 21
        if not is_pdpte and entry & reserved:
            return fault(9)
        if not is_pdpte:
            rights &= entry
            no_execute |= pae and entry & NX != 0
        table = entry & (1 << PHYSICAL_BITS) - 0x1000
        if is_leaf:
            break
    refused = (
        (user and not rights & U)
        or (write and not rights & W and (user or s.wp))
        or (fetch and (no_execute or (not user and rights & U and s.smep)))
    )
    if refused:
        return fault(1)
    mask = (1 << shift) - 1
    base = table & ~mask if pae or shift == 12 else table & ~mask | (entry >> 13 & 0xFF) << 32
    return base | linear & mask


def entries_of(rig: Rig, s: Setting, linear: int) -> list[int]:
    """The entries that translate `linear`, down to the leaf or the last that is present."""
    table, seen = ROOT, []
    for shift in s.mode.shifts:
        entry = rig.word(table + s.mode.index(linear, shift) * s.mode.entry_bytes, s.mode.entry_bytes)
        seen.append(entry)
        is_leaf = (
            entry & PS and shift < 39 and not (s.mode.name == "PAE" and shift == 30) and (s.mode.cr4 & 0x20 or s.pse)
        )
        if not entry & P or is_leaf:
            break
        table = entry & 0xFF_FFFF_F000
    return seen


def map_low(rig: Rig, s: Setting) -> None:
    """Identity below 4 MiB: supervisor pages, but the program's as its privilege needs."""
    mode, user = s.mode, U if s.cpl == 3 else 0
    tables = [ROOT, *(LOW + 0x1000 * i for i in range(len(mode.shifts) - 1))]
    for level in range(len(mode.shifts) - 1):
        is_pdpte = mode.name == "PAE" and level == 0
        rig.put_word(tables[level], tables[level + 1] | P | (0 if is_pdpte else W | U), mode.entry_bytes)
    for page in range(1 << mode.index_bits):
        rights = P | W | (user if page == CODE >> 12 else 0)
        rig.put_word(tables[-1] + page * mode.entry_bytes, page << 12 | rights, mode.entry_bytes)


def put_entries(rig: Rig, s: Setting, flags: list[int]) -> None:
    """The chain of entries to FRAME, each with its `flags` (bits to set; P is set where bit 0 of them is clear)."""
    mode, linear, table = s.mode, s.mode.region + OFFSET, ROOT
    for level, shift in enumerate(mode.shifts):
        child = TABLES + 0x1000 * level if shift > 12 else FRAME
        flag = flags[level] ^ P
        if mode.name == "PAE" and shift == 30:
            flag &= P  # the other bits of a PDPTE are checked when CR3 is loaded
        elif flag & PS and shift in (21, 22, 30):
            child = 0  # a large page: OFFSET alone leads to RAM
        else:
            flag &= ~0xFF_FFFF_F000 if mode.entry_bytes == 8 else 0xFFF
        value = child | flag
        rig.put_word(
            table + mode.index(linear, shift) * mode.entry_bytes,
            value & (1 << 8 * mode.entry_bytes) - 1,
            mode.entry_bytes,
        )
        table = child


PROGRAMS = {
    "load": "mov al, [{di}]",
    "store": "mov [{di}], al",
    "fetch": "jmp {di}",
    "outsb": "outsb",
    "insb": "insb",
    "push of a delivery": "int 0x30",
}


def make(s: Setting, flags: list[int], access: str) -> Rig:
    mode, linear = s.mode, s.mode.region + OFFSET
    text = PROGRAMS[access].format(di="rdi" if mode.bits == 64 else "edi")
    rig = Rig(assemble(text, mode.bits) + VMCALL, bits=mode.bits, cpl=s.cpl, non_root=True)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 0xFFFFFFFF)
    map_low(rig, s)
    put_entries(rig, s, flags)
    rig["cr0"] = 0x80000031 | s.wp << 16
    rig["cr3"], rig["cr4"] = ROOT, mode.cr4 | s.smep << 20 | s.pse << 4
    rig["efer"] = mode.efer | s.nxe << 11
    rig["rflags"] = 0x3002  # IOPL 3
    rig["rdi"] = rig["rsi"] = linear
    for hpa in (FRAME | OFFSET & 0xFFF, OFFSET, 1 << 21 | OFFSET):  # the last by a large page with bit 21
        rig.put(hpa & ~0xFFF, VMCALL * 1365)
        rig.put(hpa, VMCALL)
    rig.put(HANDLERS + 0x300, VMCALL)
    if access == "push of a delivery":
        rig.set_gate(0x30, dpl=3)
        rig["rsp"] = linear + 8
        rig.put_word(0x8004, linear + 8, 8 if mode.bits == 64 else 4)
        if mode.bits == 32:
            rig.put_word(0x8008, 0x10, 4)
    return rig


flag_sets = st.lists(
    st.sampled_from([P, W, U, A, D, PS, NX, 1 << 40, 1 << 51, 1 << 8, 1 << 12, 1 << 13, 1 << 20, 1 << 21, 1 << 52]),
    max_size=2,
).map(lambda bits: sum(set(bits)))
generous = st.sampled_from([W | U, W, U, W | U | A | D, W | U | NX, W | U | PS, 0])
settings_of_the_cpu = st.builds(
    Setting, st.sampled_from(MODES), st.sampled_from([0, 3]), st.booleans(), st.booleans(), st.booleans(), st.booleans()
)  # fmt: skip
FOUR_LEVEL = Setting(MODES[0], 0, True, True, True, True)


@settings(max_examples=600, deadline=None)
@given(
    settings_of_the_cpu,
    st.lists(
        st.builds(lambda a, b: a ^ b, generous, st.one_of(st.just(0), st.just(0), flag_sets)), min_size=4, max_size=4
    ),
    st.sampled_from(sorted(PROGRAMS)),
)
@example(FOUR_LEVEL, [W | U] * 4, "load")
@example(FOUR_LEVEL, [W] * 4, "push of a delivery")
@example(FOUR_LEVEL, [W, W, W | PS | 1 << 21, W], "fetch")
def test_an_access_ends_as_the_reference_says(s: Setting, flags: list[int], access: str) -> None:
    rig = make(s, flags, access)
    write = access in ("store", "insb", "push of a delivery")
    is_push = access == "push of a delivery"
    linear = s.mode.region + OFFSET + (4 if is_push and s.mode.bits == 32 else 0)
    how = {"write": write, "user": s.cpl == 3 and not is_push, "fetch": access == "fetch"}
    expected = reference_walk(rig, s, linear, **how)
    before = entries_of(rig, s, linear)
    seen_by_debugger = rig.engine.read_linear(linear, 1)
    assert entries_of(rig, s, linear) == before
    rig.run()
    (seen,) = rig.exits
    after = entries_of(rig, s, linear)
    if isinstance(expected, tuple):
        assert (seen.reason, seen.information) == (0, 0x80000B0E)
        assert (seen.error_code, seen.qualification) == expected
        assert all((now ^ old) & ~A == 0 for now, old in zip(after, before, strict=True))
    else:
        if access == "fetch" and expected >= MEMORY_BYTES:
            assert seen.information == 0x80000306, "#UD: ones are no instruction"
        else:
            assert seen.reason == 18, "VMCALL: the access was done"
        pdpte = 1 if s.mode.name == "PAE" else 0
        assert after[:pdpte] == before[:pdpte]
        marked = [entry | A for entry in before[pdpte:]]
        marked[-1] |= D if write else 0
        assert after[pdpte:] == marked
    # What a debugger reads asks for no right, but that the page is there.
    anyhow = reference_walk(rig, s, linear, write=False, user=False, fetch=False)
    assert len(seen_by_debugger) == (0 if isinstance(anyhow, tuple) or anyhow >= MEMORY_BYTES else 1)


def test_a_fetch_that_faults_is_no_port_instruction_whatever_the_bytes_are() -> None:
    """The page is closed to execution, and holds INSD, which ring 3 may not do."""
    rig = Rig("jmp 0x40000", cpl=3)
    rig.put(DATA, b"\x6d")
    rig.set_page(DATA, DATA | P | W | U | NX)
    rig.run()
    assert rig.halted_in == 14
    assert rig.word(rig["rsp"]) == 0x15
    assert rig.shared.cr2 == DATA


def test_a_page_fault_during_the_delivery_of_another_is_in_cr2() -> None:
    rig = Rig("mov rsp, 0x3f000000\n mov al, [0x3e000000]")
    rig.set_gate(8, ist=1)
    rig.run()
    assert rig.halted_in == 8
    assert rig.shared.cr2 == 0x3F000000 - 8


def test_code_addresses_wrap_at_4_gib_in_cr2() -> None:
    rig = Rig("mov eax, 0x80000031\n mov cr0, eax\n mov eax, 0x10000\n jmp 0xfffff000", bits=32)
    rig["cr4"], rig["cr3"] = 0x10, PML4
    rig.put_word(PML4, 0x87, 4)
    rig.run()
    assert rig.halted_in == 14
    assert rig.shared.cr2 == 0xFFFFF000
