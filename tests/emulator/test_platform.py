"""Claims about the host as an engine sees it: what a device costs to reach, and when it is reached."""

from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.platform import SPURIOUS_VECTOR
from emulator.x86 import IA32_BIOS_SIGN_ID, IA32_MISC_ENABLE, MISC_ENABLE_MONITOR
from tests.emulator.pcpu_rig import PROFILE, make_engine


class Register:
    """A device of one register that answers 7."""

    widths_bytes: tuple[int, ...] = (4,)

    def read(self, offset: int, size_bytes: int) -> int:
        return 7

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        pass


def test_the_core_reaches_its_own_devices_sooner_than_those_on_the_bus(machine: Machine, pcpu: PCpu) -> None:
    own, shared, nothing = 0xFEE0_0000, 0xFEC0_0000, 0xFED0_0000
    pcpu.platform.mmio.attach(own, 0x1000, Register())
    machine.mmio.attach(shared, 0x1000, Register())
    apic_cycles, bus_cycles = PROFILE.events.apic_access_cycles, PROFILE.core.mmio_access_cycles
    assert apic_cycles < bus_cycles
    for hpa, value, cycles in ((own, 7, apic_cycles), (shared, 7, bus_cycles), (nothing, 0xFFFF_FFFF, bus_cycles)):
        before = pcpu.clock.cycles
        assert pcpu.platform.mmio_read(hpa, 4) == value
        pcpu.platform.mmio_write(hpa, 4, 0)
        assert pcpu.clock.cycles - before == 2 * cycles


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
    due = machine.timeline.cycles_to_ps(PROFILE.port_access_cycles) // 2
    machine.events.schedule(due, lambda: seen.append(-1))
    engine = make_engine(machine, "in al, 0x40\n out 0x40, al\n hlt")
    pcpu.load(engine)
    for _ in range(2):  # the event ends the first
        pcpu.run(100_000)
    assert seen == [-1, machine.timeline.cycles_to_ps(PROFILE.port_access_cycles), 0x5A]
    assert pcpu.clock.book().cycles[Category.PORT] == 2 * PROFILE.port_access_cycles


def test_an_access_to_a_device_in_memory_is_on_the_clock_that_the_engine_goes_on_with(
    machine: Machine, pcpu: PCpu
) -> None:
    engine, access_cycles = make_engine(machine), PROFILE.core.mmio_access_cycles
    pcpu.load(engine)
    pcpu.platform.mmio_read(0xFEC0_0000, 4)
    assert engine.shared.clock_cycles == access_cycles
    pcpu.platform.mmio_write(0xFEC0_0000, 4, 0)
    assert engine.shared.clock_cycles == pcpu.clock.book().cycles[Category.PORT] == 2 * access_cycles


def test_an_event_that_a_port_write_schedules_bounds_the_run(machine: Machine, pcpu: PCpu) -> None:
    class Timer:
        widths_bytes: tuple[int, ...] = (1,)

        def read(self, offset: int, size_bytes: int) -> int:
            return 0

        def write(self, offset: int, size_bytes: int, value: int) -> None:
            machine.events.schedule(machine.events.now_ps + machine.timeline.cycles_to_ps(90), lambda: None)

    machine.ports.attach(0x40, 1, Timer())
    pcpu.load(make_engine(machine, "out 0x40, al\n 1: nop\n jmp 1b"))
    pcpu.run(1_000_000)
    assert PROFILE.port_access_cycles + 90 <= pcpu.clock.cycles < PROFILE.port_access_cycles + 110


def test_msrs_of_the_host_exist_or_fault(pcpu: PCpu) -> None:
    assert pcpu.platform.msr_read(IA32_MISC_ENABLE) == 1 | MISC_ENABLE_MONITOR
    assert pcpu.platform.msr_write(IA32_MISC_ENABLE, 0)
    assert pcpu.platform.msr_read(IA32_MISC_ENABLE) == 0
    assert pcpu.platform.msr_write(IA32_BIOS_SIGN_ID, 5)
    assert pcpu.platform.msr_read(IA32_BIOS_SIGN_ID) == 0
    assert pcpu.platform.msr_read(0xDEAD) is None
    assert not pcpu.platform.msr_write(0xDEAD, 1)


def test_msrs_belong_to_one_core(machine: Machine) -> None:
    first, second = machine.pcpus
    first.platform.msr_write(IA32_MISC_ENABLE, 0x55)
    assert second.platform.msr_read(IA32_MISC_ENABLE) == 1 | MISC_ENABLE_MONITOR


def test_cpuid_names_the_profile_and_is_zero_where_nothing_is(pcpu: PCpu) -> None:
    words = [word for leaf in range(0x80000002, 0x80000005) for word in pcpu.platform.cpuid(leaf, 0)]
    brand = b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0").decode()
    assert PROFILE.name in brand
    assert pcpu.platform.cpuid(0x40000000, 0) == pcpu.platform.cpuid(7, 1) == (0, 0, 0, 0)
    assert pcpu.platform.cpuid(1, 5) == pcpu.platform.cpuid(1, 0)


def test_an_acknowledge_that_nobody_answers_reads_the_spurious_vector(pcpu: PCpu) -> None:
    assert pcpu.platform.interrupt_vector() == SPURIOUS_VECTOR
