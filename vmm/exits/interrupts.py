"""Exits for interrupts: the host's own, and the windows in which the guest can take its."""

from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from vmm.outcome import AGAIN, Outcome
from vmm.vcpu import VCpu


def handle_external_interrupt(vcpu: VCpu) -> Outcome:
    """An interrupt of the host, which the exit has acknowledged: the guest has no part in it. Others may wait."""
    vcpu.core.take_interrupt(vcpu.read(f.VM_EXIT_INTERRUPTION_INFORMATION) & i.VECTOR_MASK)
    vcpu.core.take_interrupts()
    return AGAIN


def handle_interrupt_window(_vcpu: VCpu) -> Outcome:
    """The guest can take an interrupt now: the loop injects it on the way back."""
    return AGAIN


def handle_nmi_window(_vcpu: VCpu) -> Outcome:
    """The guest can take an NMI now: the loop injects it on the way back."""
    return AGAIN
