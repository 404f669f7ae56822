"""The local APIC as kernels use it: registers, priorities, EOI, errors, virtual-wire mode, MSRs."""

import random

import pytest

from devices.interrupts import lapic_registers as r
from devices.interrupts.interrupt_bus import InterruptMessage
from emulator import x86
from tests.devices.interrupts.apic_rig import ENABLE, ApicRig, Cpu

SELF = 1 << 18


@pytest.fixture
def cpu() -> Cpu:
    return ApicRig().cpus[0]


def request(cpu: Cpu, *vectors: int) -> None:
    for vector in vectors:
        cpu.send(SELF | vector)


# fmt: off
RESET = {  # SDM 3A 10.4.7.1
    r.ID: 0x0200_0000, r.VERSION: 0x5_0014, r.TPR: 0, r.PPR: 0, r.LDR: 0, r.DFR: 0xFFFF_FFFF, r.SVR: 0xFF, r.ESR: 0,
    r.ICR_LOW: 0, r.ICR_HIGH: 0, r.LVT_TIMER: 0x1_0000, r.LVT_THERMAL: 0x1_0000, r.LVT_PERFORMANCE: 0x1_0000,
    r.LVT_LINT0: 0x1_0000, r.LVT_LINT1: 0x1_0000, r.LVT_ERROR: 0x1_0000, r.TIMER_INITIAL: 0, r.TIMER_CURRENT: 0,
    r.TIMER_DIVIDE: 0, r.ISR: 0, r.TMR + 0x70: 0, r.IRR + 0x30: 0,
}
READS_BACK = {  # what is written as all ones
    r.ID: 0xFF00_0000, r.VERSION: 0x5_0014, r.TPR: 0xFF, r.APR: 0, r.EOI: 0, r.RRD: 0, r.LDR: 0xFF00_0000,
    r.DFR: 0xFFFF_FFFF, r.ICR_HIGH: 0xFF00_0000, r.LVT_TIMER: 0x7_00FF, r.LVT_THERMAL: 0x1_07FF, r.ISR: 0, r.IRR: 0,
    r.LVT_PERFORMANCE: 0x1_07FF, r.LVT_LINT0: 0x1_A7FF, r.LVT_LINT1: 0x1_A7FF, r.LVT_ERROR: 0x1_00FF,
    r.TIMER_CURRENT: 0, r.TIMER_DIVIDE: 0xB, r.SVR: 0x1FF,
}
# fmt: on


def test_registers_after_reset_are_those_of_the_manual() -> None:
    apic = ApicRig(3).cpus[2]
    apic.apic.reset()
    assert {offset: apic.read(offset) for offset in RESET} == RESET


@pytest.mark.parametrize("offset", READS_BACK, ids=hex)
def test_a_register_keeps_the_bits_it_has(cpu: Cpu, offset: int) -> None:
    cpu.write(offset, 0xFFFF_FFFF)
    assert cpu.read(offset) == READS_BACK[offset]


def test_an_interrupt_goes_from_irr_to_isr_to_nowhere(cpu: Cpu) -> None:
    request(cpu, 0x41)
    assert (cpu.read(r.IRR + 0x20), cpu.read(r.ISR + 0x20), cpu.intr) == (2, 0, True)
    assert cpu.take() == 0x41
    assert (cpu.read(r.IRR + 0x20), cpu.read(r.ISR + 0x20), cpu.intr) == (0, 2, False)
    assert cpu.read(r.PPR) == 0x40
    cpu.write(r.EOI, 0)
    assert (cpu.read(r.ISR + 0x20), cpu.read(r.PPR)) == (0, 0)


def test_the_highest_vector_comes_first_and_only_a_higher_class_interrupts(cpu: Cpu) -> None:
    request(cpu, 0x31, 0x52, 0x57)
    assert cpu.take() == 0x57
    assert not cpu.intr  # 0x52 is of the same class
    request(cpu, 0x60)
    assert cpu.take() == 0x60
    cpu.write(r.EOI, 0)
    assert not cpu.intr
    cpu.write(r.EOI, 0)
    assert [cpu.serve(), cpu.serve()] == [0x52, 0x31]
    cpu.write(r.EOI, 0)  # nothing is in service


def test_a_vector_is_requested_once_but_again_while_in_service(cpu: Cpu) -> None:
    request(cpu, 0x44, 0x44, 0x44)
    cpu.take()
    request(cpu, 0x44)
    cpu.write(r.EOI, 0)
    assert cpu.serve() == 0x44
    assert not cpu.intr


@pytest.mark.parametrize(("tpr", "ppr", "is_delivered"), [(0x3F, 0x3F, True), (0x40, 0x40, False), (0x4F, 0x4F, False)])
def test_the_task_priority_holds_back_its_class_and_below(cpu: Cpu, tpr: int, ppr: int, is_delivered: bool) -> None:
    cpu.write(r.TPR, tpr)
    request(cpu, 0x4F)
    assert (cpu.read(r.PPR), cpu.intr) == (ppr, is_delivered)
    cpu.write(r.TPR, 0)
    assert cpu.intr


def test_cr8_is_the_class_of_tpr(cpu: Cpu) -> None:
    cpu.apic.cr8 = 9
    assert (cpu.read(r.TPR), cpu.apic.cr8) == (0x90, 9)
    request(cpu, 0x91)
    assert not cpu.intr
    cpu.apic.cr8 = 8
    assert cpu.intr
    cpu.write(r.TPR, 0x3C)
    assert cpu.apic.cr8 == 3


def test_ppr_is_the_class_in_service_when_that_is_higher(cpu: Cpu) -> None:
    request(cpu, 0x75)
    cpu.take()
    cpu.write(r.TPR, 0x6A)
    assert cpu.read(r.PPR) == 0x70
    cpu.write(r.TPR, 0x7A)
    assert cpu.read(r.PPR) == 0x7A


def test_an_interrupt_that_is_gone_gives_the_spurious_vector_and_is_not_in_service(cpu: Cpu) -> None:
    cpu.write(r.SVR, r.SVR_ENABLED | 0x3F)
    request(cpu, 0x41)
    cpu.write(r.TPR, 0x50)  # between INTR and its acknowledge
    assert cpu.apic.acknowledge() == 0x3F
    assert [cpu.read(r.ISR + 16 * i) for i in range(8)] == [0] * 8


def test_an_illegal_vector_is_an_error_that_esr_shows_when_written(cpu: Cpu) -> None:
    cpu.write(r.LVT_ERROR, 0xFE)
    request(cpu, 0x0F)
    assert cpu.serve() == 0xFE
    assert cpu.read(r.ESR) == 0
    cpu.write(r.ESR, 0)
    assert cpu.read(r.ESR) == r.ESR_SEND_ILLEGAL
    cpu.write(r.ESR, 0)
    assert cpu.read(r.ESR) == 0


def test_a_received_illegal_vector_and_a_reserved_register_are_errors(cpu: Cpu) -> None:
    cpu.apic.accept(InterruptMessage(0x05))
    assert cpu.read(0x400) == cpu.read(0x24) == 0
    cpu.write(0x3F0, 1)
    cpu.write(r.ESR, 0)
    assert cpu.read(r.ESR) == r.ESR_RECEIVED_ILLEGAL | r.ESR_ILLEGAL_ADDRESS


def test_an_error_vector_that_is_illegal_itself_ends_there(cpu: Cpu) -> None:
    cpu.write(r.LVT_ERROR, 3)
    request(cpu, 2)
    cpu.write(r.ESR, 0)
    assert cpu.read(r.ESR) == r.ESR_SEND_ILLEGAL | r.ESR_RECEIVED_ILLEGAL
    assert not cpu.intr


def test_software_disable_masks_the_lvt_and_takes_no_new_interrupts(cpu: Cpu) -> None:
    cpu.write(r.LVT_TIMER, 0x55)
    request(cpu, 0x61)
    cpu.write(r.SVR, 0xFF)
    assert cpu.read(r.LVT_TIMER) == 0x1_0055
    cpu.write(r.LVT_TIMER, 0x55)
    assert cpu.read(r.LVT_TIMER) == 0x1_0055
    request(cpu, 0x71)
    assert cpu.serve() == 0x61  # held from before
    assert not cpu.intr
    cpu.write(r.SVR, ENABLE)
    assert cpu.read(r.LVT_TIMER) == 0x1_0055


def test_virtual_wire_mode_passes_the_8259s_whatever_the_priorities_are(cpu: Cpu) -> None:
    cpu.write(r.LVT_LINT0, 0x700)
    cpu.write(r.TPR, 0xFF)
    cpu.pic_vectors = [0x20]
    cpu.apic.set_lint(0, True)
    assert cpu.take() == 0x20
    assert [cpu.read(r.ISR + 16 * i) for i in range(8)] == [0] * 8
    assert cpu.intr  # the 8259s hold their line until they are done
    cpu.apic.set_lint(0, False)
    assert not cpu.intr


def test_a_masked_lint0_keeps_the_8259s_away(cpu: Cpu) -> None:
    cpu.apic.set_lint(0, True)
    assert not cpu.intr
    cpu.write(r.LVT_LINT0, 0x700)
    assert cpu.intr
    cpu.write(r.LVT_LINT0, 0x1_0700)
    assert not cpu.intr


def test_own_interrupts_come_before_the_8259s(cpu: Cpu) -> None:
    cpu.write(r.LVT_LINT0, 0x700)
    cpu.pic_vectors = [0x20]
    cpu.apic.set_lint(0, True)
    request(cpu, 0x31)
    assert [cpu.take(), cpu.take()] == [0x31, 0x20]


def test_lint_pins_deliver_what_their_lvt_says(cpu: Cpu) -> None:
    cpu.write(r.LVT_LINT1, 0x400)
    cpu.apic.set_lint(1, True)
    cpu.apic.set_lint(1, False)
    cpu.write(r.LVT_LINT1, 0x66)
    cpu.apic.set_lint(1, True)
    assert cpu.signals == [("nmi", 0)]
    assert cpu.serve() == 0x66
    assert not cpu.intr
    cpu.apic.set_lint(1, False)
    cpu.write(r.LVT_LINT1, r.LVT_LEVEL | 0x67)
    cpu.apic.set_lint(1, True)
    assert [cpu.serve(), cpu.serve()] == [0x67, 0x67]  # as long as the level lasts
    cpu.apic.set_lint(1, False)


def test_a_disabled_apic_is_not_there_and_its_pins_are_the_cpus(cpu: Cpu) -> None:
    request(cpu, 0x41)
    assert cpu.apic.write_msr(x86.IA32_APIC_BASE, 0xFEE0_0100)
    assert (cpu.apic.is_enabled, cpu.intr, cpu.read(r.VERSION)) == (False, False, 0xFFFF_FFFF)
    cpu.write(r.TPR, 0x20)
    cpu.pic_vectors = [0x25]
    cpu.apic.set_lint(0, True)
    assert cpu.take() == 0x25
    cpu.apic.set_lint(0, False)
    assert cpu.apic.write_msr(x86.IA32_APIC_BASE, 0xFEE0_0900)
    assert (cpu.read(r.TPR), cpu.read(r.SVR), cpu.intr) == (0, 0xFF, False)  # as after power-up


def test_the_base_msr_tells_the_boot_cpu_and_refuses_what_is_not_there() -> None:
    boot, other = ApicRig(2).cpus
    assert boot.apic.read_msr(x86.IA32_APIC_BASE) == 0xFEE0_0900
    assert other.apic.read_msr(x86.IA32_APIC_BASE) == 0xFEE0_0800
    for value in (0xFEE0_0D00, 0xFEE0_0901, 0xFEC0_0900, 1 << 40 | 0xFEE0_0900):  # x2APIC, reserved, moved
        assert not boot.apic.write_msr(x86.IA32_APIC_BASE, value)
    assert boot.apic.read_msr(0x10) is None
    assert not boot.apic.write_msr(0x10, 0)


def test_random_traffic_keeps_the_priority_rules() -> None:
    """A model in ten lines: what is taken is the highest request, and its class beats all in service and TPR."""
    rng, cpu = random.Random(11), ApicRig().cpus[0]
    requested: set[int] = set()
    serving: list[int] = []
    tpr = 0
    for _ in range(4000):
        match rng.randrange(5):
            case 0 | 1:
                vector = rng.randrange(16, 256)
                request(cpu, vector)
                requested.add(vector)
            case 2:
                tpr = rng.randrange(256)
                cpu.write(r.TPR, tpr)
            case 3:
                cpu.write(r.EOI, 0)
                if serving:
                    serving.remove(max(serving))
            case 4:
                cpu.write(rng.choice((0x10, r.VERSION, 0x3F0, r.ESR, 0x24)), rng.getrandbits(32))
        top = max(requested, default=0)
        wanted = top >> 4 > max([tpr >> 4, *(vector >> 4 for vector in serving)])
        assert cpu.intr == wanted
        if wanted and rng.random() < 0.7:
            assert cpu.take() == top
            requested.discard(top)
            serving.append(top)
