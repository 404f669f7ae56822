"""The architectural state in which a guest starts: 64-bit mode, as the Linux 64-bit boot protocol asks.

Guest-state fields are written once from this table, for a vCPU under the VMM and for a native core alike (the engine
keeps a core's registers in the same slots). Source: Documentation/arch/x86/boot.rst, "64-bit BOOT PROTOCOL".
"""

from emulator.engine import GPR_NAMES, Engine
from emulator.vmx import fields as f
from emulator.vmx.vmcs import Vmcs
from vmm.loaders import BootImage

CR0_START = 0x8000_0031  # PG, NE, ET, PE
CR4_START = 0x20  # PAE
EFER_START = 0x500  # LME, LMA
RFLAGS_START = 0x2

CODE_64 = 0xA09B
DATA_FLAT = 0xC093
UNUSABLE = 0x1_0000
TSS_BUSY = 0x8B
LDT_UNUSABLE = UNUSABLE
TSS_LIMIT = 0x67

# segment register, selector, limit, access rights
_TABLE = (
    ("ES", 0x18, 0xFFFF_FFFF, DATA_FLAT),
    ("CS", 0x10, 0xFFFF_FFFF, CODE_64),
    ("SS", 0x18, 0xFFFF_FFFF, DATA_FLAT),
    ("DS", 0x18, 0xFFFF_FFFF, DATA_FLAT),
    ("FS", 0, 0, UNUSABLE),
    ("GS", 0, 0, UNUSABLE),
    ("LDTR", 0, 0, LDT_UNUSABLE),
    ("TR", 0x20, TSS_LIMIT, TSS_BUSY),
)


def write_boot_state(engine: Engine, vmcs: Vmcs, image: BootImage) -> None:
    """Set the registers of `engine` and the guest-state fields of `vmcs` for the first instruction of `image`."""
    for index in range(16):
        engine.gpr[index] = 0
    for name, value in image.registers.items():
        engine.gpr[GPR_NAMES.index(name)] = value
    for name, selector, limit, rights in _TABLE:
        vmcs.write(getattr(f, f"GUEST_{name}_SELECTOR"), selector)
        vmcs.write(getattr(f, f"GUEST_{name}_LIMIT"), limit)
        vmcs.write(getattr(f, f"GUEST_{name}_ACCESS_RIGHTS"), rights)
        vmcs.write(getattr(f, f"GUEST_{name}_BASE"), 0)
    for field, value in (
        (f.GUEST_CR0, CR0_START),
        (f.GUEST_CR3, image.cr3_gpa),
        (f.GUEST_CR4, CR4_START),
        (f.GUEST_IA32_EFER, EFER_START),
        (f.GUEST_GDTR_BASE, image.gdt_gpa),
        (f.GUEST_GDTR_LIMIT, image.gdt_limit),
        (f.GUEST_IDTR_BASE, 0),
        (f.GUEST_IDTR_LIMIT, 0),
        (f.GUEST_RIP, image.entry_gpa),
        (f.GUEST_RSP, 0),
        (f.GUEST_RFLAGS, RFLAGS_START),
        (f.GUEST_ACTIVITY_STATE, 0),
        (f.GUEST_INTERRUPTIBILITY_STATE, 0),
    ):
        vmcs.write(field, value)
