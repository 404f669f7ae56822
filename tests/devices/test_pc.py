"""Claims about the host as a whole: which core an interrupt reaches, when, and what executes there."""

import pytest

from devices.interrupts.interrupt_bus import DeliveryMode
from devices.interrupts.lapic_registers import DEFAULT_BASE, ICR_HIGH, ICR_LOW, SVR, SVR_ENABLED
from devices.pc import Pc
from emulator.machine import Machine
from emulator.profiles.profile import load_profile

PROFILE = load_profile("netburst-2006")
RECEIVE_CYCLES = PROFILE.events.ipi_receive_cycles
VECTOR = 0x51


def make_pc(count: int) -> Pc:
    """A PC whose local APICs are enabled."""
    pc = Pc(Machine(PROFILE, memory_bytes=1 << 20, pcpu_count=count))
    for pcpu in pc.machine.pcpus:
        pcpu.platform.mmio.write(DEFAULT_BASE + SVR, 4, SVR_ENABLED | 0xFF)
    return pc


class Executor:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_nmi(self) -> None:
        self.heard.append("NMI")

    def on_init(self) -> None:
        self.heard.append("INIT")

    def on_start_up(self, vector: int) -> None:
        self.heard.append(f"SIPI {vector:#x}")


def send(pc: Pc, target: int, mode: DeliveryMode, vector: int = VECTOR) -> None:
    """Core 0 stores to both halves of its ICR."""
    platform = pc.machine.pcpus[0].platform
    platform.mmio_write(DEFAULT_BASE + ICR_HIGH, 4, target << 24)
    platform.mmio_write(DEFAULT_BASE + ICR_LOW, 4, mode << 8 | vector)


def test_an_interrupt_to_another_core_arrives_after_its_way_not_a_cycle_earlier() -> None:
    pc = make_pc(2)
    machine = pc.machine
    send(pc, 1, DeliveryMode.FIXED)
    sent_cycles = machine.pcpus[0].clock.cycles
    machine.events.run_until(machine.timeline.cycles_to_ps(sent_cycles + RECEIVE_CYCLES - 1))
    assert not machine.pcpus[1].interrupts.is_asserted
    machine.events.run_until(machine.timeline.cycles_to_ps(sent_cycles + RECEIVE_CYCLES))
    assert machine.pcpus[1].interrupts.is_asserted
    assert not machine.pcpus[0].interrupts.is_asserted
    assert machine.pcpus[1].platform.interrupt_vector() == VECTOR
    assert not machine.pcpus[1].interrupts.is_asserted


def test_a_core_alone_gets_what_it_sends_to_itself_at_once() -> None:
    pc = make_pc(1)
    send(pc, 0, DeliveryMode.FIXED)
    assert pc.machine.pcpus[0].interrupts.is_asserted


@pytest.mark.parametrize(
    ("mode", "heard"),
    [(DeliveryMode.NMI, "NMI"), (DeliveryMode.INIT, "INIT"), (DeliveryMode.START_UP, f"SIPI {VECTOR:#x}")],
)
def test_what_executes_on_a_core_hears_of_nmi_init_and_sipi(mode: DeliveryMode, heard: str) -> None:
    pc, executor = make_pc(2), Executor()
    pc.machine.pcpus[1].interrupts.executor = executor
    send(pc, 1, mode)
    assert executor.heard == []
    pc.machine.events.run_until(1 << 60)
    assert executor.heard == [heard]


def test_without_an_executor_init_and_sipi_are_not_heard() -> None:
    pc = make_pc(2)
    send(pc, 1, DeliveryMode.INIT)
    send(pc, 1, DeliveryMode.START_UP)
    pc.machine.events.run_until(1 << 60)
    assert not pc.machine.pcpus[1].interrupts.is_asserted


def test_a_pc_that_nobody_has_programmed_has_nothing_to_do() -> None:
    assert Pc(Machine(PROFILE, memory_bytes=1 << 20, pcpu_count=2)).machine.events.next_ps() is None


def test_cpuid_and_registers_show_each_core_its_own_local_apic() -> None:
    pc = make_pc(3)
    assert [pcpu.platform.cpuid(1, 0)[1] >> 24 for pcpu in pc.machine.pcpus] == [0, 1, 2]
    assert [pcpu.platform.mmio.read(DEFAULT_BASE + 0x20, 4) >> 24 for pcpu in pc.machine.pcpus] == [0, 1, 2]
