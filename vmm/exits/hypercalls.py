"""VMCALL exits: hypercalls from ring 0, number in RAX, arguments in RDI and RSI, result in RAX.

What numbers there are, the hypervisor says (`VCpu.extensions`). An unknown one returns -ENOSYS, as Xen answers.
To add one: a function (vcpu, first, second) -> result, and a row in `Hypervisor.extensions.hypercalls`.
"""

from emulator.x86 import GENERAL_PROTECTION, RAX, RDI, RSI
from vmm.cost import paths
from vmm.outcome import AGAIN, NEXT, Outcome
from vmm.vcpu import VCpu

UNKNOWN = -38  # -ENOSYS


def handle_vmcall(vcpu: VCpu) -> Outcome:
    """A hypercall from ring 0. From ring 3: #GP."""
    if vcpu.cpl != 0:
        vcpu.inject_exception(GENERAL_PROTECTION, 0)
        return AGAIN
    vcpu.meter.follow(paths.HYPERCALL)
    gpr = vcpu.gpr
    call = vcpu.extensions.hypercalls.get(gpr[RAX])
    gpr[RAX] = (UNKNOWN if call is None else call(vcpu, gpr[RDI], gpr[RSI])) & (1 << 64) - 1
    return NEXT
