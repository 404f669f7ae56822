"""Claims about a core that waits (more of them in test_interleave.py)."""

from emulator.ledger import Category
from emulator.pcpu import PCpu


def test_idle_time_never_runs_back(pcpu: PCpu) -> None:
    pcpu.waiting.wait(Category.IDLE)
    pcpu.waiting.pass_time(700)
    pcpu.waiting.pass_time(300)
    assert pcpu.clock.cycles == 700
    assert pcpu.clock.ledger.cycles[Category.IDLE] == 700


def test_an_interrupt_that_is_pending_when_a_core_goes_idle_ends_the_wait(pcpu: PCpu) -> None:
    pcpu.clock.charge(Category.EXIT, 70)
    pcpu.interrupts.set_interrupt(True)
    pcpu.waiting.wait(Category.IDLE)
    assert pcpu.waiting.ready_cycles == 70
    pcpu.waiting.end_wait()
    pcpu.interrupts.set_interrupt(False)
    pcpu.waiting.wait(Category.IDLE)
    assert pcpu.waiting.ready_cycles is None
