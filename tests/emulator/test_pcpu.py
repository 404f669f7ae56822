"""Claims about a core: one clock wherever it lives, a ledger that sums to it, and its interrupt sources."""

import pytest

from emulator.engine import Engine
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import (
    LOCAL_TIMER_VECTOR,
    SPURIOUS_VECTOR,
    PCpu,
)
from emulator.profiles.profile import load_profile
from emulator.vmx import fields as f
from emulator.x86 import IA32_BIOS_SIGN_ID, IA32_MISC_ENABLE, MISC_ENABLE_MONITOR
from tests.emulator.engine.rig import assemble

MEMORY_BYTES = 1 << 20
PROFILE = load_profile("netburst-2006")


@pytest.fixture
def machine() -> Machine:
    return Machine(PROFILE, memory_bytes=MEMORY_BYTES, pcpu_count=2, timing="flat")


@pytest.fixture
def pcpu(machine: Machine) -> PCpu:
    return machine.pcpus[0]


def make_engine(pcpu: PCpu, code: str = "1: jmp 1b") -> Engine:
    """An engine that runs flat 32-bit code at 0x1000."""
    engine = Engine(pcpu.machine.memory, pcpu)
    pcpu.machine.memory.write(0x1000, assemble(code, 32, 0x1000))
    for field, value in {
        f.GUEST_CR0: 0x31, f.GUEST_CS_SELECTOR: 8, f.GUEST_CS_LIMIT: 0xFFFFFFFF, f.GUEST_CS_ACCESS_RIGHTS: 0xC09B,
        f.GUEST_SS_SELECTOR: 16, f.GUEST_SS_LIMIT: 0xFFFFFFFF, f.GUEST_SS_ACCESS_RIGHTS: 0xC093, f.GUEST_RIP: 0x1000,
        f.GUEST_DS_LIMIT: 0xFFFFFFFF, f.GUEST_DS_ACCESS_RIGHTS: 0xC093, f.GUEST_RSP: 0x8000,
    }.items():  # fmt: skip
        engine.vmcs[f.SLOT[field]] = value
    return engine


def test_charges_advance_the_clock_and_the_ledger_sums_to_it(pcpu: PCpu) -> None:
    pcpu.charge(Category.EXIT, 30)
    pcpu.load(make_engine(pcpu))
    pcpu.charge(Category.VMCS, 7)
    pcpu.run(1000)
    pcpu.charge(Category.ENTRY, 400)
    ledger = pcpu.book()
    assert pcpu.clock_cycles == ledger.total_cycles >= 1400
    assert ledger.cycles[Category.GUEST] == pcpu.clock_cycles - 437
    assert pcpu.instructions == ledger.cycles[Category.GUEST]


def test_the_clock_goes_with_the_core_from_engine_to_engine(pcpu: PCpu) -> None:
    first, second = make_engine(pcpu), make_engine(pcpu)
    pcpu.load(first)
    pcpu.run(500)
    before = pcpu.clock_cycles
    pcpu.load(second)
    assert pcpu.clock_cycles == before
    pcpu.run(before + 100)
    pcpu.unload()
    assert pcpu.clock_cycles >= before + 100
    assert pcpu.book().total_cycles == pcpu.clock_cycles


def test_an_engine_moves_between_cores_and_brings_no_cycles_along(machine: Machine) -> None:
    first, second = machine.pcpus
    engine = make_engine(first)
    first.load(engine)
    first.run(5000)
    first.unload()
    second.load(engine)
    assert second.clock_cycles == 0
    second.run(200)
    assert second.book().total_cycles == second.clock_cycles < 300
    assert first.book().total_cycles == first.clock_cycles >= 5000


def test_idle_time_never_runs_back(pcpu: PCpu) -> None:
    pcpu.wait(Category.IDLE)
    pcpu.pass_time(700)
    pcpu.pass_time(300)
    assert pcpu.clock_cycles == 700
    assert pcpu.ledger.cycles[Category.IDLE] == 700


class Register:
    """A device of one register that answers 7."""

    widths_bytes: tuple[int, ...] = (4,)

    def read(self, offset: int, size_bytes: int) -> int:
        return 7

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        pass


def test_the_core_reaches_its_own_devices_sooner_than_those_on_the_bus(machine: Machine, pcpu: PCpu) -> None:
    own, shared, nothing = 0xFEE0_0000, 0xFEC0_0000, 0xFED0_0000
    pcpu.mmio.attach(own, 0x1000, Register())
    machine.mmio.attach(shared, 0x1000, Register())
    apic_cycles, bus_cycles = PROFILE.events.apic_access_cycles, PROFILE.core.mmio_access_cycles
    assert apic_cycles < bus_cycles
    for hpa, value, cycles in ((own, 7, apic_cycles), (shared, 7, bus_cycles), (nothing, 0xFFFF_FFFF, bus_cycles)):
        before = pcpu.clock_cycles
        assert pcpu.mmio_read(hpa, 4) == value
        pcpu.mmio_write(hpa, 4, 0)
        assert pcpu.clock_cycles - before == 2 * cycles


def test_a_port_access_costs_its_cycles_and_happens_at_the_time_it_takes_place(machine: Machine, pcpu: PCpu) -> None:
    seen: list[int] = []

    class Clock:
        widths_bytes: tuple[int, ...] = (1,)

        def read(self, offset: int, size_bytes: int) -> int:
            seen.append(machine.events.now_ps)
            return 0x5A

        def write(self, offset: int, size_bytes: int, value: int) -> None:
            seen.append(value)

    machine.ports.attach(0x40, 1, Clock())
    due = machine.cycles_to_ps(PROFILE.port_access_cycles) // 2
    machine.events.schedule(due, lambda: seen.append(-1))
    engine = make_engine(pcpu, "in al, 0x40\n out 0x40, al\n hlt")
    pcpu.load(engine)
    for _ in range(2):  # the event ends the first
        pcpu.run(100_000)
    assert seen == [-1, machine.cycles_to_ps(PROFILE.port_access_cycles), 0x5A]
    assert pcpu.book().cycles[Category.PORT] == 2 * PROFILE.port_access_cycles


def test_an_access_to_a_device_in_memory_is_on_the_clock_that_the_engine_goes_on_with(pcpu: PCpu) -> None:
    engine, access_cycles = make_engine(pcpu), PROFILE.core.mmio_access_cycles
    pcpu.load(engine)
    pcpu.mmio_read(0xFEC0_0000, 4)
    assert engine.shared.clock_cycles == access_cycles
    pcpu.mmio_write(0xFEC0_0000, 4, 0)
    assert engine.shared.clock_cycles == pcpu.book().cycles[Category.PORT] == 2 * access_cycles


def test_an_event_that_a_port_write_schedules_bounds_the_run(machine: Machine, pcpu: PCpu) -> None:
    class Timer:
        widths_bytes: tuple[int, ...] = (1,)

        def read(self, offset: int, size_bytes: int) -> int:
            return 0

        def write(self, offset: int, size_bytes: int, value: int) -> None:
            machine.events.schedule(machine.events.now_ps + machine.cycles_to_ps(90), lambda: None)

    machine.ports.attach(0x40, 1, Timer())
    pcpu.load(make_engine(pcpu, "out 0x40, al\n 1: nop\n jmp 1b"))
    pcpu.run(1_000_000)
    assert PROFILE.port_access_cycles + 90 <= pcpu.clock_cycles < PROFILE.port_access_cycles + 110


def test_the_timer_interrupts_when_it_is_due_and_once(machine: Machine, pcpu: PCpu) -> None:
    engine = make_engine(pcpu)
    pcpu.load(engine)
    pcpu.arm_timer(5000)
    machine.events.run_until(4999)
    assert not engine.shared.interrupt_pending
    machine.events.run_until(5000)
    assert engine.shared.interrupt_pending
    assert pcpu.interrupt_vector() == LOCAL_TIMER_VECTOR
    assert not engine.shared.interrupt_pending
    assert pcpu.interrupt_vector() == SPURIOUS_VECTOR
    assert not pcpu.acknowledge_timer()


def test_a_wire_asserted_while_no_engine_is_loaded_waits_for_the_next(pcpu: PCpu) -> None:
    first, second = make_engine(pcpu), make_engine(pcpu)
    pcpu.set_interrupt(True)
    pcpu.load(first)
    assert first.shared.interrupt_pending
    pcpu.load(second)
    assert second.shared.interrupt_pending
    assert not first.shared.interrupt_pending
    pcpu.set_interrupt(False)
    assert not second.shared.interrupt_pending


def test_the_timer_and_the_wire_share_the_pin(machine: Machine, pcpu: PCpu) -> None:
    engine = make_engine(pcpu)
    pcpu.load(engine)
    pcpu.arm_timer(10)
    machine.events.run_until(10)
    pcpu.set_interrupt(True)
    assert pcpu.acknowledge_timer()
    assert engine.shared.interrupt_pending
    pcpu.set_interrupt(False)
    assert not engine.shared.interrupt_pending


def test_a_timer_that_fires_while_no_engine_is_loaded_is_seen_later(machine: Machine, pcpu: PCpu) -> None:
    pcpu.arm_timer(10)
    machine.events.run_until(10)
    engine = make_engine(pcpu)
    pcpu.load(engine)
    assert engine.shared.interrupt_pending


def test_arming_the_timer_again_forgets_the_earlier_setting(machine: Machine, pcpu: PCpu) -> None:
    pcpu.load(make_engine(pcpu))
    pcpu.arm_timer(5000)
    pcpu.arm_timer(9000)
    machine.events.run_until(8999)
    assert not pcpu.acknowledge_timer()
    pcpu.arm_timer(None)
    machine.events.run_until(20_000)
    assert not pcpu.acknowledge_timer()


def test_arming_the_timer_brings_a_running_engines_deadline_nearer(machine: Machine, pcpu: PCpu) -> None:
    engine = make_engine(pcpu)
    pcpu.load(engine)
    engine.shared.deadline_cycles = 1_000_000
    pcpu.arm_timer(machine.cycles_to_ps(300))
    assert engine.shared.deadline_cycles == 300


def test_msrs_of_the_host_exist_or_fault(pcpu: PCpu) -> None:
    assert pcpu.msr_read(IA32_MISC_ENABLE) == 1 | MISC_ENABLE_MONITOR
    assert pcpu.msr_write(IA32_MISC_ENABLE, 0)
    assert pcpu.msr_read(IA32_MISC_ENABLE) == 0
    assert pcpu.msr_write(IA32_BIOS_SIGN_ID, 5)
    assert pcpu.msr_read(IA32_BIOS_SIGN_ID) == 0
    assert pcpu.msr_read(0xDEAD) is None
    assert not pcpu.msr_write(0xDEAD, 1)


def test_msrs_belong_to_one_core(machine: Machine) -> None:
    first, second = machine.pcpus
    first.msr_write(IA32_MISC_ENABLE, 0x55)
    assert second.msr_read(IA32_MISC_ENABLE) == 1 | MISC_ENABLE_MONITOR


def test_cpuid_names_the_profile_and_is_zero_where_nothing_is(pcpu: PCpu) -> None:
    words = [word for leaf in range(0x80000002, 0x80000005) for word in pcpu.cpuid(leaf, 0)]
    brand = b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0").decode()
    assert PROFILE.name in brand
    assert pcpu.cpuid(0x40000000, 0) == pcpu.cpuid(7, 1) == (0, 0, 0, 0)
    assert pcpu.cpuid(1, 5) == pcpu.cpuid(1, 0)


def test_an_interrupt_that_is_pending_when_a_core_goes_idle_ends_the_wait(machine: Machine, pcpu: PCpu) -> None:
    pcpu.charge(Category.EXIT, 70)
    pcpu.arm_timer(10)
    machine.events.run_until(10)
    pcpu.wait(Category.IDLE)
    assert pcpu.ready_cycles == 70
    pcpu.end_wait()
    assert pcpu.acknowledge_timer()
    pcpu.wait(Category.IDLE)
    assert pcpu.ready_cycles is None
