"""Interrupts on their way, as the chips hold them."""

import sidecore
from emulator.vmx import fields as f
from tests.vmm.session.debugger.views.rig import check_view, stopped, subject_of, world_of
from vmm.session.debugger.views.interrupts import Interrupts, irq


def shown(image: str, paging: sidecore.Paging, cycles: int, vcpu_count: int = 1, number: int = 0) -> Interrupts:
    world = world_of(image, paging, vcpu_count=vcpu_count)
    world.run(sidecore.Limits(max_cycles=cycles))
    view = irq(subject_of(world, image, number))
    check_view(view)
    return view


def test_a_guest_has_its_controllers_and_the_host_its_own() -> None:
    view = shown("default", "ept", 1_000_000)
    assert [controllers.whose for controllers in view.controllers] == ["guest", "host"]
    assert "LINT0 ext_int" in view.controllers[0].apic.local
    assert "timer fixed 0xef" in view.controllers[1].apic.local
    assert [c.whose for c in shown("default", "native", 1_000_000).controllers] == ["guest"]


def test_vectors_that_wait_and_those_in_service_are_told_apart() -> None:
    subject = stopped("default", "ept", 1_000_000)
    apic = subject.guest.board.apics[0]
    apic.vectors.irr, apic.vectors.isr, apic.vectors.tpr = 1 << 0x31 | 1 << 0xEF, 1 << 0x50, 0x20
    view = irq(subject)
    local = view.controllers[0].apic
    assert (local.requested, local.in_service) == ((0x31, 0xEF), (0x50,))
    assert (local.task_priority, local.processor_priority) == (0x20, 0x50)
    assert "  requested: 0x31 0xef" in view.text()


def test_pins_of_the_io_apic_are_shown_when_they_matter() -> None:
    subject = stopped("ioapic", "ept", 1_000_000)
    chip = subject.guest.board.ioapic
    chip.entries[:] = [1 << 16] * 24
    chip.entries[5] = 3 << 56 | 1 << 15 | 1 << 14 | 0x41
    chip.lines = 1 << 5 | 1 << 9
    view = irq(subject)
    five, nine = view.controllers[0].pins
    assert (five.number, five.vector, five.destination, five.is_level, five.is_in_service) == (5, 0x41, 3, True, True)
    assert (nine.number, nine.is_masked, nine.is_asserted) == (9, True, True)
    assert "  I/O APIC pin 5: vector 0x41, fixed to 0x3, level, asserted, in service" in view.text()


def test_an_8259_that_was_set_up_shows_its_inputs() -> None:
    subject = stopped("interrupts", "shadow", 1_000_000)
    master = subject.guest.board.pic.master
    master.icw2, master.irr, master.isr, master.imr, master.output = 0x20, 1, 2, 0xFC, True
    assert "  8259 master, vectors from 0x20: IRR 0, ISR 1, IMR 2,3,4,5,6,7, INT" in irq(subject).text()


def test_a_vcpu_says_what_it_waits_for() -> None:
    view = shown("smp_ipi", "ept", 300_000, vcpu_count=2, number=1)
    assert view.requests == ("it waits for a SIPI",)
    subject = stopped("default", "ept", 1_000_000)
    assert subject.vcpu is not None
    subject.vcpu.interrupt_request, subject.vcpu.nmi_request = 1, True
    subject.vmcs.save(f.VM_ENTRY_INTERRUPTION_INFORMATION, 0x8000_0B0D)
    subject.vmcs.save(f.VM_ENTRY_EXCEPTION_ERROR_CODE, 0x18)
    view = irq(subject)
    assert view.requests == ("an interrupt of the virtual local APIC", "an NMI")
    assert view.injected == "exception #GP, error code 0x18"
    subject.engine.shared.interrupt_pending = 1
    assert "its core has INTR pending" in irq(subject).requests
