"""Valid VMCSs to start tests from, and processors to check them on."""

from dataclasses import replace

from emulator import x86
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.capabilities import AllowedBits, VmxCapabilities, with_ept
from emulator.vmx.vmcs import Vmcs

State = dict[int, int]

CODE_64 = 0xA09B  # G, L, present, accessed code
CODE_32 = 0xC09B
DATA = 0xC093
TSS = 0x008B
UNUSABLE = 0x1_0000
PAT_AFTER_RESET = 0x0007_0406_0007_0406

_HOST: State = {
    f.HOST_CR0: x86.CR0_PE | x86.CR0_PG | 1 << 5,
    f.HOST_CR3: 0x1000,
    f.HOST_CR4: x86.CR4_PAE | 1 << 13,
    f.HOST_CS_SELECTOR: 0x08,
    f.HOST_SS_SELECTOR: 0x10,
    f.HOST_TR_SELECTOR: 0x40,
    f.HOST_GS_BASE: 0xFFFF_8880_0000_0000,
    f.HOST_IA32_EFER: x86.EFER_LMA | x86.EFER_LME | x86.EFER_SCE,
    f.HOST_IA32_PAT: PAT_AFTER_RESET,
    f.HOST_RIP: 0xFFFF_FFFF_8100_0000,
}
_CONTROLS: State = {
    f.PIN_BASED_CONTROLS: c.DEFAULT1["PIN"] | c.PIN_EXTERNAL_INTERRUPT_EXITING | c.PIN_NMI_EXITING | c.PIN_VIRTUAL_NMIS,
    f.PRIMARY_PROCESSOR_BASED_CONTROLS: c.DEFAULT1["PROC"] | c.PROC_HLT_EXITING,
    f.VM_EXIT_CONTROLS: c.DEFAULT1["EXIT"] | c.EXIT_HOST_ADDRESS_SPACE_SIZE | c.EXIT_LOAD_IA32_EFER,
    f.VM_ENTRY_CONTROLS: c.DEFAULT1["ENTRY"] | c.ENTRY_IA32E_MODE_GUEST | c.ENTRY_LOAD_IA32_EFER,
}
_GUEST: State = {
    f.GUEST_CR0: x86.CR0_PE | x86.CR0_PG | 1 << 5,
    f.GUEST_CR3: 0x2000,
    f.GUEST_CR4: x86.CR4_PAE | 1 << 13,
    f.GUEST_DR7: 0x400,
    f.GUEST_RIP: 0xFFFF_FFFF_8100_0000,
    f.GUEST_RFLAGS: 0x202,
    f.GUEST_IA32_EFER: x86.EFER_LMA | x86.EFER_LME,
    f.GUEST_IA32_PAT: PAT_AFTER_RESET,
    f.VMCS_LINK_POINTER: (1 << 64) - 1,
    f.GUEST_CS_SELECTOR: 0x10,
    f.GUEST_CS_LIMIT: 0xFFFF_FFFF,
    f.GUEST_CS_ACCESS_RIGHTS: CODE_64,
    **{f.FIELD_BY_NAME[f"GUEST_{name}_SELECTOR"].encoding: 0x18 for name in ("SS", "DS", "ES", "FS", "GS")},
    **{f.FIELD_BY_NAME[f"GUEST_{name}_LIMIT"].encoding: 0xFFFF_FFFF for name in ("SS", "DS", "ES", "FS", "GS")},
    **{f.FIELD_BY_NAME[f"GUEST_{name}_ACCESS_RIGHTS"].encoding: DATA for name in ("SS", "DS", "ES", "FS", "GS")},
    f.GUEST_TR_SELECTOR: 0x40,
    f.GUEST_TR_LIMIT: 0x67,
    f.GUEST_TR_ACCESS_RIGHTS: TSS,
    f.GUEST_LDTR_ACCESS_RIGHTS: UNUSABLE,
    f.GUEST_GDTR_LIMIT: 0xFFFF,
    f.GUEST_IDTR_LIMIT: 0xFFFF,
}
_LEGACY: State = {
    f.VM_ENTRY_CONTROLS: c.DEFAULT1["ENTRY"] | c.ENTRY_LOAD_IA32_EFER,
    f.GUEST_IA32_EFER: 0,
    f.GUEST_CS_ACCESS_RIGHTS: CODE_32,
    f.GUEST_RIP: 0x10_0000,
}

# A 64-bit kernel with flat segments; the others change what they must.
FLAT_64: State = _HOST | _CONTROLS | _GUEST
PAE_32: State = FLAT_64 | _LEGACY
_V86_SEGMENTS: State = {
    encoding: value
    for name in ("CS", "SS", "DS", "ES", "FS", "GS")
    for encoding, value in {
        f.FIELD_BY_NAME[f"GUEST_{name}_SELECTOR"].encoding: 0xF000,
        f.FIELD_BY_NAME[f"GUEST_{name}_BASE"].encoding: 0xF_0000,
        f.FIELD_BY_NAME[f"GUEST_{name}_LIMIT"].encoding: 0xFFFF,
        f.FIELD_BY_NAME[f"GUEST_{name}_ACCESS_RIGHTS"].encoding: 0xF3,
    }.items()
}
VIRTUAL_8086: State = FLAT_64 | _LEGACY | _V86_SEGMENTS | {f.GUEST_RFLAGS: x86.RFLAGS_VM | 0x202, f.GUEST_RIP: 0xFFF0}
EPT: State = {
    f.PRIMARY_PROCESSOR_BASED_CONTROLS: FLAT_64[f.PRIMARY_PROCESSOR_BASED_CONTROLS]
    | c.PROC_ACTIVATE_SECONDARY_CONTROLS,
    f.SECONDARY_PROCESSOR_BASED_CONTROLS: c.PROC2_ENABLE_EPT,
    f.EPT_POINTER: 0x5000 | 3 << 3 | 6,
}
EPT_64: State = FLAT_64 | EPT
EPT_PAE_32: State = PAE_32 | EPT
REAL_MODE: State = (
    EPT_PAE_32
    | {encoding: value for encoding, value in _V86_SEGMENTS.items() if value != 0xF3}
    | {encoding: 0x93 for encoding, value in _V86_SEGMENTS.items() if value == 0xF3}
    | {
        f.SECONDARY_PROCESSOR_BASED_CONTROLS: c.PROC2_ENABLE_EPT | c.PROC2_UNRESTRICTED_GUEST,
        f.GUEST_CR0: 1 << 5,
        f.GUEST_RIP: 0xFFF0,
    }
)
EXAMPLES: dict[str, State] = {
    "flat 64-bit": FLAT_64,
    "32-bit PAE": PAE_32,
    "virtual-8086": VIRTUAL_8086,
    "64-bit with EPT": EPT_64,
    "32-bit PAE with EPT": EPT_PAE_32,
    "unrestricted real mode": REAL_MODE,
}


def make_vmcs(state: State) -> Vmcs:
    """A VMCS with `state` written into it, everything else 0."""
    vmcs = Vmcs()
    for encoding, value in state.items():
        assert vmcs.write(encoding, value) is None
    return vmcs


def everything_allowed() -> VmxCapabilities:
    """A processor that offers every control, so that the checks beyond the reserved bits can be reached."""
    return replace(
        with_ept(),
        pin=AllowedBits(0, 0xFFFF_FFFF & ~(1 << 31)),
        proc=AllowedBits(0, 0xFFFF_FFFF & ~(1 << 0)),
        proc2=AllowedBits(0, 0xFFFF_FFFF & ~(1 << 29)),
        exit=AllowedBits(1 << 0, 0xFFFF_FFFF),
        entry=AllowedBits(1 << 0, 0xFFFF_FFFF),
        cr4=AllowedBits(1 << 13, 0xFFFF_FFFF & ~(1 << 15)),
        can_inject_zero_length=False,
        activity_states=0b011,
    )
