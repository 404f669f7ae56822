"""What a management domain asks of the NIC: virtual interfaces for domains. guest_images/lib/vif.h has the numbers, a
test compares.

    CREATE   RDI number of the domain, RSI MAC address (byte 0 in bits 7:0) --> number of the VIF
    DESTROY  RDI number of the domain                                        --> 0

Any other domain gets -EPERM. -ENOENT: no domain with a place for a VIF, or nothing to destroy; -EEXIST: it has a VIF;
-EINVAL: that is no address, or another's; -ENOSPC: the NIC is full.
"""

from typing import Protocol

from vmm.cost import paths
from vmm.vcpu import Hypercall, VCpu

CALL_VIF_CREATE, CALL_VIF_DESTROY = 0x5C10, 0x5C11
NOT_PERMITTED, ABSENT = -1, -2
MAC_BYTES = 6


class Manager(Protocol):
    """The VIFs of the host."""

    def is_manager(self, domain_number: int) -> bool:
        """Whether a domain may give out VIFs."""
        ...

    def create(self, domain_number: int, mac: bytes) -> int:
        """Give a domain a VIF: its number, or less than 0."""
        ...

    def destroy(self, domain_number: int) -> bool:
        """Take a domain's VIF away; whether it had one."""
        ...


def hypercalls(manager: Manager) -> dict[int, Hypercall]:
    """By number."""
    calls = _Calls(manager)
    return {CALL_VIF_CREATE: calls.create, CALL_VIF_DESTROY: calls.destroy}


class _Calls:
    """(vCPU, RDI, RSI) -> RAX."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def create(self, vcpu: VCpu, domain_number: int, mac: int) -> int:
        """Give a domain a VIF."""
        if not self._manager.is_manager(vcpu.domain.number):
            return NOT_PERMITTED
        vcpu.meter.follow(paths.MANAGE_VIF)
        return self._manager.create(domain_number, (mac & (1 << 8 * MAC_BYTES) - 1).to_bytes(MAC_BYTES, "little"))

    def destroy(self, vcpu: VCpu, domain_number: int, _second: int) -> int:
        """Take a domain's VIF away."""
        if not self._manager.is_manager(vcpu.domain.number):
            return NOT_PERMITTED
        vcpu.meter.follow(paths.MANAGE_VIF)
        return 0 if self._manager.destroy(domain_number) else ABSENT
