"""Accesses to devices in memory: the #PF exit (shadow) or EPT violation where a device answers and not RAM.

The instruction at RIP is decoded and carried out whole (instructions.py), against the vCPU's own view of the bus.
"""

from emulator.errors import GuestError
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.x86 import GENERAL_PROTECTION, INVALID_OPCODE, STACK_FAULT
from vmm.cost import paths
from vmm.emulation import Emulated, PageFault, Unhandled
from vmm.paging.guest_walk import PagingMode
from vmm.paging.instructions import Stored, emulate_instruction
from vmm.vcpu import VCpu

ERROR_CODES = {STACK_FAULT: 0, GENERAL_PROTECTION: 0}  # of the exceptions an instruction may raise instead
ELEMENTS_MAX = 256  # of a REP per exit: interrupts are looked at between


def access_device(vcpu: VCpu, mode: PagingMode, gpa: int, *, is_fetch: bool) -> Stored:
    """The instruction at RIP, which accesses a device at `gpa`; returns its stores to RAM.

    Raises GuestError for one that is not emulated, and for a stack of an event's delivery in a device.
    """
    if is_fetch:  # what a device answers is no code: as where nobody answers, all ones
        vcpu.inject_exception(INVALID_OPCODE)
        return []
    if vcpu.vmcs.read(f.IDT_VECTORING_INFORMATION) & i.VALID:
        raise GuestError(f"an event's delivery uses memory at {gpa:#x}, where there is a device")
    vcpu.run_devices()
    stored: Stored = []
    for _ in range(ELEMENTS_MAX):
        vcpu.meter.follow(paths.MMIO)
        result, its_stores = emulate_instruction(vcpu, mode)
        stored += its_stores
        if not (isinstance(result, Emulated) and result.is_repeating) or vcpu.is_injecting:
            break
    vcpu.arm_timer()
    if isinstance(result, PageFault):
        vcpu.inject_page_fault(result.gva, result.error_code)
    elif isinstance(result, Unhandled):
        _refuse(vcpu, gpa, result)
    return stored


def _refuse(vcpu: VCpu, gpa: int, result: Unhandled) -> None:
    if result.vector is not None:
        vcpu.inject_exception(result.vector, ERROR_CODES.get(result.vector))
        return
    where = f"the instruction at RIP {vcpu.read(f.GUEST_RIP):#x} accesses a device at {gpa:#x}"
    raise GuestError(f"{where} and is not emulated: {result.reason} ({vcpu.engine.code_at_rip().hex(' ')})")
