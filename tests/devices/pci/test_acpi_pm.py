"""ACPI fixed hardware as an operating system's PM driver uses it."""

import random

import pytest

from devices.pci.acpi_pm import PM_TIMER_HZ, AcpiPm
from emulator.events import PS_PER_SECOND, EventQueue
from tests.devices.wire import Wire

STATUS, ENABLE, CONTROL, TIMER = 0, 2, 4, 8
TIMER_EVENT, SCI_EN, SLP_EN = 1, 1, 1 << 13
HALF_PS = -(-(1 << 31) * PS_PER_SECOND // PM_TIMER_HZ)  # the timer's highest bit changes first


class Pm:
    """The block, its wire, and whether the power is off."""

    def __init__(self) -> None:
        self.events = EventQueue()
        self.sci = Wire(self.events)
        self.power_offs = 0
        self.chip = AcpiPm(self.events, self.sci, self.power_off)

    def power_off(self) -> None:
        self.power_offs += 1

    def read(self, offset: int, size_bytes: int = 2) -> int:
        return self.chip.read(offset, size_bytes)

    def write(self, offset: int, value: int, size_bytes: int = 2) -> None:
        self.chip.write(offset, size_bytes, value)


def test_registers_after_reset() -> None:
    pm = Pm()
    assert [pm.read(offset) for offset in (STATUS, ENABLE, CONTROL, 6)] == [0, 0, SCI_EN, 0]


@pytest.mark.parametrize("ticks", [1, 1000, 0xFFFF_FFFF, 0x1_0000_0005])
def test_the_timer_counts_its_frequency_and_wraps_at_32_bits(ticks: int) -> None:
    pm = Pm()
    due_ps = -(-ticks * PS_PER_SECOND // PM_TIMER_HZ)
    pm.events.run_until(due_ps - 1)
    assert pm.read(TIMER, 4) == ticks - 1 & 0xFFFF_FFFF
    pm.events.run_until(due_ps)
    assert pm.read(TIMER, 4) == ticks & 0xFFFF_FFFF
    assert pm.read(TIMER + 1, 1) == ticks >> 8 & 0xFF
    pm.write(TIMER, 0, 4)
    assert pm.read(TIMER, 4) == ticks & 0xFFFF_FFFF


def test_a_change_of_the_highest_bit_interrupts_if_enabled_until_cleared() -> None:
    pm = Pm()
    pm.write(ENABLE, TIMER_EVENT)
    pm.events.run_until(HALF_PS - 1)
    assert (pm.read(STATUS), pm.sci.level) == (0, False)
    pm.events.run_until(HALF_PS)
    assert (pm.read(STATUS), pm.sci.level) == (TIMER_EVENT, True)
    pm.write(STATUS, 0)
    assert pm.sci.level
    pm.write(STATUS, TIMER_EVENT)
    assert (pm.read(STATUS), pm.sci.level) == (0, False)
    pm.events.run_until(2 * HALF_PS)
    assert pm.sci.level


def test_disabled_it_is_only_a_status() -> None:
    pm = Pm()
    pm.events.run_until(HALF_PS)
    assert (pm.read(STATUS), pm.sci.level, pm.events.next_ps()) == (TIMER_EVENT, False, None)
    pm.write(ENABLE, TIMER_EVENT)
    assert pm.sci.level
    pm.write(ENABLE, 0)
    assert not pm.sci.level


@pytest.mark.parametrize(("sleep_type", "power_offs"), [(0, 0), (3, 0), (5, 1), (7, 0)])
def test_only_s5_turns_the_power_off(sleep_type: int, power_offs: int) -> None:
    pm = Pm()
    pm.write(CONTROL, sleep_type << 10)
    assert pm.power_offs == 0
    assert pm.read(CONTROL) == sleep_type << 10 | SCI_EN
    pm.write(CONTROL, sleep_type << 10 | SLP_EN)
    assert pm.power_offs == power_offs
    assert not pm.read(CONTROL) & SLP_EN


def test_acpi_mode_cannot_be_left_and_reserved_bits_are_not_kept() -> None:
    pm = Pm()
    pm.write(CONTROL, 0xC3FF)
    assert pm.read(CONTROL) == 1 << 1 | SCI_EN
    pm.write(ENABLE, 0xFFFF)
    assert pm.read(ENABLE) == 0x0521
    pm.write(0, 0xFFFF_FFFF, 4)
    assert pm.read(0, 4) == 0x0521_0000


def test_bytes_are_parts_of_words() -> None:
    pm = Pm()
    pm.write(ENABLE + 1, 0x05, 1)
    pm.write(ENABLE, 0x20, 1)
    assert (pm.read(ENABLE), pm.read(ENABLE + 1, 1)) == (0x0520, 0x05)
    pm.write(CONTROL + 1, 5 << 2 | 1 << 5, 1)
    assert pm.power_offs == 1


def test_random_traffic_is_harmless() -> None:
    rng, pm = random.Random(3), Pm()
    for _ in range(3000):
        size = rng.choice((1, 2, 4))
        offset = rng.randrange(12 - size + 1)
        if rng.random() < 0.5:
            pm.write(offset, rng.getrandbits(8 * size), size)
        else:
            assert 0 <= pm.read(offset, size) < 1 << 8 * size
        pm.events.run_until(pm.events.now_ps + rng.randrange(HALF_PS // 10))
