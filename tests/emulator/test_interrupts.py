"""Claims about the pins of a core: wires, and engines that come and go. What drives them: tests/devices/test_pc.py."""

from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.platform import SPURIOUS_VECTOR
from tests.emulator.pcpu_rig import make_engine


def test_a_wire_asserted_while_no_engine_is_loaded_waits_for_the_next(machine: Machine, pcpu: PCpu) -> None:
    first, second = make_engine(machine), make_engine(machine)
    pcpu.interrupts.set_interrupt(True)
    pcpu.load(first)
    assert first.shared.interrupt_pending
    pcpu.load(second)
    assert second.shared.interrupt_pending
    assert not first.shared.interrupt_pending
    pcpu.interrupts.set_interrupt(False)
    assert not second.shared.interrupt_pending


def test_an_nmi_that_comes_while_no_engine_is_loaded_waits_for_the_next(machine: Machine, pcpu: PCpu) -> None:
    first, second = make_engine(machine), make_engine(machine)
    pcpu.interrupts.raise_nmi()
    pcpu.load(first)
    assert first.shared.nmi_pending
    pcpu.load(second)
    assert second.shared.nmi_pending
    assert not first.shared.nmi_pending


def test_nobody_answers_the_acknowledge_of_a_core_without_a_local_apic(pcpu: PCpu) -> None:
    assert pcpu.platform.interrupt_vector() == SPURIOUS_VECTOR
