"""The real-time clock as a kernel's driver uses it: exact times, alarms against a brute-force search."""

from datetime import datetime
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.isa.mc146818 import Mc146818
from emulator.events import PS_PER_SECOND, EventQueue
from tests.devices.wire import Wire

US = 10**6
A, B, C, D = 10, 11, 12, 13
SET, PIE, AIE, UIE, BINARY, HOURS_24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
IRQF, PF, AF, UF = 0x80, 0x40, 0x20, 0x10


class Clock:
    """A chip on a wire."""

    def __init__(self, start: datetime = datetime(2006, 10, 1), memory_bytes: int = 64 << 20) -> None:
        self.events = EventQueue()
        self.wire = Wire(self.events)
        self.chip = Mc146818(self.events, self.wire, memory_bytes=memory_bytes, start=start)

    def read(self, index: int) -> int:
        self.chip.write(0, 1, index)
        return self.chip.read(1, 1)

    def write(self, index: int, value: int) -> None:
        self.chip.write(0, 1, index)
        self.chip.write(1, 1, value)

    def calendar(self) -> tuple[int, ...]:
        """Century, year, month, day, hours, minutes, seconds, as the bytes read."""
        return tuple(self.read(index) for index in (0x32, 9, 8, 7, 4, 2, 0))


def test_the_emulated_world_begins_on_a_sunday_in_october_2006() -> None:
    clock = Clock()
    assert clock.calendar() == (0x20, 0x06, 0x10, 0x01, 0, 0, 0)
    assert clock.read(6) == 1
    assert (clock.read(A), clock.read(B), clock.read(C), clock.read(D)) == (0x26, HOURS_24, 0, 0x80)
    assert clock.chip.read(0, 1) == 0xFF


def test_a_second_ends_when_it_is_over_and_not_a_picosecond_earlier() -> None:
    clock = Clock()
    clock.events.run_until(PS_PER_SECOND - 1)
    assert clock.read(0) == 0
    clock.events.run_until(PS_PER_SECOND)
    assert clock.read(0) == 1


def test_a_year_ends_in_every_register() -> None:
    clock = Clock(datetime(1999, 12, 31, 23, 59, 59))
    assert clock.read(6) == 6
    clock.events.run_until(PS_PER_SECOND)
    assert clock.calendar() == (0x20, 0x00, 0x01, 0x01, 0, 0, 0)
    assert clock.read(6) == 7


@pytest.mark.parametrize(("year", "day"), [(2008, (2, 0x29)), (2006, (3, 0x01)), (2100, (3, 0x01))])
def test_leap_years(year: int, day: tuple[int, int]) -> None:
    clock = Clock(datetime(year, 2, 28))
    clock.events.run_until(86_400 * PS_PER_SECOND)
    assert (clock.read(8), clock.read(7)) == day


def test_uip_is_up_for_the_2228_us_before_an_update() -> None:
    clock = Clock()
    for now_ps, uip in (
        (0, 0),
        (PS_PER_SECOND - 2228 * US - 1, 0),
        (PS_PER_SECOND - 2228 * US, 0x80),
        (PS_PER_SECOND - 1, 0x80),
        (PS_PER_SECOND, 0),
    ):
        clock.events.run_until(now_ps)
        assert clock.read(A) & 0x80 == uip, now_ps


def test_twelve_hour_and_binary_formats() -> None:
    clock = Clock()
    for hour, raw in ((0, 0x12), (1, 0x01), (11, 0x11), (12, 0x92), (13, 0x81), (23, 0x91)):
        clock.write(B, SET)
        clock.write(4, raw)
        clock.write(B, 0)
        clock.write(2, 0x59)
        clock.write(0, 0x59)
        clock.events.run_until(clock.events.now_ps + PS_PER_SECOND)
        next_hour = (hour + 1) % 24
        digits = (next_hour - 1) % 12 + 1
        assert clock.read(4) == (0x80 if next_hour >= 12 else 0) | digits // 10 << 4 | digits % 10
    clock = Clock()
    clock.write(B, SET | BINARY | HOURS_24)
    for index, value in ((9, 26), (8, 12), (7, 31), (4, 23), (2, 59), (0, 58)):
        clock.write(index, value)
    clock.write(B, BINARY | HOURS_24)
    clock.events.run_until(PS_PER_SECOND)
    assert clock.calendar() == (0x20, 26, 12, 31, 23, 59, 59)


def test_set_stops_updates_and_takes_back_the_update_interrupt_enable() -> None:
    clock = Clock()
    clock.write(B, SET | UIE | HOURS_24)
    assert clock.read(B) == SET | HOURS_24
    clock.events.run_until(5 * PS_PER_SECOND)
    assert clock.read(0) == 0
    assert clock.read(C) == PF  # the divider runs on
    assert clock.read(A) & 0x80 == 0
    clock.write(B, HOURS_24)
    clock.events.run_until(6 * PS_PER_SECOND)
    assert clock.read(0) == 1


def test_the_first_update_after_a_divider_reset_comes_half_a_second_later() -> None:
    clock = Clock()
    clock.events.run_until(300_000 * US)
    clock.write(A, 0x76)
    clock.events.run_until(10 * PS_PER_SECOND)
    assert clock.read(0) == 0
    clock.write(A, 0x26)
    clock.events.run_until(10 * PS_PER_SECOND + PS_PER_SECOND // 2 - 1)
    assert clock.read(0) == 0
    clock.events.run_until(10 * PS_PER_SECOND + PS_PER_SECOND // 2)
    assert clock.read(0) == 1


@pytest.mark.parametrize(("rate", "hz"), [(1, 256), (2, 128), *((rate, 65536 >> rate) for rate in range(3, 16))])
def test_periodic_interrupts_come_at_the_rate_of_rs(rate: int, hz: int) -> None:
    clock = Clock()
    clock.write(A, 0x20 | rate)
    clock.write(B, PIE | HOURS_24)
    for number in (1, 2, 3):
        due_ps = -(-number * PS_PER_SECOND // hz)
        clock.events.run_until(due_ps - 1)
        assert not clock.wire.level
        clock.events.run_until(due_ps)
        assert clock.wire.level
        assert clock.read(C) & (IRQF | PF) == IRQF | PF
        assert not clock.wire.level
    assert clock.read(C) == 0


def test_rate_0_interrupts_never() -> None:
    clock = Clock()
    clock.write(A, 0x20)
    clock.write(B, PIE | HOURS_24)
    assert clock.events.next_ps() is None


def test_an_interrupt_that_is_not_served_schedules_nothing_more() -> None:
    clock = Clock()
    clock.write(B, PIE | HOURS_24)
    clock.events.run_until(PS_PER_SECOND)
    assert len(clock.wire.changes) == 1
    assert clock.events.next_ps() is None


def test_update_ended_interrupt() -> None:
    clock = Clock()
    clock.write(B, UIE | HOURS_24)
    clock.events.run_until(PS_PER_SECOND - 1)
    assert not clock.wire.level
    clock.events.run_until(PS_PER_SECOND)
    assert clock.wire.level
    assert clock.read(C) == IRQF | UF | PF  # PF comes up whether or not PIE is set
    assert not clock.wire.level
    clock.events.run_until(2 * PS_PER_SECOND)
    assert clock.wire.changes[-1] == (2 * PS_PER_SECOND, True)


def test_flags_come_up_without_their_enable_and_enabling_one_then_interrupts() -> None:
    clock = Clock()
    clock.events.run_until(PS_PER_SECOND)
    assert not clock.wire.level
    clock.write(B, UIE | HOURS_24)
    assert clock.wire.level
    clock.write(B, HOURS_24)
    assert not clock.wire.level
    assert clock.read(C) == UF | PF
    assert clock.read(C) == 0


def test_the_alarm_interrupts_at_its_time() -> None:
    clock = Clock(datetime(2006, 10, 1, 7, 59, 50))
    for index, value in ((5, 0x08), (3, 0x00), (1, 0x05)):
        clock.write(index, value)
    clock.write(B, AIE | HOURS_24)
    clock.events.run_until(15 * PS_PER_SECOND - 1)
    assert not clock.wire.level
    clock.events.run_until(15 * PS_PER_SECOND)
    assert clock.wire.level
    assert clock.read(C) & (IRQF | AF) == IRQF | AF


alarm_bytes = st.one_of(st.integers(0, 255), st.sampled_from([0xC0, 0xFF, 0x00, 0x59, 0x23, 0x12]))


@given(st.integers(0, 86_399), alarm_bytes, alarm_bytes, alarm_bytes)
def test_the_alarm_comes_when_a_search_of_the_whole_day_finds_it(
    now: int, hours: int, minutes: int, seconds: int
) -> None:
    clock = Clock(datetime(2006, 10, 1, now // 3600, now // 60 % 60, now % 60))
    alarms = (hours, minutes, seconds)
    for index, alarm in zip((5, 3, 1), alarms, strict=True):
        clock.write(index, alarm)
    clock.write(B, AIE | HOURS_24)

    fields = [
        [value for value in range(modulus) if alarm >= 0xC0 or alarm == value // 10 << 4 | value % 10]
        for alarm, modulus in zip(alarms, (24, 60, 60), strict=True)
    ]
    times = [hour * 3600 + minute * 60 + second for hour, minute, second in product(*fields)]
    found = min(((time - now - 1) % 86_400 + 1 for time in times), default=None)
    assert clock.events.next_ps() == (None if found is None else found * PS_PER_SECOND)


def test_an_invalid_calendar_stands_still_and_does_not_stop_the_flags() -> None:
    clock = Clock()
    clock.write(8, 0x99)
    clock.events.run_until(3 * PS_PER_SECOND)
    assert clock.calendar() == (0x20, 0x06, 0x99, 0x01, 0, 0, 0)
    assert clock.read(C) & UF


def test_time_after_the_year_9999_stands_still() -> None:
    clock = Clock(datetime(9999, 12, 31, 23, 59, 59))
    clock.events.run_until(PS_PER_SECOND)
    assert clock.calendar() == (0x99, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59)


@pytest.mark.parametrize(
    ("memory_bytes", "base_kib", "extended_kib", "above_16_mib"),
    [
        (512 << 10, 512, 0, 0),
        (16 << 20, 640, 15 << 10, 0),
        (64 << 20, 640, 63 << 10, 48 << 4),
        (1 << 40, 640, 0xFFFF, (3 << 30) - (16 << 20) >> 16),  # up to the hole for devices
    ],
)
def test_the_cmos_tells_the_memory_size(memory_bytes: int, base_kib: int, extended_kib: int, above_16_mib: int) -> None:
    clock = Clock(memory_bytes=memory_bytes)

    def word(index: int) -> int:
        return clock.read(index) | clock.read(index + 1) << 8

    assert (word(0x15), word(0x17), word(0x30), word(0x34)) == (base_kib, extended_kib, extended_kib, above_16_mib)


@pytest.mark.parametrize(
    ("memory_bytes", "above_4_gib"), [(3 << 30, 0), ((3 << 30) + (5 << 16), 5), (9 << 30, 6 << 14)]
)
def test_the_cmos_tells_what_memory_is_above_4_gib(memory_bytes: int, above_4_gib: int) -> None:
    clock = Clock(memory_bytes=memory_bytes)
    assert clock.read(0x34) | clock.read(0x35) << 8 == ((3 << 30) - (16 << 20)) >> 16
    assert clock.read(0x5B) | clock.read(0x5C) << 8 | clock.read(0x5D) << 16 == above_4_gib


def test_memory_bytes_keep_what_is_written_and_the_nmi_mask_bit_is_no_index() -> None:
    clock = Clock()
    clock.write(0x80 | 0x40, 0x5A)
    assert clock.read(0x40) == 0x5A
    clock.write(C, 0xFF)
    clock.write(D, 0x00)
    assert (clock.read(C), clock.read(D)) == (0, 0x80)


def test_uip_is_read_only() -> None:
    clock = Clock()
    clock.write(A, 0xA6)
    assert clock.read(A) == 0x26
