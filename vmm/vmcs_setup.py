"""The VMCS of a vCPU before its first VM entry (SDM 3C 31.6, "Preparation and Launching a Virtual Machine")."""

from emulator.memory import HostMemory
from emulator.platform import HOST_MSRS
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.capabilities import AllowedBits, VmxCapabilities
from emulator.x86 import IA32_MISC_ENABLE, MISC_ENABLE_MONITOR
from vmm.exits.msrs import PASSED_THROUGH_MSRS
from vmm.paging.host_pages import HostPages
from vmm.vcpu import VCpu

# The VMM is Python, not machine code of the host: host state only has to be valid (SDM 3C 26.2.2, 26.2.3).
HOST_STATE = (
    (f.HOST_CR0, 0x8000_0031),
    (f.HOST_CR3, 0),
    (f.HOST_CR4, 0x2020),
    (f.HOST_CS_SELECTOR, 0x8),
    (f.HOST_SS_SELECTOR, 0x10),
    (f.HOST_TR_SELECTOR, 0x18),
    (f.HOST_IA32_EFER, 0x500),
)


def set_up_vmcs(vcpu: VCpu, capabilities: VmxCapabilities, msr_bitmap_hpa: int) -> None:
    """Controls and host state of a vCPU whose guest state is written and whose paging is chosen."""

    def control(field: int, allowed: AllowedBits, wanted: int) -> None:
        vcpu.write(field, allowed.adjust(wanted))

    processor = c.PROC_CR8_LOAD_EXITING | c.PROC_CR8_STORE_EXITING
    processor |= c.PROC_HLT_EXITING | c.PROC_UNCONDITIONAL_IO_EXITING | c.PROC_USE_MSR_BITMAPS
    processor |= c.PROC_MONITOR_EXITING | c.PROC_MWAIT_EXITING
    if vcpu.paging.name == "shadow":
        processor |= c.PROC_INVLPG_EXITING | c.PROC_CR3_LOAD_EXITING | c.PROC_CR3_STORE_EXITING
    else:
        processor |= c.PROC_ACTIVATE_SECONDARY_CONTROLS
    pin = c.PIN_EXTERNAL_INTERRUPT_EXITING | c.PIN_NMI_EXITING | c.PIN_VIRTUAL_NMIS
    control(f.PIN_BASED_CONTROLS, capabilities.pin, pin)
    control(f.PRIMARY_PROCESSOR_BASED_CONTROLS, capabilities.proc, processor)
    exit_controls = c.EXIT_HOST_ADDRESS_SPACE_SIZE | c.EXIT_ACKNOWLEDGE_INTERRUPT | c.EXIT_SAVE_IA32_EFER
    control(f.VM_EXIT_CONTROLS, capabilities.exit, exit_controls)
    control(f.VM_ENTRY_CONTROLS, capabilities.entry, c.ENTRY_IA32E_MODE_GUEST | c.ENTRY_LOAD_IA32_EFER)
    vcpu.write(f.MSR_BITMAP_ADDRESS, msr_bitmap_hpa)
    vcpu.write(f.VMCS_LINK_POINTER, (1 << 64) - 1)
    vcpu.write(f.GUEST_DR7, 0x400)
    for field, value in HOST_STATE:
        vcpu.write(field, value)
    vcpu.msrs = dict(HOST_MSRS)  # a guest reads what the host has, less what CPUID hides
    vcpu.msrs[IA32_MISC_ENABLE] &= ~MISC_ENABLE_MONITOR
    vcpu.paging.start(vcpu)


def msr_bitmap(memory: HostMemory, pages: HostPages) -> int:
    """A page that lets only `PASSED_THROUGH_MSRS` pass (SDM 3C 24.6.9); its host-physical address."""
    hpa = pages.allocate()
    memory.write(hpa, b"\xff" * 4096)
    for index in PASSED_THROUGH_MSRS:
        for quarter in (0x000, 0x800):  # reads, writes
            at = hpa + quarter + (0x400 if index >= 0xC000_0000 else 0) + (index & 0x1FFF) // 8
            memory.write(at, bytes([memory.read(at, 1)[0] & ~(1 << (index & 7))]))
    return hpa
