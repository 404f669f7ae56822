"""The timer as a kernel's driver uses it, with exact times, and against a counter that is stepped tick by tick."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.isa.i8254 import I8254, Counter
from devices.isa.i8254_modes import CLOCK_HZ, ps_of_tick
from devices.isa.system_control import SystemControlPortB
from emulator.events import EventQueue
from tests.devices.wire import Wire

PS = 10**12
CONTROL = 3


class Timer:
    """A chip with counter 0 on a wire."""

    def __init__(self) -> None:
        self.events = EventQueue()
        self.wire = Wire(self.events)
        self.chip = I8254(self.events, self.wire)

    def program(self, counter: int, mode: int, count: int, *, bcd: bool = False) -> None:
        self.chip.write(CONTROL, 1, counter << 6 | 0x30 | mode << 1 | bcd)
        self.chip.write(counter, 1, count & 0xFF)
        self.chip.write(counter, 1, count >> 8)

    def run_to_tick(self, tick: int, *, early_ps: int = 0) -> None:
        self.events.run_until(ps_of_tick(tick) - early_ps)

    def read16(self, counter: int) -> int:
        return self.chip.read(counter, 1) | self.chip.read(counter, 1) << 8


@pytest.mark.parametrize(
    ("tick", "when_ps"),
    [(0, 0), (1, 838_096), (2, 1_676_191), (CLOCK_HZ, PS), (10**6 * CLOCK_HZ + 1, 10**6 * PS + 838_096)],
)
def test_ticks_come_at_the_first_picosecond_after_their_exact_time(tick: int, when_ps: int) -> None:
    assert ps_of_tick(tick) == when_ps


def test_mode_0_raises_out_when_the_count_is_spent_and_not_a_picosecond_earlier() -> None:
    timer = Timer()
    timer.program(0, 0, 1000)
    timer.run_to_tick(1000, early_ps=1)
    assert not timer.wire.level
    timer.run_to_tick(1000)
    assert timer.wire.changes == [(ps_of_tick(1000), True)]
    timer.run_to_tick(200_000)
    assert len(timer.wire.changes) == 1  # it counts on, but OUT stays


def test_mode_0_first_byte_of_a_new_count_lowers_out_and_stops() -> None:
    timer = Timer()
    timer.program(0, 0, 10)
    timer.run_to_tick(4)
    timer.chip.write(0, 1, 20)
    timer.run_to_tick(50)
    assert timer.wire.changes == []
    assert timer.read16(0) == 6
    timer.chip.write(0, 1, 0)
    timer.events.run_until(ps_of_tick(50) + ps_of_tick(20))
    assert timer.wire.changes == [(ps_of_tick(50) + ps_of_tick(20), True)]


def test_mode_2_is_low_for_the_last_tick_of_each_period() -> None:
    timer = Timer()
    timer.program(0, 2, 1193)
    timer.run_to_tick(3 * 1193)
    assert timer.wire.changes == [
        (0, True),
        (ps_of_tick(1192), False),
        (ps_of_tick(1193), True),
        (ps_of_tick(2 * 1193 - 1), False),
        (ps_of_tick(2 * 1193), True),
        (ps_of_tick(3 * 1193 - 1), False),
        (ps_of_tick(3 * 1193), True),
    ]


@given(st.integers(2, 0x10000), st.integers(1, 10**9), st.sampled_from([2, 3]))
def test_a_periodic_counter_never_drifts(count: int, period: int, mode: int) -> None:
    timer = Timer()
    timer.events.now_ps = start_ps = 12_345_678_901
    timer.program(0, mode, count & 0xFFFF)
    timer.wire.changes.clear()
    boundary_ps = start_ps + -(-period * count * PS // CLOCK_HZ)
    timer.events.now_ps = (
        boundary_ps - ps_of_tick(1) // 2
    )  # as if nothing had looked at the counter until its last tick
    timer.chip.counters[0]._follow_out()
    timer.wire.changes.clear()
    timer.events.run_until(boundary_ps - 1)
    assert timer.wire.changes == []
    timer.events.run_until(boundary_ps)
    assert timer.wire.changes == [(boundary_ps, True)]


def test_mode_3_halves_odd_counts_with_the_longer_half_high() -> None:
    timer = Timer()
    timer.program(0, 3, 7)
    timer.run_to_tick(14)
    assert timer.wire.changes == [
        (ps_of_tick(tick), level) for tick, level in ((0, True), (4, False), (7, True), (11, False), (14, True))
    ]


def test_a_new_count_in_mode_2_waits_for_the_end_of_the_period() -> None:
    timer = Timer()
    timer.program(0, 2, 100)
    timer.run_to_tick(30)
    timer.chip.write(0, 1, 10)
    timer.chip.write(0, 1, 0)
    assert timer.read16(0) == 70
    timer.chip.write(CONTROL, 1, 0xE2)
    assert timer.chip.read(0, 1) == 0x80 | 0x40 | 0x34  # OUT high, null count, programming
    timer.wire.changes.clear()
    timer.run_to_tick(110)
    assert [when_ps for when_ps, level in timer.wire.changes if level] == [ps_of_tick(100), ps_of_tick(110)]
    timer.chip.write(CONTROL, 1, 0xE2)
    assert timer.chip.read(0, 1) == 0x80 | 0x34


def test_mode_4_strobes_low_for_one_tick_when_the_count_is_spent() -> None:
    timer = Timer()
    timer.program(0, 4, 50)
    timer.run_to_tick(70_000)
    assert timer.wire.changes == [(0, True), (ps_of_tick(50), False), (ps_of_tick(51), True)]


def test_a_count_of_zero_is_the_largest() -> None:
    timer = Timer()
    timer.program(0, 0, 0)
    timer.run_to_tick(0x10000, early_ps=1)
    assert not timer.wire.level
    timer.run_to_tick(0x10000)
    assert timer.wire.level
    timer = Timer()
    timer.program(0, 0, 0, bcd=True)
    timer.run_to_tick(10_000, early_ps=1)
    assert not timer.wire.level
    timer.run_to_tick(10_000)
    assert timer.wire.level


def test_bcd_counts_down_in_decimal_and_wraps_to_9999() -> None:
    timer = Timer()
    timer.program(2, 0, 0x1000, bcd=True)
    timer.chip.counters[2].set_gate(True)
    timer.run_to_tick(1)
    assert timer.read16(2) == 0x0999
    timer.run_to_tick(1001)
    assert timer.read16(2) == 0x9999


def test_a_count_of_one_in_a_periodic_mode_leaves_out_high_and_schedules_nothing() -> None:
    for mode in (2, 3):
        timer = Timer()
        timer.program(0, mode, 1)
        assert timer.wire.level
        assert timer.events.next_ps() is None


def test_a_latched_count_stays_until_both_bytes_are_read() -> None:
    timer = Timer()
    timer.program(0, 2, 0x1234)
    timer.run_to_tick(0x34)
    timer.chip.write(CONTROL, 1, 0x00)
    timer.run_to_tick(0x100)
    timer.chip.write(CONTROL, 1, 0x00)  # a second latch is ignored
    assert timer.read16(0) == 0x1200
    assert timer.read16(0) == 0x1134


def test_lsb_only_and_msb_only_access() -> None:
    timer = Timer()
    timer.chip.write(CONTROL, 1, 0x10)
    timer.chip.write(0, 1, 5)
    timer.run_to_tick(2)
    assert [timer.chip.read(0, 1) for _ in range(2)] == [3, 3]
    timer.run_to_tick(5)
    assert timer.wire.level
    timer = Timer()
    timer.chip.write(CONTROL, 1, 0x20)
    timer.chip.write(0, 1, 2)
    timer.run_to_tick(1)
    assert [timer.chip.read(0, 1) for _ in range(2)] == [1, 1]
    timer.run_to_tick(512, early_ps=1)
    assert not timer.wire.level
    timer.run_to_tick(512)
    assert timer.wire.level


def test_read_back_latches_status_and_count_of_the_chosen_counters() -> None:
    timer = Timer()
    timer.program(0, 2, 1000)
    timer.program(2, 0, 500)
    timer.run_to_tick(100)
    timer.chip.write(CONTROL, 1, 0xC0 | 0x0A)
    timer.run_to_tick(200)
    assert timer.chip.read(0, 1) == 0x80 | 0x34  # status first
    assert timer.read16(0) == 900
    assert timer.chip.read(2, 1) == 0x30
    assert timer.read16(2) == 500  # gate 2 is low
    assert timer.read16(0) == 800
    timer.chip.write(CONTROL, 1, 0xC0 | 0x20 | 0x10 | 0x02)  # neither
    assert timer.read16(0) == 800


def test_the_control_word_cannot_be_read() -> None:
    assert Timer().chip.read(CONTROL, 1) == 0xFF


def test_linux_calibrates_its_tsc_with_counter_2_and_port_0x61() -> None:
    timer = Timer()
    port = SystemControlPortB(timer.events, timer.chip.counters[2])
    port.write(0, 1, port.read(0, 1) & ~0x02 | 0x01)  # speaker off, gate on
    latch = CLOCK_HZ // 100
    timer.program(2, 0, latch)
    assert port.read(0, 1) & 0x2F == 0x01
    timer.run_to_tick(latch, early_ps=1)
    assert not port.read(0, 1) & 0x20
    timer.run_to_tick(latch)
    assert port.read(0, 1) & 0x2F == 0x21


def test_the_gate_of_port_0x61_pauses_mode_0() -> None:
    timer = Timer()
    port = SystemControlPortB(timer.events, timer.chip.counters[2])
    timer.program(2, 0, 100)
    timer.run_to_tick(1000)
    assert timer.read16(2) == 100
    port.write(0, 1, 0xF3)
    assert port.read(0, 1) & 0xCF == 0x03  # only bits 3-0 are writable
    timer.events.run_until(timer.events.now_ps + ps_of_tick(60))
    port.write(0, 1, 0x02)
    timer.events.run_until(timer.events.now_ps + ps_of_tick(1000))
    assert timer.read16(2) == 40


def test_the_refresh_bit_toggles_every_18_ticks() -> None:
    timer = Timer()
    port = SystemControlPortB(timer.events, timer.chip.counters[2])
    for tick, bit in ((17, 0), (18, 1), (35, 1), (36, 0)):
        timer.run_to_tick(tick)
        assert port.read(0, 1) >> 4 & 1 == bit, tick


class SteppedCounter:
    """The data sheet's mode definitions as a machine that is clocked one tick at a time; counts of 2 and up."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.out = mode != 0
        self.gate = True
        self.written = 0
        self.reload = 0
        self.count: int | None = None  # None: nothing loaded yet
        self.spent = False  # one-shots: the count has reached 0 once
        self.changes = 0

    def set_out(self, out: bool) -> None:
        self.changes += out != self.out
        self.out = out

    def load(self) -> None:
        self.reload = self.written
        self.count = self.reload & ~1 if self.mode == 3 else self.reload
        self.spent = False
        self.set_out(self.mode not in (0, 1))

    def write(self, count: int) -> None:
        self.written = count
        if self.mode in (0, 4) or (self.mode in (2, 3) and (self.count is None or not self.gate)):
            self.load()

    def set_gate(self, gate: bool) -> None:
        rises, falls, self.gate = gate and not self.gate, self.gate and not gate, gate
        if rises and self.written and self.mode in (1, 2, 3, 5):
            self.load()
        if falls and self.mode in (2, 3):
            self.set_out(True)
        if falls and self.mode == 4 and self.count == 0 and not self.out:
            self.set_out(True)
            self.count = -1

    def tick(self) -> None:
        if self.count is None or (not self.gate and self.mode not in (1, 5)):
            return
        if self.mode == 3:
            self.tick_square_wave()
            return
        self.count -= 1
        if self.mode == 2:
            self.set_out(self.count != 1)
            if self.count == 0:
                self.reload = self.count = self.written
        elif self.mode in (0, 1) and self.count == 0:
            self.set_out(True)
        elif self.mode in (4, 5):
            self.set_out(self.count != 0 or self.spent)
            self.spent |= self.count == 0

    def tick_square_wave(self) -> None:
        assert self.count is not None
        if self.reload & 1 and self.out and self.count > 0:
            self.count -= 2
            return
        self.count -= 2
        if self.count <= 0:
            self.set_out(not self.out)
            self.reload = self.written
            self.count = self.reload & ~1


counter_traffic = st.lists(
    st.one_of(
        st.tuples(st.just("count"), st.integers(2, 13)),
        st.tuples(st.just("gate"), st.integers(0, 1)),
        st.tuples(st.just("ticks"), st.integers(1, 40)),
    ),
    max_size=30,
)


@given(st.integers(0, 5), counter_traffic)
def test_a_counter_agrees_with_one_that_is_stepped(mode: int, operations: list[tuple[str, int]]) -> None:
    events = EventQueue()
    wire = Wire(events)
    counter = Counter(events, wire)
    counter.write_control(0x10 | mode << 1)
    wire.changes.clear()
    stepped = SteppedCounter(mode)
    for operation, number in operations:
        if operation == "count":
            counter.write_count(number)
            stepped.write(number)
        elif operation == "gate":
            counter.set_gate(bool(number))
            stepped.set_gate(bool(number))
        else:
            events.run_until(events.now_ps + ps_of_tick(number))
            for _ in range(number):
                stepped.tick()
        assert wire.level == counter.out == stepped.out
        assert len(wire.changes) == stepped.changes
        if stepped.count is not None:
            assert counter.count == stepped.count & 0xFFFF


def test_a_control_word_starts_the_byte_order_over() -> None:
    timer = Timer()
    timer.program(2, 0, 0x1234)
    assert timer.chip.read(2, 1) == 0x34
    timer.program(2, 0, 0x5678)
    assert timer.read16(2) == 0x5678
    timer.chip.write(2, 1, 0xAA)  # half a count
    timer.program(2, 0, 0x5678)
    assert timer.read16(2) == 0x5678
