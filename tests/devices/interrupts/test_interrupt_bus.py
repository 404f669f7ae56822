"""Interprocessor interrupts between four CPUs: destinations, shorthands, delivery modes (SDM 3A 10.6)."""

import pytest

from devices.interrupts import lapic_registers as r
from devices.interrupts.interrupt_bus import InterruptMessage
from emulator import x86
from tests.devices.interrupts.apic_rig import ApicRig

LOGICAL, ASSERT, LEVEL = 1 << 11, 1 << 14, 1 << 15
LOWEST, SMI, NMI, INIT, SIPI = 1 << 8, 2 << 8, 4 << 8, 5 << 8, 6 << 8
SELF, ALL, OTHERS = 1 << 18, 2 << 18, 3 << 18
FLAT, CLUSTER = 0xFFFF_FFFF, 0


def interrupted(rig: ApicRig) -> list[int]:
    """The CPUs that have an interrupt, which is taken."""
    found = [number for number, cpu in enumerate(rig.cpus) if cpu.intr]
    for number in found:
        assert rig.cpus[number].serve() == 0x40
    return found


@pytest.mark.parametrize(
    ("command", "destination", "expected"),
    [
        (0x40, 0, [0]),
        (0x40, 2, [2]),
        (0x40, 0xFF, [0, 1, 2, 3]),
        (0x40, 9, []),
        (SELF | 0x40, 3, [1]),
        (ALL | 0x40, 3, [0, 1, 2, 3]),
        (OTHERS | 0x40, 3, [0, 2, 3]),
        (LOWEST | SELF | 0x40, 0, []),  # table 10-3: invalid
        (LOWEST | ALL | 0x40, 0, []),
    ],
)
def test_physical_destinations_and_shorthands(command: int, destination: int, expected: list[int]) -> None:
    rig = ApicRig(4)
    rig.cpus[1].send(command, destination)
    assert interrupted(rig) == expected


@pytest.mark.parametrize(
    ("model", "ids", "destination", "expected"),
    [
        (FLAT, (1, 2, 4, 8), 0b1010, [1, 3]),
        (FLAT, (1, 2, 4, 8), 0xFF, [0, 1, 2, 3]),
        (FLAT, (1, 2, 4, 8), 0x10, []),
        (FLAT, (1, 2, 2, 0), 0x02, [1, 2]),
        (CLUSTER, (0x01, 0x02, 0x11, 0x12), 0x13, [2, 3]),
        (CLUSTER, (0x01, 0x02, 0x11, 0x12), 0x01, [0]),
        (CLUSTER, (0x01, 0x02, 0x11, 0x12), 0xF2, [1, 3]),
    ],
)
def test_logical_destinations(model: int, ids: tuple[int, ...], destination: int, expected: list[int]) -> None:
    rig = ApicRig(4)
    for cpu, logical_id in zip(rig.cpus, ids, strict=True):
        cpu.write(r.DFR, model)
        cpu.write(r.LDR, logical_id << 24)
    rig.cpus[0].send(LOGICAL | 0x40, destination)
    assert interrupted(rig) == expected


def test_lowest_priority_chooses_the_cpu_with_the_lowest_and_of_equals_the_first() -> None:
    rig = ApicRig(4)
    for number, cpu in enumerate(rig.cpus):
        cpu.write(r.LDR, 1 << 24 + number)
    rig.cpus[0].write(r.TPR, 0x30)
    rig.cpus[2].write(r.TPR, 0x10)
    rig.cpus[3].write(r.TPR, 0x10)
    rig.cpus[0].send(LOGICAL | LOWEST | 0x40, 0b1101)
    assert interrupted(rig) == [2]
    rig.cpus[0].send(LOGICAL | LOWEST | 0x40, 0b1111)
    assert interrupted(rig) == [1]


def test_nmi_init_and_start_up_reach_the_cpu_not_irr() -> None:
    rig = ApicRig(3)
    boot, second, third = rig.cpus
    boot.send(NMI, 1)
    second.write(r.TPR, 0x70)
    boot.send(INIT | ASSERT | LEVEL, 1)
    assert (second.read(r.TPR), second.read(r.SVR), second.read(r.ID)) == (0, 0xFF, 1 << 24)
    boot.send(INIT | LEVEL, 1)  # de-assert
    boot.send(SIPI | 0x9F, 1)
    assert second.signals == [("nmi", 0), ("init", 0), ("sipi", 0x9F)]
    boot.send(OTHERS | SMI)
    assert third.signals == boot.signals == []
    assert not any(cpu.intr for cpu in rig.cpus)


def test_the_universal_start_up_sequence_of_linux() -> None:
    rig = ApicRig(2)
    boot, second = rig.cpus
    second.apic.reset()
    for command in (INIT | ASSERT | LEVEL, INIT | LEVEL, SIPI | 0x9A, SIPI | 0x9A):
        boot.send(command, 1)
        assert boot.read(r.ICR_LOW) & 1 << 12 == 0
    assert second.signals == [("init", 0), ("sipi", 0x9A), ("sipi", 0x9A)]


def test_a_cpu_whose_apic_is_off_gets_nothing() -> None:
    rig = ApicRig(3)
    rig.cpus[1].write(r.SVR, 0xFF)
    rig.cpus[2].apic.write_msr(x86.IA32_APIC_BASE, 0xFEE0_0000)
    rig.cpus[0].send(ALL | 0x40)
    rig.cpus[0].send(OTHERS | NMI)
    assert interrupted(rig) == [0]
    assert [cpu.signals for cpu in rig.cpus] == [[], [("nmi", 0)], []]


def test_only_a_level_triggered_interrupt_ends_on_the_bus() -> None:
    rig = ApicRig(2)
    ended: list[int] = []
    rig.bus.on_eoi.append(ended.append)

    rig.bus.send(InterruptMessage(0x61, destination=1, is_level=True))
    rig.bus.send(InterruptMessage(0x52, destination=1))
    assert rig.cpus[1].read(r.TMR + 0x30) == 2
    assert [rig.cpus[1].serve(), rig.cpus[1].serve()] == [0x61, 0x52]
    assert ended == [0x61]
