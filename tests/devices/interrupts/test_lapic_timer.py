"""The local APIC's timer, as Linux calibrates and uses it; times in pairs, a picosecond early and on time."""

import pytest

from devices.interrupts import lapic_registers as r
from emulator import x86
from tests.devices.interrupts.apic_rig import TICK_PS, TSC_PS, ApicRig, Cpu

PERIODIC, DEADLINE = 1 << 17, 2 << 17
DIVIDE_BY_1 = 0b1011
VECTOR = 0xEC


def timer(lvt: int, count: int = 0, divide: int = DIVIDE_BY_1) -> tuple[ApicRig, Cpu]:
    rig = ApicRig()
    cpu = rig.cpus[0]
    cpu.write(r.TIMER_DIVIDE, divide)
    cpu.write(r.LVT_TIMER, lvt)
    cpu.write(r.TIMER_INITIAL, count)
    return rig, cpu


@pytest.mark.parametrize(("divide", "by"), [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)])
def test_one_shot_counts_down_at_the_divided_rate_and_fires_once(divide: int, by: int) -> None:
    rig, cpu = timer(VECTOR, 1000, divide)
    rig.events.run_until(400 * by * TICK_PS)
    assert (cpu.read(r.TIMER_CURRENT), cpu.read(r.TIMER_INITIAL)) == (600, 1000)
    rig.events.run_until(1000 * by * TICK_PS - 1)
    assert (cpu.read(r.TIMER_CURRENT), cpu.intr) == (1, False)
    rig.events.run_until(1000 * by * TICK_PS)
    assert (cpu.read(r.TIMER_CURRENT), cpu.serve()) == (0, VECTOR)
    rig.ticks(10**9)
    assert (cpu.read(r.TIMER_CURRENT), cpu.intr) == (0, False)


def test_periodic_reloads_and_does_not_drift() -> None:
    rig, cpu = timer(PERIODIC | VECTOR, 333)
    for period in range(1, 50):
        rig.events.run_until(period * 333 * TICK_PS - 1)
        assert not cpu.intr
        assert cpu.read(r.TIMER_CURRENT) == 1
        rig.events.run_until(period * 333 * TICK_PS)
        assert cpu.read(r.TIMER_CURRENT) == 333
        assert cpu.serve() == VECTOR


def test_periods_that_pass_while_the_vector_waits_are_one_interrupt() -> None:
    rig, cpu = timer(PERIODIC | VECTOR, 10)
    rig.ticks(95)
    assert cpu.take() == VECTOR
    rig.ticks(4)
    assert not cpu.apic.vectors.is_requested(VECTOR)
    rig.ticks(1)
    assert cpu.apic.vectors.is_requested(VECTOR)  # again, while the first is in service


def test_a_period_of_one_tick_makes_no_flood_of_events() -> None:
    for vector in (VECTOR, 3):  # 3: each expiry is an error
        rig, cpu = timer(PERIODIC | vector, 1)
        before = rig.events.schedule(0, lambda: None).sequence
        rig.ticks(10**12)
        assert rig.events.schedule(0, lambda: None).sequence - before < 5
        assert cpu.intr == (vector == VECTOR)


def test_masked_it_counts_and_stays_silent() -> None:
    rig, cpu = timer(r.LVT_MASKED | VECTOR, 100)
    assert rig.events.next_ps() is None
    rig.ticks(40)
    assert cpu.read(r.TIMER_CURRENT) == 60
    cpu.write(r.LVT_TIMER, VECTOR)
    rig.ticks(60)
    assert cpu.intr
    rig, cpu = timer(r.LVT_MASKED | VECTOR, 100)
    rig.ticks(100)
    cpu.write(r.LVT_TIMER, VECTOR)  # the expiry has passed
    rig.ticks(1000)
    assert not cpu.intr


def test_zero_stops_and_a_new_count_starts_over() -> None:
    rig, cpu = timer(VECTOR, 100)
    rig.ticks(50)
    cpu.write(r.TIMER_INITIAL, 100)
    rig.ticks(99)
    assert (cpu.intr, cpu.read(r.TIMER_CURRENT)) == (False, 1)
    cpu.write(r.TIMER_INITIAL, 0)
    rig.ticks(1000)
    assert (cpu.intr, cpu.read(r.TIMER_CURRENT)) == (False, 0)


def test_a_new_divisor_counts_on_from_where_it_was() -> None:
    rig, cpu = timer(VECTOR, 100)
    rig.ticks(40)
    cpu.write(r.TIMER_DIVIDE, 0)  # by 2
    assert cpu.read(r.TIMER_CURRENT) == 60
    rig.ticks(119)
    assert not cpu.intr
    rig.ticks(1)
    assert cpu.intr


def test_periodic_to_one_shot_ends_with_the_period_under_way() -> None:
    rig, cpu = timer(PERIODIC | VECTOR, 100)
    rig.ticks(150)
    cpu.serve()
    cpu.write(r.LVT_TIMER, VECTOR)
    rig.ticks(1000)
    assert (cpu.intr, cpu.read(r.TIMER_CURRENT)) == (False, 0)


def test_a_tsc_deadline_fires_when_the_counter_reaches_it_and_clears() -> None:
    rig, cpu = timer(DEADLINE | VECTOR)
    cpu.write(r.TIMER_INITIAL, 5)  # ignored
    assert cpu.apic.write_msr(x86.IA32_TSC_DEADLINE, 1000)
    assert (cpu.apic.read_msr(x86.IA32_TSC_DEADLINE), cpu.read(r.TIMER_CURRENT)) == (1000, 0)
    rig.events.run_until(1000 * TSC_PS - 1)
    assert not cpu.intr
    rig.events.run_until(1000 * TSC_PS)
    assert (cpu.serve(), cpu.apic.read_msr(x86.IA32_TSC_DEADLINE)) == (VECTOR, 0)
    rig.ticks(10**6)
    assert not cpu.intr


def test_a_deadline_that_has_passed_fires_at_once_and_zero_disarms() -> None:
    rig, cpu = timer(DEADLINE | VECTOR)
    rig.ticks(1000)
    cpu.apic.write_msr(x86.IA32_TSC_DEADLINE, 1)
    assert (cpu.serve(), cpu.apic.read_msr(x86.IA32_TSC_DEADLINE)) == (VECTOR, 0)
    cpu.apic.write_msr(x86.IA32_TSC_DEADLINE, 10**6)
    cpu.apic.write_msr(x86.IA32_TSC_DEADLINE, 0)
    rig.ticks(10**6)
    assert not cpu.intr


def test_a_deadline_is_ignored_in_other_modes_and_forgotten_with_its_own() -> None:
    rig, cpu = timer(VECTOR)
    cpu.apic.write_msr(x86.IA32_TSC_DEADLINE, 1000)
    assert cpu.apic.read_msr(x86.IA32_TSC_DEADLINE) == 0
    cpu.write(r.LVT_TIMER, DEADLINE | VECTOR)
    cpu.apic.write_msr(x86.IA32_TSC_DEADLINE, 1000)
    cpu.write(r.LVT_TIMER, VECTOR)
    cpu.write(r.LVT_TIMER, DEADLINE | VECTOR)
    assert cpu.apic.read_msr(x86.IA32_TSC_DEADLINE) == 0
    rig.ticks(10**6)
    assert not cpu.intr


def test_the_farthest_deadline_is_only_far() -> None:
    rig, cpu = timer(DEADLINE | VECTOR)
    cpu.apic.write_msr(x86.IA32_TSC_DEADLINE, (1 << 64) - 1)
    rig.ticks(10**12)
    assert not cpu.intr
