"""Claims about a core's own local APIC under the VMM: what its use costs, and that no deadline is early."""

import pytest

from devices.interrupts.lapic_timer import COUNT_MASK
from devices.pc import Pc
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.profiles.profile import load_profile
from vmm.cost.meter import Meter
from vmm.host_apic import EVENT_CHECK, SPURIOUS, TIMER, HostApic

ACCESS, SEND, RECEIVE = 150, 290, 1100  # cycles
TIMER_HZ, CORE_HZ = 24_000_000, 3_000_000_000
TICK_PS = -(-(10**12) // TIMER_HZ)


class Rig:
    """The APICs of two cores."""

    def __init__(self) -> None:
        overrides = [
            f"events.apic_access_cycles={ACCESS}", f"events.ipi_send_cycles={SEND}",
            f"events.ipi_receive_cycles={RECEIVE}", f"core.apic_timer_hz={TIMER_HZ}",
        ]  # fmt: skip
        pc = Pc(Machine(load_profile("netburst-2006", overrides), memory_bytes=1 << 20, pcpu_count=2))
        self.events, self.pcpus, self.chips = pc.machine.events, pc.machine.pcpus, pc.board.apics
        self.meters = [Meter(pcpu) for pcpu in self.pcpus]
        self.apics = [HostApic(chip, meter) for chip, meter in zip(self.chips, self.meters, strict=True)]

    @property
    def pcpu(self) -> PCpu:
        return self.pcpus[0]

    def spend(self, cycles: int) -> None:
        """Core 0 does something else."""
        self.meters[0].pay(Category.PATHS, cycles, "", "")


@pytest.mark.parametrize("spent_cycles", [0, 1, 7, 1_234_567])
@pytest.mark.parametrize("delay_ps", [1, 999, TICK_PS, 10**6, 123_456_789_012])
def test_the_timer_is_never_early_and_late_by_an_access_and_a_tick_at_most(delay_ps: int, spent_cycles: int) -> None:
    rig = Rig()
    rig.spend(spent_cycles)
    rig.meters[0].commit()
    when_ps = rig.pcpu.clock.now_ps + delay_ps
    rig.apics[0].arm(when_ps)
    fires_ps = rig.events.next_ps()
    assert fires_ps is not None
    assert when_ps <= fires_ps <= when_ps + ACCESS * 10**12 // rig.pcpu.profile.frequency_hz + TICK_PS + 1
    rig.events.run_until(fires_ps - 1)
    assert not rig.pcpu.interrupts.is_asserted
    rig.events.run_until(fires_ps)
    assert rig.apics[0].acknowledge() == TIMER


def test_a_deadline_that_is_past_interrupts_at_the_next_tick() -> None:
    rig = Rig()
    rig.spend(10_000)
    rig.apics[0].arm(5)
    fires_ps = rig.events.next_ps()
    assert fires_ps is not None
    assert rig.pcpu.clock.now_ps < fires_ps <= rig.pcpu.clock.now_ps + TICK_PS


def test_a_deadline_beyond_the_count_comes_early_and_can_be_armed_again() -> None:
    rig = Rig()
    when_ps = 2 * COUNT_MASK * TICK_PS
    rig.apics[0].arm(when_ps)
    first_ps = rig.events.next_ps()
    assert first_ps is not None
    assert first_ps < when_ps
    rig.events.run_until(first_ps)
    rig.apics[0].acknowledge()
    rig.apics[0].disarm_expired()
    rig.apics[0].arm(when_ps)
    second_ps = rig.events.next_ps()
    assert second_ps is not None
    assert second_ps > first_ps


def test_each_setting_of_the_timer_is_an_access_and_the_same_again_is_none() -> None:
    rig = Rig()
    for when_ps in (10**9, 10**9, None, None):
        rig.apics[0].arm(when_ps)
    assert rig.pcpu.clock.cycles == 2 * ACCESS
    assert rig.pcpu.clock.ledger.cycles[Category.EVENTS] == 2 * ACCESS
    assert rig.events.next_ps() is None


def test_what_expires_in_a_handler_that_sets_the_timer_anew_is_forgotten() -> None:
    rig = Rig()
    rig.apics[0].arm(10**6)
    rig.spend(10_000)  # in an exit's handler: the queue does not run meanwhile
    rig.apics[0].arm(10**12)
    rig.events.run_until(10**12 - 1)
    assert not rig.pcpu.interrupts.is_asserted


def test_an_interrupt_to_another_core_costs_the_command_and_arrives_after_its_way() -> None:
    rig = Rig()
    rig.spend(777)
    rig.apics[0].send(EVENT_CHECK, 1)
    timeline = rig.pcpu.timeline
    assert rig.pcpu.clock.cycles == 777 + SEND
    rig.events.run_until(timeline.cycles_to_ps(777 + SEND + RECEIVE - 1))
    assert not rig.pcpus[1].interrupts.is_asserted
    rig.events.run_until(timeline.cycles_to_ps(777 + SEND + RECEIVE))
    assert rig.apics[1].acknowledge() == EVENT_CHECK


def test_an_access_does_not_run_what_other_cores_have_not_reached() -> None:
    rig = Rig()
    seen: list[int] = []
    rig.events.schedule(1000, lambda: seen.append(rig.events.now_ps))
    rig.spend(100_000)
    rig.apics[0].send(EVENT_CHECK, 1)
    rig.apics[0].arm(10**12)
    rig.apics[0].end()
    assert (seen, rig.events.now_ps) == ([], 0)
    rig.events.run_until(2000)
    assert seen == [1000]


def test_an_interrupt_in_service_keeps_out_another_of_its_class_until_its_end() -> None:
    rig = Rig()
    apic, pins = rig.apics[0], rig.pcpu.interrupts
    apic.receive(EVENT_CHECK)
    assert apic.acknowledge() == EVENT_CHECK
    apic.receive(EVENT_CHECK)
    assert not pins.is_asserted
    before = rig.pcpu.clock.cycles
    apic.end()
    assert pins.is_asserted
    assert rig.pcpu.clock.cycles - before == ACCESS


def test_an_acknowledge_of_nothing_is_spurious() -> None:
    assert Rig().apics[0].acknowledge() == SPURIOUS
