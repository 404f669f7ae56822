"""What a processor lets software set in the VMX controls, CR0 and CR4; and the IA32_VMX_* MSRs that say so.

Source: Intel SDM volume 3, appendix A "VMX Capability Reporting Facility".
To model a processor: start from `without_ept()` or `with_ept()` and change fields with `dataclasses.replace`.
"""

from dataclasses import dataclass

from emulator.vmx import controls as c
from emulator.vmx import fields
from emulator.vmx.vmcs import REVISION_ID
from emulator.x86 import CR0_NE, CR0_PE, CR0_PG, CR4_VMXE

CR0_FIXED0 = CR0_PG | CR0_NE | CR0_PE

IA32_VMX_BASIC = 0x480
IA32_VMX_PINBASED_CTLS = 0x481
IA32_VMX_PROCBASED_CTLS = 0x482
IA32_VMX_EXIT_CTLS = 0x483
IA32_VMX_ENTRY_CTLS = 0x484
IA32_VMX_MISC = 0x485
IA32_VMX_CR0_FIXED0 = 0x486
IA32_VMX_CR0_FIXED1 = 0x487
IA32_VMX_CR4_FIXED0 = 0x488
IA32_VMX_CR4_FIXED1 = 0x489
IA32_VMX_VMCS_ENUM = 0x48A
IA32_VMX_PROCBASED_CTLS2 = 0x48B
IA32_VMX_EPT_VPID_CAP = 0x48C
IA32_VMX_TRUE_PINBASED_CTLS = 0x48D
IA32_VMX_TRUE_PROCBASED_CTLS = 0x48E
IA32_VMX_TRUE_EXIT_CTLS = 0x48F
IA32_VMX_TRUE_ENTRY_CTLS = 0x490

# IA32_VMX_EPT_VPID_CAP (appendix A.10): bit positions of what `with_ept` offers
_EPT_CAPABILITIES = (
    1 << 6  # page-walk length of 4
    | 1 << 8  # uncacheable paging structures
    | 1 << 14  # write-back paging structures
    | 1 << 16  # 2-Mbyte pages
    | 1 << 17  # 1-Gbyte pages
    | 1 << 20  # INVEPT
    | 1 << 25  # single-context INVEPT
    | 1 << 26  # all-context INVEPT
    | 1 << 32  # INVVPID
    | 0xF << 40  # INVVPID types 0 to 3
)
EPT_CAP_EXECUTE_ONLY = 1 << 0
EPT_CAP_ACCESSED_DIRTY = 1 << 21


@dataclass(frozen=True, slots=True)
class AllowedBits:
    """Settings of a control word or control register: `must_be_one` (allowed 0), `may_be_one` (allowed 1)."""

    must_be_one: int
    may_be_one: int

    def allows(self, value: int) -> bool:
        """Whether `value` sets every bit that must be set and none that may not."""
        return value & self.must_be_one == self.must_be_one and value & ~self.may_be_one == 0

    def adjust(self, value: int) -> int:
        """`value` with the forced bits set and the impossible ones cleared, as VMMs do before VMWRITE."""
        return (value | self.must_be_one) & self.may_be_one


@dataclass(frozen=True, slots=True)
class VmxCapabilities:
    """One processor's VMX, as its capability MSRs tell it.

    `has_true_controls` is IA32_VMX_BASIC bit 55: some default1 controls may be 0, and the TRUE MSRs exist.
    `physical_address_bits` is MAXPHYADDR, `linear_address_bits` the width of canonical addresses.
    """

    pin: AllowedBits
    proc: AllowedBits
    proc2: AllowedBits
    exit: AllowedBits
    entry: AllowedBits
    cr0: AllowedBits
    cr4: AllowedBits
    ept_vpid_cap: int = 0
    has_true_controls: bool = False
    can_inject_zero_length: bool = False  # IA32_VMX_MISC bit 30: software events of instruction length 0
    activity_states: int = 0b111  # IA32_VMX_MISC bits 8:6: HLT, shutdown, wait-for-SIPI
    cr3_target_count: int = 4
    saves_lma: bool = False  # IA32_VMX_MISC bit 5: exits store EFER.LMA into "IA-32e mode guest"
    preemption_timer_shift: int = c.PREEMPTION_TIMER_SHIFT
    physical_address_bits: int = 40
    linear_address_bits: int = 48
    has_paged_real_mode: bool = False  # not of VMX: a guest may clear CR0.PE while paging stays on, as with AMD's SVM

    def word(self, word: str) -> AllowedBits:
        """Allowed settings of control word PIN, PROC, PROC2, EXIT or ENTRY."""
        return {"PIN": self.pin, "PROC": self.proc, "PROC2": self.proc2, "EXIT": self.exit, "ENTRY": self.entry}[word]

    @property
    def has_ept(self) -> bool:
        """Whether the processor can translate with EPT."""
        return bool(self.proc2.may_be_one & c.PROC2_ENABLE_EPT)


def _control_word(word: str, allowed: int, must_be_one: int) -> AllowedBits:
    """Default1 bits are always allowed to be 1; of them, `must_be_one` may not be 0."""
    return AllowedBits(must_be_one, allowed | c.DEFAULT1[word])


# MODEL: processors before Nehalem swap IA32_EFER with the MSR-load areas; those are not modelled, so every processor
# has "load IA32_EFER" and "save IA32_EFER".
_EXIT_CONTROLS = (
    c.EXIT_SAVE_DEBUG_CONTROLS
    | c.EXIT_HOST_ADDRESS_SPACE_SIZE
    | c.EXIT_ACKNOWLEDGE_INTERRUPT
    | c.EXIT_SAVE_IA32_EFER
    | c.EXIT_LOAD_IA32_EFER
)
_ENTRY_CONTROLS = c.ENTRY_LOAD_DEBUG_CONTROLS | c.ENTRY_IA32E_MODE_GUEST | c.ENTRY_LOAD_IA32_EFER
_PROC_CONTROLS = (
    c.PROC_INTERRUPT_WINDOW_EXITING
    | c.PROC_USE_TSC_OFFSETTING
    | c.PROC_HLT_EXITING
    | c.PROC_INVLPG_EXITING
    | c.PROC_MWAIT_EXITING
    | c.PROC_RDPMC_EXITING
    | c.PROC_RDTSC_EXITING
    | c.PROC_CR8_LOAD_EXITING
    | c.PROC_CR8_STORE_EXITING
    | c.PROC_USE_TPR_SHADOW
    | c.PROC_NMI_WINDOW_EXITING
    | c.PROC_MOV_DR_EXITING
    | c.PROC_UNCONDITIONAL_IO_EXITING
    | c.PROC_USE_IO_BITMAPS
    | c.PROC_USE_MSR_BITMAPS
    | c.PROC_MONITOR_EXITING
    | c.PROC_PAUSE_EXITING
)
_PIN_CONTROLS = c.PIN_EXTERNAL_INTERRUPT_EXITING | c.PIN_NMI_EXITING | c.PIN_VIRTUAL_NMIS


def without_ept() -> VmxCapabilities:
    """A machine of 2005 to 2007: shadow paging only; no secondary controls, no VPID, CR3 accesses always exit."""
    return VmxCapabilities(
        pin=_control_word("PIN", _PIN_CONTROLS, c.DEFAULT1["PIN"]),
        proc=_control_word("PROC", _PROC_CONTROLS, c.DEFAULT1["PROC"]),
        proc2=AllowedBits(0, 0),
        exit=_control_word("EXIT", _EXIT_CONTROLS, c.DEFAULT1["EXIT"]),
        entry=_control_word("ENTRY", _ENTRY_CONTROLS, c.DEFAULT1["ENTRY"]),
        cr0=AllowedBits(CR0_FIXED0, 0xFFFF_FFFF),
        cr4=AllowedBits(CR4_VMXE, CR4_VMXE | 0x7FF),  # VME to OSXMMEXCPT
        physical_address_bits=36,
    )


def with_ept() -> VmxCapabilities:
    """A machine of 2010 and later: EPT, VPID, unrestricted guest, PAT and EFER switching, preemption timer."""
    return VmxCapabilities(
        pin=_control_word("PIN", _PIN_CONTROLS | c.PIN_ACTIVATE_PREEMPTION_TIMER, c.DEFAULT1["PIN"]),
        proc=_control_word(
            "PROC",
            _PROC_CONTROLS | c.PROC_MONITOR_TRAP_FLAG | c.PROC_ACTIVATE_SECONDARY_CONTROLS,
            c.DEFAULT1["PROC"] & ~(c.PROC_CR3_LOAD_EXITING | c.PROC_CR3_STORE_EXITING),
        ),
        proc2=AllowedBits(
            0,
            c.PROC2_ENABLE_EPT
            | c.PROC2_DESCRIPTOR_TABLE_EXITING
            | c.PROC2_ENABLE_RDTSCP
            | c.PROC2_ENABLE_VPID
            | c.PROC2_WBINVD_EXITING
            | c.PROC2_UNRESTRICTED_GUEST
            | c.PROC2_PAUSE_LOOP_EXITING
            | c.PROC2_RDRAND_EXITING
            | c.PROC2_RDSEED_EXITING
            | c.PROC2_ENABLE_PML,
        ),
        exit=_control_word(
            "EXIT",
            _EXIT_CONTROLS | c.EXIT_SAVE_IA32_PAT | c.EXIT_LOAD_IA32_PAT | c.EXIT_SAVE_PREEMPTION_TIMER,
            c.DEFAULT1["EXIT"] & ~c.EXIT_SAVE_DEBUG_CONTROLS,
        ),
        entry=_control_word(
            "ENTRY",
            _ENTRY_CONTROLS | c.ENTRY_LOAD_IA32_PAT,
            c.DEFAULT1["ENTRY"] & ~c.ENTRY_LOAD_DEBUG_CONTROLS,
        ),
        cr0=AllowedBits(CR0_FIXED0, 0xFFFF_FFFF),
        cr4=AllowedBits(CR4_VMXE, CR4_VMXE | 0x7FF | 1 << 16 | 1 << 18 | 1 << 20),  # and FSGSBASE, OSXSAVE, SMEP
        ept_vpid_cap=_EPT_CAPABILITIES,
        has_true_controls=True,
        can_inject_zero_length=True,
        saves_lma=True,
    )


def msr_values(capabilities: VmxCapabilities) -> dict[int, int]:
    """IA32_VMX_* MSR number -> value; an MSR that is not in it does not exist on that processor."""
    cap = capabilities
    basic = REVISION_ID | 4096 << 32 | 6 << 50 | 1 << 54 | int(cap.has_true_controls) << 55  # WB; INS/OUTS information
    misc = cap.preemption_timer_shift | int(cap.saves_lma) << 5 | cap.activity_states << 6
    misc |= cap.cr3_target_count << 16 | int(cap.can_inject_zero_length) << 30
    values = {
        IA32_VMX_BASIC: basic,
        IA32_VMX_PINBASED_CTLS: _capability_msr(cap.pin, c.DEFAULT1["PIN"]),
        IA32_VMX_PROCBASED_CTLS: _capability_msr(cap.proc, c.DEFAULT1["PROC"]),
        IA32_VMX_EXIT_CTLS: _capability_msr(cap.exit, c.DEFAULT1["EXIT"]),
        IA32_VMX_ENTRY_CTLS: _capability_msr(cap.entry, c.DEFAULT1["ENTRY"]),
        IA32_VMX_MISC: misc,
        IA32_VMX_CR0_FIXED0: cap.cr0.must_be_one,
        IA32_VMX_CR0_FIXED1: cap.cr0.may_be_one,
        IA32_VMX_CR4_FIXED0: cap.cr4.must_be_one,
        IA32_VMX_CR4_FIXED1: cap.cr4.may_be_one,
        IA32_VMX_VMCS_ENUM: max(field.index for field in fields.FIELDS) << 1,
    }
    if cap.proc.may_be_one & c.PROC_ACTIVATE_SECONDARY_CONTROLS:
        values[IA32_VMX_PROCBASED_CTLS2] = _capability_msr(cap.proc2, 0)
    if cap.ept_vpid_cap:
        values[IA32_VMX_EPT_VPID_CAP] = cap.ept_vpid_cap
    if cap.has_true_controls:
        values[IA32_VMX_TRUE_PINBASED_CTLS] = _capability_msr(cap.pin, 0)
        values[IA32_VMX_TRUE_PROCBASED_CTLS] = _capability_msr(cap.proc, 0)
        values[IA32_VMX_TRUE_EXIT_CTLS] = _capability_msr(cap.exit, 0)
        values[IA32_VMX_TRUE_ENTRY_CTLS] = _capability_msr(cap.entry, 0)
    return values


def _capability_msr(allowed: AllowedBits, default1: int) -> int:
    return (allowed.must_be_one | default1) | allowed.may_be_one << 32
