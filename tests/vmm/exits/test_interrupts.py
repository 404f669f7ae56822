"""Exits for interrupts: the host's are the core's matter, windows need nothing but the way back."""

import pytest

from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from tests.vmm.fakes import Bench
from vmm.exits.interrupts import handle_external_interrupt, handle_interrupt_window, handle_nmi_window
from vmm.exits.table import Handler
from vmm.outcome import AGAIN


def test_the_hosts_interrupt_is_taken_by_the_core_and_the_guest_gets_none() -> None:
    bench = Bench()
    bench.set({f.VM_EXIT_INTERRUPTION_INFORMATION: i.VALID | 0xEF})
    assert handle_external_interrupt(bench.vcpu) is AGAIN
    assert bench.core.asked == ["take_interrupt 0xef", "take_interrupts"]
    assert bench.injected is None


@pytest.mark.parametrize("handler", [handle_interrupt_window, handle_nmi_window])
def test_a_window_changes_nothing_itself(handler: Handler) -> None:
    bench = Bench()
    assert handler(bench.vcpu) is AGAIN
    assert bench.injected is None
    assert bench.core.asked == []
    assert bench.meter.followed == []
