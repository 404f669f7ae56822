"""Claims about the interrupt pins of a core: wires, the local timer, and engines that come and go."""

from emulator.interrupts import LOCAL_TIMER_VECTOR
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.platform import SPURIOUS_VECTOR
from tests.emulator.pcpu_rig import make_engine


def test_the_timer_interrupts_when_it_is_due_and_once(machine: Machine, pcpu: PCpu) -> None:
    engine = make_engine(machine)
    pcpu.load(engine)
    pcpu.interrupts.arm_timer(5000)
    machine.events.run_until(4999)
    assert not engine.shared.interrupt_pending
    machine.events.run_until(5000)
    assert engine.shared.interrupt_pending
    assert pcpu.platform.interrupt_vector() == LOCAL_TIMER_VECTOR
    assert not engine.shared.interrupt_pending
    assert pcpu.platform.interrupt_vector() == SPURIOUS_VECTOR
    assert not pcpu.interrupts.acknowledge_timer()


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


def test_the_timer_and_the_wire_share_the_pin(machine: Machine, pcpu: PCpu) -> None:
    engine = make_engine(machine)
    pcpu.load(engine)
    pcpu.interrupts.arm_timer(10)
    machine.events.run_until(10)
    pcpu.interrupts.set_interrupt(True)
    assert pcpu.interrupts.acknowledge_timer()
    assert engine.shared.interrupt_pending
    pcpu.interrupts.set_interrupt(False)
    assert not engine.shared.interrupt_pending


def test_a_timer_that_fires_while_no_engine_is_loaded_is_seen_later(machine: Machine, pcpu: PCpu) -> None:
    pcpu.interrupts.arm_timer(10)
    machine.events.run_until(10)
    engine = make_engine(machine)
    pcpu.load(engine)
    assert engine.shared.interrupt_pending


def test_arming_the_timer_again_forgets_the_earlier_setting(machine: Machine, pcpu: PCpu) -> None:
    pcpu.load(make_engine(machine))
    pcpu.interrupts.arm_timer(5000)
    pcpu.interrupts.arm_timer(9000)
    machine.events.run_until(8999)
    assert not pcpu.interrupts.acknowledge_timer()
    pcpu.interrupts.arm_timer(None)
    machine.events.run_until(20_000)
    assert not pcpu.interrupts.acknowledge_timer()


def test_arming_the_timer_brings_a_running_engines_deadline_nearer(machine: Machine, pcpu: PCpu) -> None:
    engine = make_engine(machine)
    pcpu.load(engine)
    engine.shared.deadline_cycles = 1_000_000
    pcpu.interrupts.arm_timer(machine.timeline.cycles_to_ps(300))
    assert engine.shared.deadline_cycles == 300
