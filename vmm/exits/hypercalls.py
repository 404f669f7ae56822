"""Hypercalls: VMCALL in ring 0, number in RAX, arguments in RDI and RSI, result in RAX. One table.

To add one: a function (vcpu, first, second) -> result, and a row. An unknown number returns -ENOSYS, as Xen answers.
"""

from collections.abc import Callable

from vmm.cost import paths
from vmm.sidecore import abi
from vmm.vcpu import VCpu

Hypercall = Callable[[VCpu, int, int], int]

UNKNOWN = -38  # -ENOSYS


def null(_vcpu: VCpu, _first: int, _second: int) -> int:
    """Nothing: what a hypercall takes at least."""
    return 0


def sidecore_register(vcpu: VCpu, gpa: int, count: int) -> int:
    """Share a page of the guest with a sidecore."""
    sidecores = vcpu.domain.sidecores
    if sidecores is None:
        return UNKNOWN
    vcpu.follow(paths.REGISTER_PAGE)
    vcpu.commit_cycles()
    return sidecores.register(vcpu.domain, gpa, count, vcpu.pcpu.clock.cycles)


def sidecore_unregister(vcpu: VCpu, _first: int, _second: int) -> int:
    """Share it no longer."""
    sidecores = vcpu.domain.sidecores
    if sidecores is None:
        return UNKNOWN
    vcpu.follow(paths.REGISTER_PAGE)
    vcpu.commit_cycles()
    return sidecores.unregister(vcpu.domain, vcpu.pcpu.clock.cycles)


def sidecore_switch(vcpu: VCpu, is_open: int, _second: int) -> int:
    """Turn sidecalls on or off."""
    sidecores = vcpu.domain.sidecores
    if sidecores is None:
        return UNKNOWN
    return sidecores.switch(vcpu.domain, bool(is_open))


HYPERCALLS: dict[int, Hypercall] = {
    abi.CALL_NULL: null,
    abi.CALL_REGISTER: sidecore_register,
    abi.CALL_UNREGISTER: sidecore_unregister,
    abi.CALL_SWITCH: sidecore_switch,
}
