"""Claims about the fidelities: the same instructions, time by different models, and one may change to another."""

import pytest

from emulator.engine import Engine
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.profiles.profile import load_profile
from emulator.timing.fidelity import FIDELITIES, Fidelity
from emulator.vmx import fields as f
from tests.emulator.pcpu_rig import make_engine

L1, L2, DRAM, DIRTY = 5, 23, 211, 331
PROFILE = load_profile(
    "core2-2006",
    (
        f"caches.l1d_latency_cycles={L1}", f"caches.l2_latency_cycles={L2}", f"memory.dram_latency_cycles={DRAM}",
        f"core.dirty_line_cycles={DIRTY}", "caches.is_l2_shared=false",
    ),
)  # fmt: skip
SUM = """
    mov ecx, 4096
    mov esi, 0x20000
1:  add eax, [esi]
    mov [esi + 0x80000], eax
    add esi, 64
    dec ecx
    jnz 1b
    cli
    hlt
"""


HALTED = 1


def start(fidelity: Fidelity) -> tuple[Machine, PCpu, Engine]:
    machine = Machine(PROFILE, memory_bytes=4 << 20, pcpu_count=2, timing=fidelity)
    pcpu = machine.pcpus[0]
    engine = make_engine(machine, SUM)
    machine.memory.write(0x20000, bytes(range(256)) * 1024)
    pcpu.load(engine)
    return machine, pcpu, engine


def finish(pcpu: PCpu, engine: Engine, slice_cycles: int = 1 << 40) -> PCpu:
    while engine.vmcs[f.SLOT[f.GUEST_ACTIVITY_STATE]] != HALTED:
        pcpu.run(pcpu.clock.cycles + slice_cycles)
    pcpu.clock.book()
    pcpu.clock.check_ledger()
    return pcpu


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_slices_change_no_cycle(fidelity: Fidelity) -> None:
    _, whole, engine = start(fidelity)
    finish(whole, engine)
    for slice_cycles in (1, 100, 7777):
        _, sliced, engine = start(fidelity)
        finish(sliced, engine, slice_cycles)
        assert (sliced.clock.cycles, sliced.clock.ledger.cycles) == (whole.clock.cycles, whole.clock.ledger.cycles)


def test_every_fidelity_executes_the_same() -> None:
    results = set()
    for fidelity in FIDELITIES:
        machine, pcpu, engine = start(fidelity)
        finish(pcpu, engine)
        results.add((pcpu.clock.instructions, bytes(engine.gpr), machine.memory.read(0x20000, 0x100000)))
    assert len(results) == 1


def test_only_detailed_knows_that_memory_is_far() -> None:
    stalls = {}
    for fidelity in FIDELITIES:
        _, pcpu, engine = start(fidelity)
        stalls[fidelity] = finish(pcpu, engine).clock.ledger.cycles[Category.MEMORY]
    assert stalls["flat"] == stalls["fast"] == 0
    assert stalls["detailed"] >= 4096 * (DRAM - L1)


def test_the_fidelity_may_change_while_a_guest_runs() -> None:
    machine, pcpu, engine = start("fast")
    pcpu.run(2000)
    half = pcpu.clock.instructions
    machine.set_timing("detailed")
    pcpu.run(pcpu.clock.cycles + 20_000)
    book = pcpu.clock.book().cycles
    assert book[Category.MEMORY] > 10_000
    machine.set_timing("fast")
    finish(pcpu, engine)
    assert 0 < half < pcpu.clock.instructions
    _, other, reference = start("flat")
    finish(other, reference)
    assert (pcpu.clock.instructions, bytes(engine.gpr)) == (other.clock.instructions, bytes(reference.gpr))
    assert pcpu.clock.book().cycles[Category.MEMORY] < 2 * book[Category.MEMORY]


def test_a_callback_may_change_the_fidelity() -> None:
    machine, pcpu, engine = start("fast")
    machine.events.schedule(machine.timeline.cycles_to_ps(1000), lambda: machine.set_timing("detailed"))
    pcpu.run(1001)
    machine.events.run_until(pcpu.clock.now_ps)
    finish(pcpu, engine)
    assert pcpu.clock.ledger.cycles[Category.MEMORY] > 3000 * (DRAM - L1)


# --- the VMM's own accesses -------------------------------------------------------------------------------------------


def test_in_fast_a_touch_is_a_hit_for_every_word() -> None:
    pcpu = Machine(PROFILE, memory_bytes=1 << 20, timing="fast").pcpus[0]
    assert [pcpu.clock.touch(0x1000, size, False) for size in (1, 8, 9, 64)] == [L1, L1, 2 * L1, 8 * L1]


def test_in_detailed_a_touch_goes_through_the_caches_of_its_core() -> None:
    machine = Machine(PROFILE, memory_bytes=1 << 20, pcpu_count=2, timing="detailed")
    first, second = machine.pcpus
    first.clock.retime("detailed")
    second.clock.retime("detailed")
    assert first.clock.touch(0x1000, 8, False) == DRAM
    assert first.clock.touch(0x1000, 8, False) == L1
    first.clock.touch(0x1000, 8, True)
    assert second.clock.touch(0x1000, 8, False) == DIRTY
    assert second.clock.ledger.cycles[Category.COHERENCE] == DIRTY - L1
    assert second.clock.ledger.cycles[Category.VMM_MEMORY] == L1
    second.clock.check_ledger()
