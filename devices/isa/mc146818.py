"""MC146818 real-time clock with the PC's 114 bytes of CMOS memory.

    index  0 seconds  2 minutes  4 hours  6 day of week  7 day  8 month  9 year   (1, 3, 5: alarm)
           10-13 registers A-D    14-127 memory: 0x15-0x18, 0x30, 0x31, 0x34, 0x35 memory size, 0x32 century

Nothing is stepped: the chip knows up to when its flags and calendar are right (`synced_ps`) and catches up when it
is accessed or when an enabled interrupt is due. All its edges come from one divider chain:

    divider_epoch_ps + k s             seconds change, "update ended"; UIP is high the last 2228 us before
    divider_epoch_ps + k * RS period   periodic flag

There is no workstation clock: the calendar starts at a fixed date and runs on queue time. Sources: Motorola
MC146818A data sheet (ADI856R1); IBM PC AT technical reference, "Real-time Clock/CMOS RAM", for the memory bytes.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product

from emulator.bus import InterruptLine
from emulator.events import PS_PER_SECOND, Event, EventQueue
from emulator.memory import LOW_END

DEFAULT_START = datetime(2006, 10, 1)
PS_PER_US = 10**6
UPDATE_IN_PROGRESS_PS = (244 + 1984) * PS_PER_US  # tBUC + tUC with the 32.768 kHz crystal
CRYSTAL_HZ = 32_768
SECONDS_PER_DAY = 86_400

SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM, WEEKDAY, DAY, MONTH, YEAR = range(10)
REG_A, REG_B, REG_C, REG_D, CENTURY = 10, 11, 12, 13, 0x32
CALENDAR = (SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY)
CMOS_BYTES = 128

A_UIP, A_DIVIDER, A_RATE = 0x80, 0x70, 0x0F
DIVIDER_RUNNING = 0x20  # DV = 010: 32.768 kHz; every other value stops the PC's clock
B_SET, B_PERIODIC, B_ALARM, B_UPDATE, B_BINARY, B_24_HOURS = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
C_REQUEST, FLAGS = 0x80, 0x70  # flag bits of C stand where their enable bits stand in B
D_VALID_RAM_AND_TIME = 0x80
HOUR_PM = 0x80
ALARM_DONT_CARE = 0xC0  # an alarm byte of 0xc0-0xff matches any value

# RS -> crystal cycles per periodic interrupt; 0 is none ("Table 5 - Periodic Interrupt Rate and Square Wave Output").
PERIOD_CYCLES = (0, 128, 256, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)

# MODEL: a calendar that holds no valid date stands still; hardware counts on in undocumented ways.
# MODEL: registers read during an update cycle show the old time instead of undefined values.
# MODEL: daylight saving (DSE) and the square wave pin (SQWE) are bits without effect.


@dataclass(frozen=True)
class MemorySizeByte:
    """One CMOS byte that tells the memory size: bits of min((memory - base) / unit, 0xffff)."""

    index: int
    base_bytes: int
    unit_bytes: int
    shift: int


# fmt: off
MEMORY_SIZE = (
    MemorySizeByte(index=0x17, base_bytes=1 << 20,  unit_bytes=1 << 10, shift=0),  # extended memory, KiB above 1 MiB
    MemorySizeByte(index=0x18, base_bytes=1 << 20,  unit_bytes=1 << 10, shift=8),
    MemorySizeByte(index=0x30, base_bytes=1 << 20,  unit_bytes=1 << 10, shift=0),  # the same, as found by the BIOS
    MemorySizeByte(index=0x31, base_bytes=1 << 20,  unit_bytes=1 << 10, shift=8),
    MemorySizeByte(index=0x34, base_bytes=16 << 20, unit_bytes=1 << 16, shift=0),  # 64 KiB units above 16 MiB
    MemorySizeByte(index=0x35, base_bytes=16 << 20, unit_bytes=1 << 16, shift=8),
)
HIGH_MEMORY_SIZE = (0x5B, 0x5C, 0x5D)  # 64 KiB units above 4 GiB, as QEMU tells its firmware
# fmt: on
BASE_MEMORY_BYTES = 640 << 10  # 0x15 and 0x16, KiB


class Mc146818:
    """The chip behind its index port (offset 0) and data port (offset 1)."""

    widths_bytes: tuple[int, ...] = (1,)

    def __init__(
        self, events: EventQueue, line: InterruptLine, *, memory_bytes: int, start: datetime = DEFAULT_START
    ) -> None:
        self._events = events
        self._line = line
        self._line_level = False
        self._event: Event | None = None
        self.index = 0
        self.cmos = bytearray(CMOS_BYTES)
        self.cmos[REG_A] = DIVIDER_RUNNING | 6
        self.cmos[REG_B] = B_24_HOURS
        self.cmos[REG_D] = D_VALID_RAM_AND_TIME
        self.divider_epoch_ps = events.now_ps
        self.synced_ps = events.now_ps
        self._store_calendar(start, start.isoweekday() % 7 + 1)
        self._store_memory_size(memory_bytes)

    def read(self, offset: int, size_bytes: int) -> int:
        """The byte at the index; the index port itself is write-only. Reading register C clears it."""
        if offset == 0:
            return 0xFF
        self._catch_up()
        value = self.cmos[self.index]
        if self.index == REG_A:
            return value | (A_UIP if self._update_in_progress() else 0)
        if self.index == REG_C:
            self.cmos[REG_C] = 0
            self._drive_line()
        return value

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Choose the index (bit 7, the NMI mask, goes elsewhere), or store a byte there."""
        if offset == 0:
            self.index = value & CMOS_BYTES - 1
            return
        self._catch_up()
        if self.index == REG_A:
            self._write_a(value)
        elif self.index == REG_B:
            self.cmos[REG_B] = value & ~B_UPDATE if value & B_SET else value  # "SET ... clears UIE"
        elif self.index not in (REG_C, REG_D):
            self.cmos[self.index] = value
        self._drive_line()

    # --- time ---

    def _write_a(self, value: int) -> None:
        was_running = self._divider_runs()
        self.cmos[REG_A] = value & ~A_UIP
        if self._divider_runs() and not was_running:  # "the first update cycle begins one-half second later"
            self.divider_epoch_ps = self._events.now_ps - PS_PER_SECOND // 2

    def _divider_runs(self) -> bool:
        return self.cmos[REG_A] & A_DIVIDER == DIVIDER_RUNNING

    def _update_in_progress(self) -> bool:
        if not self._divider_runs() or self.cmos[REG_B] & B_SET:
            return False
        into_second_ps = (self._events.now_ps - self.divider_epoch_ps) % PS_PER_SECOND
        return into_second_ps >= PS_PER_SECOND - UPDATE_IN_PROGRESS_PS

    def _catch_up(self) -> None:
        """Bring calendar and flags from synced_ps to now."""
        before_ps, now_ps = self.synced_ps - self.divider_epoch_ps, self._events.now_ps - self.divider_epoch_ps
        self.synced_ps = self._events.now_ps
        if not self._divider_runs():
            return
        cycles = PERIOD_CYCLES[self.cmos[REG_A] & A_RATE]
        if cycles and _periods_in(now_ps, cycles) > _periods_in(before_ps, cycles):
            self.cmos[REG_C] |= B_PERIODIC
        seconds = now_ps // PS_PER_SECOND - before_ps // PS_PER_SECOND
        if seconds and not self.cmos[REG_B] & B_SET:
            alarm_seconds = self._seconds_to_alarm()
            if alarm_seconds is not None and alarm_seconds <= seconds:
                self.cmos[REG_C] |= B_ALARM
            self.cmos[REG_C] |= B_UPDATE
            self._advance_calendar(seconds)
        self._set_irqf()

    def _due(self) -> None:
        self._catch_up()
        self._drive_line()

    def _drive_line(self) -> None:
        """IRQF and the line follow the enabled flags; while none is up, schedule the next."""
        self._set_irqf()
        request = bool(self.cmos[REG_C] & C_REQUEST)
        self._events.cancel(self._event)
        next_ps = None if request else self._next_interrupt_ps()
        self._event = None if next_ps is None else self._events.schedule(next_ps, self._due)
        if request != self._line_level:
            self._line_level = request
            self._line(request)

    def _set_irqf(self) -> None:
        flags = self.cmos[REG_C] & FLAGS
        self.cmos[REG_C] = flags | (C_REQUEST if flags & self.cmos[REG_B] else 0)

    def _next_interrupt_ps(self) -> int | None:
        """When the first enabled flag will come up, or None; the calendar must be up to date."""
        if not self._divider_runs():
            return None
        enables = self.cmos[REG_B]
        since_ps = self._events.now_ps - self.divider_epoch_ps
        due_ps: list[int] = []
        cycles = PERIOD_CYCLES[self.cmos[REG_A] & A_RATE]
        if enables & B_PERIODIC and cycles:
            period_number = _periods_in(since_ps, cycles) + 1
            due_ps.append(-(-period_number * cycles * PS_PER_SECOND // CRYSTAL_HZ))
        second = since_ps // PS_PER_SECOND
        if enables & B_UPDATE and not enables & B_SET:
            due_ps.append((second + 1) * PS_PER_SECOND)
        alarm_seconds = self._seconds_to_alarm() if enables & B_ALARM and not enables & B_SET else None
        if alarm_seconds is not None:
            due_ps.append((second + alarm_seconds) * PS_PER_SECOND)
        return self.divider_epoch_ps + min(due_ps) if due_ps else None

    # --- calendar ---

    def _seconds_to_alarm(self) -> int | None:
        """Seconds from the calendar's time to the next that matches the alarm (1 to a day), or None.

        In each field the next match shares the current value, is one higher, or starts over at 0.
        """
        if self._calendar_time() is None:
            return None
        choices: list[set[int]] = []
        now = [self._decode(register) for register in (HOURS, MINUTES, SECONDS)]
        for current, modulus, alarm in zip(now, (24, 60, 60), (HOURS_ALARM, MINUTES_ALARM, SECONDS_ALARM), strict=True):
            if self.cmos[alarm] >= ALARM_DONT_CARE:
                choices.append({current, (current + 1) % modulus, 0})
            elif (value := self._decode(alarm)) < modulus and self._encode(alarm, value) == self.cmos[alarm]:
                choices.append({value})
            else:
                return None
        now_seconds = (now[0] * 60 + now[1]) * 60 + now[2]
        return min(
            ((hour * 60 + minute) * 60 + second - now_seconds - 1) % SECONDS_PER_DAY + 1
            for hour, minute, second in product(*choices)
        )

    def _advance_calendar(self, seconds: int) -> None:
        time = self._calendar_time()
        if time is None:
            return
        try:
            later = time + timedelta(seconds=seconds)
        except OverflowError:  # past the year 9999, which the registers cannot show
            return
        days = later.toordinal() - time.toordinal()
        self._store_calendar(later, (self._decode(WEEKDAY) - 1 + days) % 7 + 1)

    def _calendar_time(self) -> datetime | None:
        """Date and time in the registers, or None if they hold none."""
        century, year, month, day, hour, minute, second = (
            self._decode(register) for register in (CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS)
        )
        try:
            return datetime(century * 100 + year, month, day, hour, minute, second)
        except (ValueError, OverflowError):
            return None

    def _store_calendar(self, time: datetime, weekday: int) -> None:
        values = (time.second, time.minute, time.hour, weekday, time.day, time.month, time.year % 100, time.year // 100)
        for register, value in zip(CALENDAR, values, strict=True):
            self.cmos[register] = self._encode(register, value)

    def _decode(self, register: int) -> int:
        """Number in a time register: BCD or binary, hours in 12 or 24 hour format, both as register B says."""
        raw = self.cmos[register]
        twelve_hours = register in (HOURS, HOURS_ALARM) and not self.cmos[REG_B] & B_24_HOURS
        digits = raw & ~HOUR_PM if twelve_hours else raw
        value = digits if self._is_binary(register) else (digits >> 4) * 10 + (digits & 0xF)
        if twelve_hours:
            return value % 12 + (12 if raw & HOUR_PM else 0)
        return value

    def _encode(self, register: int, value: int) -> int:
        """The inverse of _decode."""
        pm = 0
        if register in (HOURS, HOURS_ALARM) and not self.cmos[REG_B] & B_24_HOURS:
            pm = HOUR_PM if value >= 12 else 0
            value = (value - 1) % 12 + 1
        return pm | (value if self._is_binary(register) else value // 10 << 4 | value % 10)

    def _is_binary(self, register: int) -> bool:
        return bool(self.cmos[REG_B] & B_BINARY) and register != CENTURY  # the century is memory, always BCD

    def _store_memory_size(self, memory_bytes: int) -> None:
        base_kib = min(memory_bytes, BASE_MEMORY_BYTES) >> 10
        self.cmos[0x15], self.cmos[0x16] = base_kib & 0xFF, base_kib >> 8
        low_bytes = min(memory_bytes, LOW_END)
        for row in MEMORY_SIZE:
            units = min(max(low_bytes - row.base_bytes, 0) // row.unit_bytes, 0xFFFF)
            self.cmos[row.index] = units >> row.shift & 0xFF
        for byte, index in enumerate(HIGH_MEMORY_SIZE):
            self.cmos[index] = memory_bytes - low_bytes >> 16 + 8 * byte & 0xFF


def _periods_in(duration_ps: int, cycles: int) -> int:
    """Whole periods of `cycles` crystal cycles in `duration_ps`."""
    return duration_ps * CRYSTAL_HZ // (cycles * PS_PER_SECOND)
