"""Who works for a vCPU on another core: the vCPU's domain and paging, the sidecore's meter.

The VMCS stays out of reach: it is loaded on the vCPU's own core.
"""

from dataclasses import dataclass

from vmm.cost.meter import Meter
from vmm.domain import Domain
from vmm.vcpu import VCpu


@dataclass
class Worker:
    """A sidecore, at work for `vcpu`; `meter` pays for everything."""

    vcpu: VCpu
    meter: Meter
    needs_flush: bool = False  # an entry changed that TLBs may have: no answer before they are flushed

    @property
    def domain(self) -> Domain:
        """Whose memory it is."""
        return self.vcpu.domain
