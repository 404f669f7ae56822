"""Claims about the clock of a core: there is one wherever it lives, and the ledger sums to it."""

from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import PCpu
from tests.emulator.pcpu_rig import make_engine


def test_charges_advance_the_clock_and_the_ledger_sums_to_it(machine: Machine, pcpu: PCpu) -> None:
    pcpu.clock.charge(Category.EXIT, 30)
    pcpu.load(make_engine(machine))
    pcpu.clock.charge(Category.VMCS, 7)
    pcpu.run(1000)
    pcpu.clock.charge(Category.ENTRY, 400)
    ledger = pcpu.clock.book()
    assert pcpu.clock.cycles == ledger.total_cycles >= 1400
    assert ledger.cycles[Category.GUEST] == pcpu.clock.cycles - 437
    assert pcpu.clock.instructions == ledger.cycles[Category.GUEST]


def test_the_clock_goes_with_the_core_from_engine_to_engine(machine: Machine, pcpu: PCpu) -> None:
    first, second = make_engine(machine), make_engine(machine)
    pcpu.load(first)
    pcpu.run(500)
    before = pcpu.clock.cycles
    pcpu.load(second)
    assert pcpu.clock.cycles == before
    pcpu.run(before + 100)
    pcpu.unload()
    assert pcpu.clock.cycles >= before + 100
    assert pcpu.clock.book().total_cycles == pcpu.clock.cycles


def test_an_engine_moves_between_cores_and_brings_no_cycles_along(machine: Machine) -> None:
    first, second = machine.pcpus
    engine = make_engine(machine)
    first.load(engine)
    first.run(5000)
    first.unload()
    second.load(engine)
    assert second.clock.cycles == 0
    second.run(200)
    assert second.clock.book().total_cycles == second.clock.cycles < 300
    assert first.clock.book().total_cycles == first.clock.cycles >= 5000
