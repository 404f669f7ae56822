"""A debugger stops a world anywhere, and the run is the one that nobody watched."""

import random
from collections.abc import Callable

import pytest

import sidecore
from emulator.errors import ConfigError
from emulator.vmx.exit_reasons import ExitReason
from emulator.x86 import RSP
from tests.vmm.session.debugger.worlds import outcome, undebugged, world_of
from vmm.session.debugger.debugger import Debugger
from vmm.session.debugger.happening import Kind
from vmm.session.debugger.views.subject import Space, Subject

SOONER = 2_000_000  # cycles: own kernels have ended by 20 to 50 million


def commands(debugger: Debugger, dice: random.Random) -> list[Callable[[], object]]:
    """Something of everything, forwards and backwards."""
    stack = f"{debugger.subject.gpr(RSP) + dice.randrange(-64, 64):#x}"
    words = dice.choice(
        [
            "exit CPUID", "exit * after if cost > 6000", "entry if n > 3", "port 0x3f8", "vmwrite GUEST_RIP",
            "event", "event if n > 5", "sidecall after",
            f"write {stack}", f"read {stack} 1", f"access {stack} if n > 10", "write gpa 0x1000 4096",
        ]
    )  # fmt: skip
    return [
        lambda: debugger.stepi(dice.randrange(1, 50)),
        lambda: debugger.step(dice.randrange(1, 4)),
        lambda: debugger.next_exit(dice.randrange(1, 30)),
        debugger.finish,
        lambda: debugger.step_vmm(dice.randrange(1, 10)),
        lambda: debugger.goto_cycle(debugger.world.cycles + dice.randrange(1, 300_000)),
        lambda: debugger.wait_for(words.split()),
        lambda: debugger.breaks.add(words.split(), debugger) and debugger.cont(),
        debugger.breaks.by_number.clear,
        debugger.reverse_stepi,
        debugger.reverse_next_exit,
        debugger.reverse_finish,
        debugger.reverse_cont,
        lambda: debugger.timeline(dice.randrange(1, 100)),
        lambda: debugger.goto_exit(dice.randrange(1, debugger.stop.happening.exits + 20)),
    ]


def run_to_end(debugger: Debugger) -> sidecore.World:
    debugger.breaks.by_number.clear()
    if not debugger.world.has_ended:
        assert debugger.cont().happening.kind is Kind.END
    return debugger.world


@pytest.mark.parametrize(
    ("image", "paging", "values"),
    [
        ("default", "ept", {}), ("default", "shadow", {}), ("default", "native", {}),
        ("exceptions", "shadow", {"timing": "detailed"}), ("sidecalls", "ept", {"sidecore_count": 1}),
        ("smp_ipi", "shadow", {"vcpu_count": 2, "pcpu_count": 2}), ("mode32", "ept", {}),
    ],
)  # fmt: skip
def test_debugging_changes_nothing(image: str, paging: sidecore.Paging, values: dict[str, object]) -> None:
    dice = random.Random(f"{image} {paging}")
    debugger = Debugger(world_of(image, paging, **values))
    done = 0
    for _ in range(25):
        if debugger.world.has_ended:
            debugger.goto_cycle(dice.randrange(SOONER))
        try:
            dice.choice(commands(debugger, dice))()
            done += 1
        except ConfigError:
            pass
    assert done > 5
    assert outcome(run_to_end(debugger)) == undebugged(image, paging, **values)
    debugger.close()


@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_back_and_forth_is_the_identity(paging: sidecore.Paging) -> None:
    debugger = Debugger(world_of("default", paging))
    debugger.goto_cycle(20_000_000)
    debugger.stepi(3)
    there, registers = debugger.stop.happening.key, debugger.subject.words()
    for count in (1, 4):
        debugger.stepi(count)
        debugger.reverse_stepi(count)
        assert (debugger.stop.happening.key, debugger.subject.words()) == (there, registers)
    assert outcome(run_to_end(debugger)) == undebugged("default", paging)
    debugger.close()


def test_a_way_back_over_exits_leads_to_the_same_exit() -> None:
    debugger = Debugger(world_of())
    there = debugger.next_exit(200).happening
    assert debugger.next_exit(3).happening.exits == 203
    for _ in range(3):
        debugger.reverse_next_exit()
    assert debugger.stop.happening == there
    debugger.step_vmm(4)
    assert debugger.reverse_finish().happening == there
    assert debugger.finish().happening.kind is Kind.ENTRY
    debugger.close()


def test_lines_of_the_vmm_have_all_that_the_exit_costs() -> None:
    debugger = Debugger(world_of())
    number = debugger.wait_for(["exit", "CPUID"]).happening.exits
    lines = []
    while debugger.step_vmm().happening.exits == number:
        line = debugger.stop.happening.line
        assert line is not None
        lines.append(line)
        charges = debugger.charges
    assert any("handle_cpuid" in line.function for line in lines)
    assert tuple(charge for line in lines for charge in line.charges) == charges
    debugger.goto_exit(number)
    assert sum(charge.cycles for charge in charges) == debugger.finish().happening.exit_cycles
    debugger.close()


def test_charges_of_an_exit_are_its_cycles() -> None:
    debugger = Debugger(world_of())
    entry = debugger.wait_for(["entry", "CPUID"]).happening
    assert sum(charge.cycles for charge in debugger.charges) == entry.exit_cycles
    assert list(debugger.costs_of(ExitReason.CPUID)) == [entry.exit_cycles]
    debugger.close()


def test_instructions_of_all_processors_are_their_own() -> None:
    debugger = Debugger(world_of("smp_ipi", "ept", vcpu_count=2, pcpu_count=2))
    debugger.goto_cycle(SOONER)
    for name in ("d0v1", "d0v0"):
        debugger.choose(name)
        assert debugger.stepi(5).happening.who == int(name[-1])
        assert debugger.subject.name == name
    debugger.close()


def test_a_guest_that_has_ended_has_only_a_past() -> None:
    debugger = Debugger(world_of("exceptions"))
    assert debugger.cont().happening.kind is Kind.END
    with pytest.raises(ConfigError, match="only the way back"):
        debugger.stepi()
    exits = debugger.world.exit_count
    assert debugger.reverse_next_exit().happening.exits == exits
    assert outcome(run_to_end(debugger)) == undebugged("exceptions", "ept")
    debugger.close()


def test_there_is_nothing_before_the_begin() -> None:
    debugger = Debugger(world_of())
    with pytest.raises(ConfigError, match="nothing like that before"):
        debugger.reverse_next_exit()
    debugger.close()


@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_the_last_write_is_the_instruction_that_gave_the_value(paging: sidecore.Paging) -> None:
    debugger = Debugger(world_of("default", paging))
    debugger.goto_cycle(8_000_000)
    debugger.stepi()
    rsp = debugger.subject.gpr(RSP)
    hpa = debugger.subject.place(Space.GVA, rsp)
    assert hpa is not None

    def word(subject: Subject) -> object:
        return subject.read_hpa(hpa, 8)

    now, there = word(debugger.subject), debugger.stop.happening
    before = debugger.last_change(word).happening
    assert before.cycles <= there.cycles
    assert word(debugger.subject) != now
    debugger.stepi()
    assert word(debugger.subject) == now
    debugger.close()


def test_a_value_that_was_always_the_same_has_no_last_write() -> None:
    debugger = Debugger(world_of())
    debugger.goto_cycle(3_000_000)
    with pytest.raises(ConfigError, match="as far back as snapshots go"):
        debugger.last_change(lambda subject: 0)
    debugger.close()


def test_steps_back_are_those_of_the_processor_that_is_looked_at() -> None:
    debugger = Debugger(world_of("smp_lock", "ept", vcpu_count=2, pcpu_count=2))
    debugger.goto_cycle(SOONER)
    for name in ("d0v1", "d0v0"):
        debugger.choose(name)
        debugger.stepi(3)
        there = debugger.stop.happening.key
        debugger.stepi(2)
        debugger.reverse_stepi(2)
        assert (debugger.stop.happening.key, debugger.subject.name) == (there, name)
    debugger.close()
