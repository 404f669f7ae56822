"""Control registers, debug registers and MSRs without exits: what may be written, and what follows from it."""

import pytest

from emulator.vmx import fields as f
from tests.emulator.engine.rig import CODE, CODE32_0, DATA, HANDLERS, PD, PDPT, PML4, PS, PT, P, Rig, U, W, assemble

PE, MP, EM, TS, ET, NE, WP, NW, CD, PG = 1, 2, 4, 8, 0x10, 0x20, 1 << 16, 1 << 29, 1 << 30, 1 << 31
CR0 = PG | WP | NE | ET | PE
PAE = 1 << 5
SCE, LME, LMA, NXE = 1, 1 << 8, 1 << 10, 1 << 11
NONCANONICAL = 1 << 47


def moved(register: str, value: int, **changes: object) -> Rig:
    """MOV `value` to a control or debug register; RAX reads it back."""
    rig = Rig(f"mov {register}, rbx\n mov rax, {register}\n hlt", **changes)  # type: ignore[arg-type]
    rig["rbx"] = value
    return rig


@pytest.mark.parametrize(
    ("register", "value"),
    [
        ("cr0", CR0 | 1 << 32),
        ("cr0", CR0 & ~PE),
        ("cr0", CR0 | NW),
        ("cr0", CR0 & ~PG),  # in 64-bit mode
        *(("cr4", PAE | 1 << bit) for bit in (11, 12, 14, 15, 16, 17, 18, 19, 21, 22, 31, 32, 63)),
        ("cr4", 0),  # PAE in long mode
        ("cr3", PML4 | 1 << 40),
        ("cr3", PML4 | 1 << 63),
        ("cr8", 16),
        ("cr8", 1 << 63),
    ],
)
def test_a_value_that_no_register_can_have_is_refused(register: str, value: int) -> None:
    rig = moved(register, value)
    before = rig["cr0"], rig["cr3"], rig["cr4"], rig.platform.cr8
    rig.run()
    assert rig.halted_in == 13
    assert rig.words(rig["rsp"], 2) == [0, CODE]
    assert (rig["cr0"], rig["cr3"], rig["cr4"], rig.platform.cr8) == before


@pytest.mark.parametrize(
    ("register", "value", "reads"),
    [
        ("cr0", CR0 | TS | MP, CR0 | TS | MP),
        ("cr0", CR0 | CD, CR0 | CD),
        ("cr0", CR0 | CD | NW, CR0 | CD | NW),
        ("cr0", CR0 & ~ET & ~NE, CR0 & ~NE),  # ET is always 1
        ("cr0", CR0 | 0xFF80, CR0),  # reserved bits below 32 are ignored
        ("cr4", 0x7FC, 0x7FC),
        ("cr3", PML4 | 0x18, PML4 | 0x18),
        ("cr8", 15, 15),
        ("cr2", 0xFFFF_8000_1234_5678, 0xFFFF_8000_1234_5678),
        ("dr0", 0x1234_5678_9ABC, 0x1234_5678_9ABC),
        ("dr3", 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_8000_0000),
        ("dr7", 0x400, 0x400),
    ],
)
def test_a_value_that_is_allowed_reads_back(register: str, value: int, reads: int) -> None:
    rig = moved(register, value).run()
    assert (rig.is_halted, rig.halted_in, rig["rax"]) == (True, None, reads)


def test_every_cr_and_dr_instruction_needs_ring_0() -> None:
    for text in (
        "mov rax, cr0",
        "mov cr3, rax",
        "mov rax, dr0",
        "mov dr7, rax",
        "clts",
        "lmsw ax",
        "mov cr8, rax",
        "mov rax, cr2",
    ):
        assert Rig(text, cpl=3).run().halted_in == 13


@pytest.mark.parametrize(
    "text",
    [".byte 0x0f, 0x20, 0xc8", ".byte 0x0f, 0x22, 0xe8", ".byte 0x0f, 0x22, 0xf8", ".byte 0x44, 0x0f, 0x22, 0xc8"],
)
def test_control_registers_that_do_not_exist_are_undefined(text: str) -> None:
    assert Rig(text).run().halted_in == 6


def test_32_bit_code_moves_32_bits() -> None:
    rig = Rig("mov eax, cr0\n or eax, 8\n mov cr0, eax\n mov ebx, cr0\n hlt", bits=32)
    rig["rax"] = rig["rbx"] = 0xFFFFFFFF_00000000
    rig.run()
    assert (rig["rbx"], rig["cr0"]) == (0x39, 0x39)


def test_lmsw_sets_pe_but_never_clears_it() -> None:
    rig = Rig("lmsw cx\n hlt")
    rig["rcx"] = TS
    rig.run()
    assert rig["cr0"] == CR0 | TS


def test_clts_clears_ts() -> None:
    rig = Rig("clts\n fld1\n hlt")
    rig["cr0"] |= TS
    rig.run()
    assert (rig.halted_in, rig["cr0"]) == (None, CR0)


@pytest.mark.parametrize(("bits", "vector"), [(TS, 7), (EM, 7)])
def test_ts_and_em_make_the_fpu_unavailable(bits: int, vector: int) -> None:
    rig = Rig("mov rax, cr0\n or eax, ebx\n mov cr0, rax\n fld1\n hlt")
    rig["rbx"] = bits
    assert rig.run().halted_in == vector


def test_wp_takes_effect_at_once() -> None:
    store = f"mov [{DATA}], eax\n"
    rig = Rig(f"{store} mov rax, cr0\n btr rax, 16\n mov cr0, rax\n {store} bts rax, 16\n mov cr0, rax\n {store}")
    rig.set_page(DATA, DATA | P)
    rig["cr0"] &= ~WP
    rig.run()
    assert rig.halted_in == 14
    assert rig.word(rig["rsp"]) == 3
    assert rig.word(DATA, 4) == CR0 & ~WP


def test_smep_takes_effect_at_once() -> None:
    rig = Rig("mov rax, cr4\n bts rax, 20\n mov cr4, rax\n nop\n hlt")
    rig.set_page(0x20000, 0x20000 | P | W)  # the handlers are the supervisor's
    assert rig.run().halted_in == 14
    assert rig.word(rig["rsp"]) == 0x11


def test_a_new_cr3_brings_other_pages() -> None:
    rig = Rig(f"mov eax, [{DATA}]\n mov cr3, rbx\n mov ecx, [{DATA}]\n hlt")
    for i, table in enumerate((0x90000, 0x91000, 0x92000)):
        rig.put_word(table, 0x90000 + 0x1000 * (i + 1) | P | W | U)
    rig.put(0x93000, rig.memory.read(0x4000, 4096))
    rig.put_word(0x93000 + (DATA >> 12) * 8, 0x141000 | P | W)
    rig.put_word(DATA, 1)
    rig.put_word(0x141000, 2)
    rig["rbx"] = 0x90000
    rig.run()
    assert (rig["rax"], rig["rcx"], rig["cr3"]) == (1, 2, 0x90000)


def test_invlpg_forgets_a_page() -> None:
    change = f"mov qword ptr [{PT + (DATA >> 12) * 8}], {0x141000 | P | W}"
    rig = Rig(f"mov eax, [{DATA}]\n {change}\n invlpg [{DATA}]\n mov ecx, [{DATA}]\n hlt")
    rig.put_word(0x141000, 2)
    rig.run()
    assert (rig["rax"], rig["rcx"]) == (0, 2)


# --- modes ------------------------------------------------------------------------------------------------------------

TO_LONG_MODE = """
    mov eax, 0x20
    mov cr4, eax
    mov eax, 0x1000
    mov cr3, eax
    mov ecx, 0xc0000080
    mov eax, 0x101
    xor edx, edx
    wrmsr
    mov eax, 0x80000031
    mov cr0, eax
    ljmp 8, 2f
"""


def with_tables(text: str) -> Rig:
    """32-bit code without paging, and 4-level tables ready at 0x1000."""
    rig = Rig(text, bits=32)
    rig.put_word(PML4, PDPT | P | W | U)
    rig.put_word(PDPT, PD | P | W | U)
    rig.put_word(PD, P | W | U | PS)
    return rig


def test_into_long_mode_and_out_again() -> None:
    rig = with_tables(
        TO_LONG_MODE
        + "2: .code64\n mov ecx, 0xc0000080\n rdmsr\n mov r8, rax\n mov r9d, 0xffffffff\n shl r9, 1\n push 0x40\n"
        + " lea rax, [rip + 3f]\n push rax\n rex.w retf\n 3: .code32\n mov eax, cr0\n btr eax, 31\n mov cr0, eax\n"
        + " mov ecx, 0xc0000080\n rdmsr\n hlt"
    )
    rig.run()
    assert (rig.is_halted, rig.halted_in) == (True, None)
    assert (rig["r8"], rig["r9"]) == (LMA | LME | SCE, 0x1FFFFFFFE)
    assert rig["rax"] == LME | SCE
    assert (rig["efer"], rig["cs_selector"]) == (LME | SCE, CODE32_0)


def test_compatibility_mode_runs_32_bit_code_in_long_mode() -> None:
    rig = with_tables(TO_LONG_MODE.replace("ljmp 8, 2f", "2: .byte 0x40, 0x90\n hlt"))  # INC EAX in 32-bit code
    rig.run()
    assert (rig["rax"], rig["efer"]) == (0x80000032, LMA | LME | SCE)


@pytest.mark.parametrize("spoil", ["mov eax, 0\n mov cr4, eax", "nop"])
def test_paging_with_lme_needs_pae(spoil: str) -> None:
    rig = with_tables(
        TO_LONG_MODE.replace("    mov eax, 0x80000031", f"{spoil}\n mov eax, 0x80000031").replace("ljmp 8, 2f", "hlt")
    )
    assert rig.run().halted_in == (13 if "cr4" in spoil else None)


def test_lme_cannot_change_while_paging_is_on() -> None:
    rig = Rig("mov ecx, 0xc0000080\n mov eax, 1\n xor edx, edx\n wrmsr")
    assert rig.run().halted_in == 13


# --- MSRs -------------------------------------------------------------------------------------------------------------

# MSR, value, what reads back (None: #GP)
MSRS = {
    "LSTAR": (0xC0000082, 0xFFFF_8000_0000_0000, 0xFFFF_8000_0000_0000),
    "LSTAR, not canonical": (0xC0000082, NONCANONICAL, None),
    "CSTAR, not canonical": (0xC0000083, NONCANONICAL, None),
    "STAR": (0xC0000081, 0x123456789ABCDEF0, 0x123456789ABCDEF0),
    "FMASK": (0xC0000084, 0xFFFFFFFF, 0xFFFFFFFF),
    "FMASK, upper half": (0xC0000084, 1 << 32, None),
    "FS_BASE": (0xC0000100, 0x7FFF_FFFF_FFFF, 0x7FFF_FFFF_FFFF),
    "FS_BASE, not canonical": (0xC0000100, NONCANONICAL, None),
    "GS_BASE, not canonical": (0xC0000101, NONCANONICAL, None),
    "KERNEL_GS_BASE, not canonical": (0xC0000102, NONCANONICAL, None),
    "SYSENTER_CS": (0x174, 0x8, 0x8),
    "SYSENTER_ESP, not canonical": (0x175, NONCANONICAL, None),
    "SYSENTER_EIP, not canonical": (0x176, NONCANONICAL, None),
    "PAT": (0x277, 0x0706050401000600, 0x0706050401000600),
    "PAT with type 2": (0x277, 0x0002000000000000, None),
    "PAT with type 8": (0x277, 0x08, None),
    "EFER, NXE and SCE off": (0xC0000080, LME | LMA, LME | LMA),
    "EFER, LMA is read-only": (0xC0000080, LME | NXE, LME | LMA | NXE),
    "EFER, SVME": (0xC0000080, LME | LMA | 1 << 12, None),
    "EFER, a reserved bit": (0xC0000080, LME | LMA | 1 << 9, None),
    "EFER, a high bit": (0xC0000080, LME | LMA | 1 << 40, None),
    "TSC_AUX": (0xC0000103, 0x12345678, 0x12345678),
    "TSC_AUX, upper half": (0xC0000103, 1 << 32, None),
    "of the platform": (0x8B, 7, 7),
    "of nobody": (0x12345, 7, None),
}


@pytest.mark.parametrize("name", MSRS)
def test_wrmsr_keeps_a_value_or_faults(name: str) -> None:
    index, value, expected = MSRS[name]
    rig = Rig("wrmsr\n xor eax, eax\n xor edx, edx\n rdmsr\n hlt")
    rig.platform.msrs[0x8B] = 1
    rig["rcx"], rig["rax"], rig["rdx"] = (
        0xAAAAAAAA_00000000 | index,
        0xBBBBBBBB_00000000 | value & 0xFFFFFFFF,
        value >> 32,
    )
    rig.run()
    if expected is None:
        assert rig.halted_in == 13
        assert rig.words(rig["rsp"], 2) == [0, CODE]
    else:
        assert rig.halted_in is None
        assert (rig["rax"], rig["rdx"]) == (expected & 0xFFFFFFFF, expected >> 32)
        assert rig.engine.rdmsr(index) == expected


def test_an_msr_written_from_outside_is_the_guests() -> None:
    rig = Rig("mov ecx, 0xc0000082\n rdmsr\n hlt")
    assert rig.engine.wrmsr(0xC0000082, 0x123456789A)
    assert not rig.engine.wrmsr(0xC0000082, NONCANONICAL)
    assert rig.engine.rdmsr(0xDEAD) is None
    rig.run()
    assert (rig["rdx"], rig["rax"]) == (0x12, 0x3456789A)


def test_nxe_takes_effect_at_once() -> None:
    rig = Rig(
        f"mov eax, [{DATA}]\n mov ecx, 0xc0000080\n mov eax, 0x501\n xor edx, edx\n wrmsr\n mov eax, [{DATA}]\n hlt"
    )
    rig.set_page(DATA, DATA | P | W | 1 << 63)
    rig.run()
    assert rig.halted_in == 14
    assert rig.word(rig["rsp"]) == 9


def test_the_tsc_can_be_written() -> None:
    rig = Rig("mov ecx, 0x10\n mov edx, 5\n mov eax, 1000\n wrmsr\n rdtsc\n hlt")
    rig.run()
    assert (rig["rdx"], rig["rax"]) == (5, 1001)


def test_cr4_tsd_keeps_ring_3_from_the_tsc() -> None:
    rig = Rig("rdtsc\n ud2", cpl=3)
    assert rig.run().halted_in == 6
    rig = Rig("rdtsc\n ud2", cpl=3)
    rig["cr4"] |= 4
    assert rig.run().halted_in == 13


def test_rdpmc_is_refused() -> None:
    assert Rig("rdpmc").run().halted_in == 13


def test_cpuid_asks_the_platform_with_leaf_and_subleaf() -> None:
    rig = Rig("cpuid\n hlt", cpl=0)
    rig["rax"], rig["rcx"] = 0xFFFFFFFF_00000007, 0xFFFFFFFF_00000002
    rig["rbx"] = rig["rdx"] = 1 << 63
    rig.run()
    assert rig.platform.cpuids == [(7, 2)]
    assert [rig[name] for name in ("rax", "rbx", "rcx", "rdx")] == [0xAAAA0001, 0xBBBB0002, 0xCCCC0003, 0xDDDD0004]


def test_cpuid_works_in_ring_3() -> None:
    rig = Rig("cpuid\n ud2", cpl=3)
    assert (rig.run().halted_in, rig["rax"]) == (6, 0xAAAA0001)


# --- breakpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
def test_an_instruction_breakpoint_faults_before_its_instruction_until_rf_lets_it_pass(resume: bool) -> None:
    rig = Rig("lea rax, [rip + 1f]\n mov dr0, rax\n mov eax, 0x403\n mov dr7, rax\n nop\n 1: inc ebx\n hlt")
    handler = HANDLERS + 0x2000
    text = "inc ecx\n or dword ptr [rsp + 16], 0x10000\n iretq" if resume else "hlt"
    rig.set_gate(1, target=handler)
    rig.put(handler, assemble(text, 64, handler))
    rig.run()
    at = CODE + 7 + 3 + 5 + 3 + 1
    assert rig.is_halted
    assert rig.shared.dr6 & 0xF == 1
    if resume:
        assert (rig["rip"], rig["rbx"], rig["rcx"]) == (at + 3, 1, 1)
    else:
        assert (rig.word(rig["rsp"]), rig["rbx"]) == (at, 0)


def test_an_instruction_breakpoint_exits_with_its_number() -> None:
    rig = Rig("lea rax, [rip + 1f]\n mov dr2, rax\n mov eax, 0x430\n mov dr7, rax\n nop\n 1: inc ebx", non_root=True)
    rig.vmcs.write(f.EXCEPTION_BITMAP, 2)
    rig.run()
    assert [(seen.information, seen.qualification, seen.rip) for seen in rig.exits] == [(0x80000301, 4, CODE + 19)]
