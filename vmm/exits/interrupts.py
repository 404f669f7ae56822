"""Exits for interrupts: the host's own, and the windows in which the guest can take its."""

from vmm.outcome import AGAIN, Outcome
from vmm.vcpu import VCpu


def handle_external_interrupt(vcpu: VCpu) -> Outcome:
    """The host's local timer or another core: the VMM looks what there is to do, the guest has no part in it."""
    vcpu.core.take_interrupts()
    return AGAIN


def handle_interrupt_window(_vcpu: VCpu) -> Outcome:
    """The guest can take an interrupt now: the loop injects it on the way back."""
    return AGAIN


def handle_nmi_window(_vcpu: VCpu) -> Outcome:
    """The guest can take an NMI now: the loop injects it on the way back."""
    return AGAIN
