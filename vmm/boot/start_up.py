"""The state of a processor that is not the boot processor: after INIT, and when a SIPI starts it.

    INIT --> waits for SIPI --SIPI, vector v--> real mode at v << 12        (SDM 3A table 9-1, 8.4)

One table for a vCPU under the VMM and a native core alike; a vCPU's paging has to be started anew behind it.
MODEL: INIT clears CR0.CD and NW, which it leaves alone on hardware: caches are always on.
"""

from emulator.engine import FLUSH_ALL, Engine
from emulator.vmx import fields as f
from emulator.vmx.vmcs import Vmcs
from emulator.x86 import RDX

SIGNATURE = 0x0F64  # family, model, stepping as CPUID leaf 1 has them: in EDX after INIT
LIMIT_64K = 0xFFFF
CODE, DATA, LDT, TSS = 0x9B, 0x93, 0x82, 0x8B

# segment register, selector, base, access rights
_SEGMENTS = (
    ("ES", 0, 0, DATA),
    ("CS", 0xF000, 0xFFFF_0000, CODE),
    ("SS", 0, 0, DATA),
    ("DS", 0, 0, DATA),
    ("FS", 0, 0, DATA),
    ("GS", 0, 0, DATA),
    ("LDTR", 0, 0, LDT),
    ("TR", 0, 0, TSS),
)
_FIELDS = (
    (f.GUEST_CR0, 0x10),  # ET
    (f.GUEST_CR3, 0),
    (f.GUEST_CR4, 0),
    (f.GUEST_IA32_EFER, 0),
    (f.GUEST_GDTR_BASE, 0),
    (f.GUEST_GDTR_LIMIT, LIMIT_64K),
    (f.GUEST_IDTR_BASE, 0),
    (f.GUEST_IDTR_LIMIT, LIMIT_64K),
    (f.GUEST_RIP, 0xFFF0),
    (f.GUEST_RSP, 0),
    (f.GUEST_RFLAGS, 2),
    (f.GUEST_DR7, 0x400),
    (f.GUEST_ACTIVITY_STATE, 0),
    (f.GUEST_INTERRUPTIBILITY_STATE, 0),
    (f.VM_ENTRY_INTERRUPTION_INFORMATION, 0),
)


def write_init_state(engine: Engine, vmcs: Vmcs) -> None:
    """What an INIT leaves."""
    for index in range(16):
        engine.gpr[index] = 0
    engine.gpr[RDX] = SIGNATURE
    engine.shared.flush_tlb = FLUSH_ALL
    for name, selector, base, rights in _SEGMENTS:
        _write(vmcs, getattr(f, f"GUEST_{name}_SELECTOR"), selector)
        _write(vmcs, getattr(f, f"GUEST_{name}_BASE"), base)
        _write(vmcs, getattr(f, f"GUEST_{name}_LIMIT"), LIMIT_64K)
        _write(vmcs, getattr(f, f"GUEST_{name}_ACCESS_RIGHTS"), rights)
    for field, value in _FIELDS:
        _write(vmcs, field, value)


def write_start_address(vmcs: Vmcs, vector: int) -> None:
    """CS:IP for a SIPI."""
    _write(vmcs, f.GUEST_CS_SELECTOR, vector << 8)
    _write(vmcs, f.GUEST_CS_BASE, vector << 12)
    _write(vmcs, f.GUEST_RIP, 0)


def _write(vmcs: Vmcs, field: int, value: int) -> None:
    failure = vmcs.write(field, value)
    assert failure is None, failure
