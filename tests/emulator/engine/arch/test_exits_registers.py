"""Accesses to control registers and MSRs exit by mask and shadow, targets and bitmaps, and never otherwise."""

import pytest

from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from tests.emulator.engine.rig import DATA, MSR_BITMAP, Rig, exits_of, guest

PROC, PROC2 = f.PRIMARY_PROCESSOR_BASED_CONTROLS, f.SECONDARY_PROCESSOR_BASED_CONTROLS

# --- control registers ------------------------------------------------------------------------------------------------

PE, MP, TS, ET, NE, WP, CD, PG = 1, 2, 8, 0x10, 0x20, 1 << 16, 1 << 30, 1 << 31
CR0 = PG | WP | NE | ET | PE


def cr_guest(text: str, *, mask: int = 0, shadow: int = 0, mask4: int = 0, shadow4: int = 0) -> Rig:
    rig = guest(text)
    rig["cr4"] |= 1 << 13  # VMXE, fixed in VMX operation
    rig.vmcs.write(f.CR0_GUEST_HOST_MASK, mask)
    rig.vmcs.write(f.CR0_READ_SHADOW, shadow)
    rig.vmcs.write(f.CR4_GUEST_HOST_MASK, mask4)
    rig.vmcs.write(f.CR4_READ_SHADOW, shadow4)
    return rig


@pytest.mark.parametrize("text", ["mov rdx, cr0", "smsw rdx", "smsw edx"])
@pytest.mark.parametrize(("mask", "shadow"), [(0, 0), (TS | WP, TS), (PG | NE, 0), (0xFFFFFFFF, 0x60000010)])
def test_the_guest_reads_the_shadow_where_the_mask_has_ones(text: str, mask: int, shadow: int) -> None:
    rig = cr_guest(text, mask=mask, shadow=shadow)
    assert exits_of(rig) == []
    assert rig["rdx"] == CR0 & ~mask | shadow & mask


def test_smsw_to_a_word_and_to_memory_writes_16_bits() -> None:
    rig = cr_guest("smsw dx\n smsw [rbx]", mask=TS, shadow=TS)
    rig["rdx"], rig["rbx"] = 0x1111222233334444, DATA
    rig.put_word(DATA, 0x5555666677778888)
    assert exits_of(rig) == []
    assert rig["rdx"] == 0x1111222233330000 | (CR0 | TS) & 0xFFFF
    assert rig.word(DATA) == 0x5555666677770000 | (CR0 | TS) & 0xFFFF


def test_cr4_reads_the_shadow_where_the_mask_has_ones() -> None:
    rig = cr_guest("mov rdx, cr4", mask4=1 << 13 | 1 << 9, shadow4=1 << 9)
    assert exits_of(rig) == []
    assert rig["rdx"] == 0x20 | 1 << 9


# value written, mask, shadow, exits?
CR0_WRITES = [
    (CR0, 0, 0, False),
    (CR0, TS, 0, False),
    (CR0 | TS, TS, 0, True),
    (CR0 | TS, TS, TS, False),
    (CR0, TS, TS, True),
    (CR0 | MP, TS | WP, WP, False),
    (CR0 & ~WP, TS | WP, WP, True),
]


@pytest.mark.parametrize(("value", "mask", "shadow", "exits"), CR0_WRITES)
def test_a_write_of_cr0_exits_where_a_masked_bit_differs_from_the_shadow(
    value: int, mask: int, shadow: int, exits: bool
) -> None:
    rig = cr_guest("mov cr0, r11", mask=mask, shadow=shadow)
    rig["r11"] = value
    seen = exits_of(rig)
    assert [(exit.reason, exit.qualification) for exit in seen] == ([(R.CR_ACCESS, 11 << 8)] if exits else [])
    assert rig["cr0"] == (CR0 if exits else value & ~mask | CR0 & mask)


def test_a_write_of_cr4_exits_likewise() -> None:
    rig = cr_guest("mov cr4, r11\n mov cr4, r12", mask4=1 << 7, shadow4=0)
    rig["r11"], rig["r12"] = 0x2020 | 1 << 9, 0x2020 | 1 << 7
    (seen,) = exits_of(rig)
    assert (seen.reason, seen.qualification) == (R.CR_ACCESS, 4 | 12 << 8)
    assert rig["cr4"] == 0x2020 | 1 << 9


# guest's CR0.TS, mask has TS, shadow's TS, exits?, CR0.TS behind it
@pytest.mark.parametrize(
    ("ts", "masked", "shadow", "exits", "after"),
    [(1, 0, 0, False, 0), (1, 0, 1, False, 0), (1, 1, 1, True, 1), (1, 1, 0, False, 1), (0, 1, 0, False, 0)],
)  # fmt: skip
def test_clts(ts: int, masked: int, shadow: int, exits: bool, after: int) -> None:
    rig = cr_guest("clts", mask=TS * masked, shadow=TS * shadow)
    rig["cr0"] = CR0 | TS * ts
    assert [seen.qualification for seen in exits_of(rig)] == ([2 << 4] if exits else [])
    assert rig["cr0"] == CR0 | TS * after


# operand, mask, shadow, exits?
@pytest.mark.parametrize(
    ("operand", "mask", "shadow", "exits"),
    [
        (0xF, 0, 0, False),
        (PE | TS, TS, TS, False),
        (PE | TS, TS, 0, True),
        (0, PE, PE, False),  # LMSW cannot clear PE: no exit
        (PE, PE, 0, True),
        (PE, PE, PE, False),
        (0xFFF1, 0xFFF0, 0, False),  # it does not touch the bits above 3
    ],
)
def test_lmsw(operand: int, mask: int, shadow: int, exits: bool) -> None:
    rig = cr_guest("lmsw cx", mask=mask, shadow=shadow)
    rig["rcx"] = operand
    assert [(e.qualification, e.instruction_bytes) for e in exits_of(rig)] == (
        [(3 << 4 | operand << 16, 3)] if exits else []
    )
    if not exits:
        changed = CR0 & ~0xE | operand & 0xF
        assert rig["cr0"] == changed & ~mask | CR0 & mask


def test_lmsw_from_memory_tells_the_operands_address() -> None:
    rig = cr_guest("lmsw [rbx + 2]", mask=TS)
    rig["rbx"] = DATA
    rig.put_word(DATA + 2, TS | PE, 2)
    (seen,) = exits_of(rig)
    assert (seen.qualification, seen.linear) == (3 << 4 | 1 << 6 | (TS | PE) << 16, DATA + 2)


@pytest.mark.parametrize("count", range(5))
@pytest.mark.parametrize("index", range(4))
def test_a_cr3_target_does_not_exit(index: int, count: int) -> None:
    rig = guest("mov cr3, rax")
    rig["rax"] = rig["cr3"]
    rig.set_control(PROC, c.PROC_CR3_LOAD_EXITING)
    rig.vmcs.write(f.CR3_TARGET_COUNT, count)
    rig.vmcs.write(f.CR3_TARGET_VALUE_0 + 2 * index, rig["cr3"])
    for other in set(range(4)) - {index}:
        rig.vmcs.write(f.CR3_TARGET_VALUE_0 + 2 * other, 0x5000)
    assert len(exits_of(rig)) == (0 if index < count else 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("mov cr0, rax", CR0 & ~PG),
        ("mov cr0, rax", CR0 & ~PE & ~PG),
        ("mov cr0, rax", CR0 & ~NE),
        ("mov cr4, rax", 0x20),
    ],
)
def test_a_bit_that_vmx_fixes_cannot_be_cleared(text: str, value: int) -> None:
    """SDM 3D A.7 and A.8: PE, PG, NE and VMXE, where the host does not own them."""
    rig = cr_guest(text)
    rig["rax"] = value
    rig.run()
    assert (rig.halted_in, rig.exits) == (13, [])


# --- MSRs -------------------------------------------------------------------------------------------------------------

MSRS = {
    "the first low": (0, 0),
    "a low": (0x277, 0x277 // 8),
    "the last low": (0x1FFF, 0x3FF),
    "the first high": (0xC0000000, 0x400),
    "a high": (0xC0000082, 0x400 + 0x82 // 8),
    "the last high": (0xC0001FFF, 0x7FF),
}


@pytest.mark.parametrize("name", MSRS)
@pytest.mark.parametrize("write", [False, True])
def test_the_msr_bitmap_has_a_bit_for_each_register_and_direction(name: str, write: bool) -> None:
    index, byte = MSRS[name]
    rig = guest("wrmsr" if write else "rdmsr")
    rig["rcx"] = index
    rig.put(MSR_BITMAP + (0x800 if write else 0) + byte, bytes([1 << (index & 7)]))
    (seen,) = exits_of(rig)
    assert (seen.reason, seen.instruction_bytes, seen.qualification) == (R.MSR_WRITE if write else R.MSR_READ, 2, 0)


@pytest.mark.parametrize("name", MSRS)
@pytest.mark.parametrize("write", [False, True])
def test_an_msr_whose_bit_alone_is_clear_does_not_exit(name: str, write: bool) -> None:
    index, byte = MSRS[name]
    rig = guest("wrmsr" if write else "rdmsr")
    rig["rcx"] = index
    rig["rax"] = 6
    rig.platform.msrs[index] = 6
    rig.put(MSR_BITMAP, b"\xff" * 4096)
    rig.put(MSR_BITMAP + (0x800 if write else 0) + byte, bytes([0xFF ^ 1 << (index & 7)]))
    assert exits_of(rig) == []


@pytest.mark.parametrize("index", [0x2000, 0xBFFFFFFF, 0xC0002000, 0xFFFFFFFF, 0x40000000])
@pytest.mark.parametrize("text", ["rdmsr", "wrmsr"])
def test_an_msr_outside_the_bitmap_exits(index: int, text: str) -> None:
    rig = guest(text)
    rig["rcx"] = index | 0xAAAA_0000_0000  # the upper half of RCX does not count
    assert len(exits_of(rig)) == 1


@pytest.mark.parametrize("text", ["rdmsr", "wrmsr"])
def test_without_the_bitmap_every_msr_exits(text: str) -> None:
    rig = guest(text)
    rig["rcx"] = 0xC0000082
    rig.clear_control(PROC, c.PROC_USE_MSR_BITMAPS)
    assert len(exits_of(rig)) == 1


def test_a_bitmap_outside_of_memory_exits() -> None:
    rig = guest("rdmsr\n in al, 0x10")
    rig.vmcs.write(f.MSR_BITMAP_ADDRESS, 1 << 39)
    rig.vmcs.write(f.IO_BITMAP_A_ADDRESS, 1 << 39)
    assert [seen.reason for seen in exits_of(rig)] == [R.MSR_READ, R.IO_INSTRUCTION]


# --- TSC --------------------------------------------------------------------------------------------------------------


def test_the_tsc_is_the_clock_with_its_base_and_in_a_guest_its_offset() -> None:
    def tsc(**changes: object) -> int:
        rig = Rig("nop\n nop\n rdtsc\n hlt", **changes)  # type: ignore[arg-type]
        rig.shared.tsc_base = 1 << 40
        rig.vmcs.write(f.TSC_OFFSET, (1 << 64) - (1 << 36))
        if offsetting:
            rig.set_control(PROC, c.PROC_USE_TSC_OFFSETTING)
        rig.run()
        return rig["rdx"] << 32 | rig["rax"]

    offsetting = False
    assert tsc() == tsc(non_root=True) == (1 << 40) + 2
    offsetting = True
    assert tsc() == (1 << 40) + 2
    assert tsc(non_root=True) == (1 << 40) - (1 << 36) + 2


def test_rdmsr_of_the_tsc_is_rdtsc() -> None:
    rig = guest("mov ecx, 0x10\n rdmsr")
    rig.set_control(PROC, c.PROC_USE_TSC_OFFSETTING)
    rig.vmcs.write(f.TSC_OFFSET, 1000)
    exits_of(rig)
    assert rig["rax"] == 1002


def test_rdtscp_brings_the_aux_register() -> None:
    rig = guest("mov ecx, 0xc0000103\n mov eax, 77\n wrmsr\n xor ecx, ecx\n rdtscp")
    rig.set_control(PROC2, c.PROC2_ENABLE_RDTSCP)
    assert exits_of(rig) == []
    assert rig["rcx"] == 77


@pytest.mark.parametrize("bit", [11, 12, 13, 14, 16, 17, 18, 21, 22])
def test_a_bit_of_cr4_that_cpuid_does_not_offer_cannot_be_set(bit: int) -> None:
    """UMIP, LA57, VMXE (there is no VMX for who runs natively), SMXE, FSGSBASE, PCIDE, OSXSAVE, SMAP, PKE."""
    rig = Rig(f"mov rax, cr4\n bts rax, {bit}\n mov cr4, rax\n hlt").run()
    assert (rig.halted_in, rig["cr4"]) == (13, 0x20)
