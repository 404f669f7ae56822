"""Stand-ins for parts of the VMM, where a test needs no machine."""

from types import SimpleNamespace
from typing import Any, cast

from emulator.vmx import fields as f
from emulator.vmx.vmcs import Vmcs
from vmm.vcpu import VCpu


def exited_vcpu(domain: int = 0, vcpu: int = 0, pcpu: int = 0, **exit_fields: int) -> VCpu:
    """A vCPU as observers see it: where it is, and what the exit has left in its VMCS."""
    vmcs = Vmcs()
    for name, value in exit_fields.items():
        vmcs.save(getattr(f, name), value)
    parts: Any = {"domain": SimpleNamespace(number=domain), "pcpu": SimpleNamespace(number=pcpu)}
    return cast(VCpu, SimpleNamespace(number=vcpu, vmcs=vmcs, **parts))
