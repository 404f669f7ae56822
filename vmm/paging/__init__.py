"""Memory virtualization behind one interface: `shadow` (no EPT, as in the paper) and `ept`.

guest: gva --guest tables--> gpa            shadow: the processor walks gva --> hpa tables that the VMM derives
                                            ept:    the processor walks both, gva --> gpa --> hpa
"""

from typing import TYPE_CHECKING, Protocol

from emulator.vmx.capabilities import VmxCapabilities
from vmm.outcome import Outcome

if TYPE_CHECKING:
    from vmm.vcpu import VCpu


class Paging(Protocol):
    """What a way of paging does for a domain's vCPUs. Values that reach it are valid: #GP was decided before."""

    name: str

    def sibling(self) -> "Paging":
        """The paging of another vCPU of the same domain."""
        ...

    def capabilities(self) -> VmxCapabilities:
        """The processor this way of paging needs."""
        ...

    def start(self, vcpu: "VCpu") -> None:
        """Set the controls and control registers of a vCPU whose guest state was just written."""
        ...

    def guest_cr3(self, vcpu: "VCpu") -> int:
        """CR3 as the guest reads it."""
        ...

    def guest_efer(self, vcpu: "VCpu") -> int:
        """EFER as the guest reads it."""
        ...

    def write_cr0(self, vcpu: "VCpu", value: int) -> None:
        """The guest's CR0 becomes `value`."""
        ...

    def write_cr3(self, vcpu: "VCpu", value: int) -> None:
        """The guest's CR3 becomes `value`."""
        ...

    def write_cr4(self, vcpu: "VCpu", value: int) -> None:
        """The guest's CR4 becomes `value`."""
        ...

    def write_efer(self, vcpu: "VCpu", value: int) -> None:
        """The guest's EFER becomes `value`."""
        ...

    def invlpg(self, vcpu: "VCpu", gva: int) -> None:
        """The guest executed INVLPG."""
        ...

    def handle_page_fault(self, vcpu: "VCpu", gva: int, error_code: int) -> Outcome:
        """A #PF exit."""
        ...

    def handle_ept_violation(self, vcpu: "VCpu") -> Outcome:
        """An EPT violation exit."""
        ...

    def store_entry(self, vcpu: "VCpu", gpa: int, entry: int) -> None:
        """Store a page-table entry for the guest; TLBs are the caller's to flush. `gpa` is in the guest's memory."""
        ...

    def watch(self, hpa: int) -> None:
        """The emulator wants to see each access to the page at `hpa`; 0: to none. No part of any VMM, takes no time."""
        ...

    def guest_memory_written(self, vcpu: "VCpu", gpa: int) -> None:
        """The VMM itself stored into guest memory at `gpa` on the guest's behalf."""
        ...
