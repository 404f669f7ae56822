"""What a guest finds of sidecores: a CPUID leaf, and hypercalls that share a page, take it back, switch sidecalls."""

from collections.abc import Mapping

from emulator import cpuid
from emulator.errors import ConfigError
from vmm.cost import paths
from vmm.exits.cpuid import HYPERVISOR_LEAF
from vmm.exits.hypercalls import UNKNOWN
from vmm.sidecore import abi
from vmm.sidecore.registry import Sidecores
from vmm.vcpu import Extensions, Hypercall, VCpu


def extensions(sidecores: Sidecores | None, added: Extensions | None = None) -> Extensions:
    """The extensions of a hypervisor that has these sidecores, or none, and those that a user adds.

    Raises ConfigError when a number is taken.
    """
    calls, added = _Calls(sidecores), added or Extensions()
    leaf: cpuid.Registers = (abi.ABI, abi.CPUID_PRESENT if sidecores is not None else 0, abi.SLOTS_MAX, 0)
    hypercalls: dict[int, Hypercall] = {
        abi.CALL_NULL: calls.null,
        abi.CALL_REGISTER: calls.register,
        abi.CALL_UNREGISTER: calls.unregister,
        abi.CALL_SWITCH: calls.switch,
    }
    for number in added.cpuid_leaves:
        if number <= HYPERVISOR_LEAF or number == abi.CPUID_LEAF:
            raise ConfigError(f"CPUID leaf {number:#x} is not free; choose one above {HYPERVISOR_LEAF:#x}")
    together = Extensions(hypercalls, {abi.CPUID_LEAF: leaf, **added.cpuid_leaves})
    add_hypercalls(together, added.hypercalls)
    return together


def add_hypercalls(extensions: Extensions, added: Mapping[int, Hypercall]) -> None:
    """Let guests have more hypercalls. Raises ConfigError when a number is taken."""
    for number in added:
        if number in extensions.hypercalls:
            raise ConfigError(f"hypercall {number} is there already; choose another")
    extensions.hypercalls.update(added)


class _Calls:
    """The hypercalls: (vCPU, RDI, RSI) -> RAX."""

    def __init__(self, sidecores: Sidecores | None) -> None:
        self._sidecores = sidecores

    def null(self, _vcpu: VCpu, _first: int, _second: int) -> int:
        """Nothing: what a hypercall takes at least."""
        return 0

    def register(self, vcpu: VCpu, gpa: int, count: int) -> int:
        """Share a page of the guest with a sidecore."""
        if self._sidecores is None:
            return UNKNOWN
        vcpu.meter.follow(paths.REGISTER_PAGE)
        vcpu.meter.commit()
        return self._sidecores.register(vcpu.siblings, gpa, count, vcpu.pcpu.clock.cycles)

    def unregister(self, vcpu: VCpu, _first: int, _second: int) -> int:
        """Share it no longer."""
        if self._sidecores is None:
            return UNKNOWN
        vcpu.meter.follow(paths.REGISTER_PAGE)
        vcpu.meter.commit()
        return self._sidecores.unregister(vcpu.domain, vcpu.pcpu.clock.cycles)

    def switch(self, vcpu: VCpu, is_open: int, _second: int) -> int:
        """Turn sidecalls on or off."""
        if self._sidecores is None:
            return UNKNOWN
        return self._sidecores.switch(vcpu.domain, bool(is_open))
