"""8254 programmable interval timer: three counters of 16 bits on a 1.193182 MHz clock.

A counter is never stepped. It remembers when it was loaded; count, OUT and the next change of OUT follow
from the number of CLK ticks since, in integers, so a periodic counter cannot drift:

    epoch_ps        tick 1        tick 2                       tick k = epoch_ps + ceil(k * 10^12 / CLOCK_HZ)
    |-- count N ----|--- N - 1 ---|--- ...

Ports: offsets 0-2 are the counters, offset 3 the control word:

    7  6 | 5  4 | 3  2  1 | 0
    SC   | RW   | mode    | BCD       SC 3: read-back; RW 0: latch, 1: LSB, 2: MSB, 3: LSB then MSB

Source: Intel 8254 data sheet (231164-005), "Mode Definitions". The modes and the length of a tick: i8254_modes.py.
"""

from devices.isa.i8254_modes import MODE_OF_BITS, MODES, SQUARE_WAVE, Mode, ps_of_tick, ticks_in
from emulator.bus import InterruptLine
from emulator.events import Event, EventQueue

ACCESS_LSB, ACCESS_MSB, ACCESS_BOTH = 1, 2, 3
SELECT_READ_BACK = 3
READ_BACK_NO_COUNT, READ_BACK_NO_STATUS = 0x20, 0x10

# MODEL: the CLK edge that loads a count comes at the instant of the write or of the gate's rise, so CLK has its own
# phase per load; on hardware that edge is up to one tick (838 ns) later.


class Counter:
    """One of the three counters. `on_out` follows OUT through events; without it OUT is computed when read."""

    def __init__(self, events: EventQueue, on_out: InterruptLine | None = None, *, gate: bool = True) -> None:
        self._events = events
        self._on_out = on_out
        self.gate = gate
        self.control = ACCESS_BOTH << 4  # RW, mode and BCD bits, as the status byte shows them
        self.count_register = 0  # what the guest wrote, 1-65536; 0: nothing yet
        self.reload = 0  # what the counting element was last loaded with
        self.loaded = False  # since the last control word
        self.counting = False
        self.epoch_ps = 0
        self.epoch_value = 0  # at epoch_ps: count left (may pass below 0), or position in the period
        self.held_count = 0  # what the counting element shows while not counting
        self.null_count = True
        self.switch_ps: int | None = None  # when a periodic counter takes a new count_register
        self.written_lsb: int | None = None
        self.latched_count: int | None = None
        self.latched_status: int | None = None
        self.msb_is_next = False
        self._line_level = False
        self._event: Event | None = None

    # --- what a driver does ---

    def write_control(self, control: int) -> None:
        """Program RW, mode and BCD (bits 5-0), or latch the count when RW is 0."""
        if not control >> 4 & 3:
            self.latch_count()
            return
        self._hold()
        self.control = control & 0x3F
        self.loaded = False
        self.count_register = 0
        self.null_count = True
        self.written_lsb = self.latched_count = self.latched_status = None
        self.msb_is_next = False
        self._follow_out()

    def write_count(self, byte: int) -> None:
        """Take one byte of the count, and start when it is complete."""
        self._take_pending_count()
        access = self._access
        if access == ACCESS_BOTH and self.written_lsb is None:
            self.written_lsb = byte
            if self._mode_number == 0:  # "Writing the first byte disables counting. OUT is set low immediately"
                self._hold()
                self.loaded = False
                self._follow_out()
            return
        raw = {ACCESS_LSB: byte, ACCESS_MSB: byte << 8}.get(access, byte << 8 | (self.written_lsb or 0))
        self.written_lsb = None
        self.count_register = self._decode(raw)
        if self._mode.triggered:
            self.null_count = True  # until the gate rises
        elif self._mode.periodic and self.counting and self.reload > 1:
            self.null_count = True  # until the current (half) period ends
            self.switch_ps = self._next_period_ps()
        else:
            self._load()
        self._follow_out()

    def read_count(self) -> int:
        """Next byte of the latched status, the latched count, or the running count."""
        if self.latched_status is not None:
            status, self.latched_status = self.latched_status, None
            return status
        count = self.count if self.latched_count is None else self.latched_count
        access = self._access
        high = access == ACCESS_MSB or self.msb_is_next
        self.msb_is_next = access == ACCESS_BOTH and not high
        if not self.msb_is_next:
            self.latched_count = None
        return count >> 8 if high else count & 0xFF

    def latch_count(self) -> None:
        """Freeze the count for reading; a latch that was not read yet stays."""
        if self.latched_count is None:
            self.latched_count = self.count

    def latch_status(self) -> None:
        """Freeze the status byte for reading; a latch that was not read yet stays."""
        if self.latched_status is None:
            out = self.out  # first: it may take a pending count and so change null_count
            self.latched_status = out << 7 | self.null_count << 6 | self.control

    def set_gate(self, gate: bool) -> None:
        """Drive the GATE input ("Gate Pin Operations Summary")."""
        self._take_pending_count()
        if gate == self.gate:
            return
        self.gate = gate
        mode = self._mode
        if mode.triggered or mode.periodic:
            if gate and self.count_register:
                self._load()
            elif not mode.triggered:
                self._hold()
        elif gate and self.loaded:
            self.epoch_ps = self._events.now_ps
            self.counting = True
        else:
            self._hold()
        self._follow_out()

    # --- what the pins and the counting element show now ---

    @property
    def out(self) -> bool:
        """Level of the OUT pin."""
        self._take_pending_count()
        mode = self._mode
        if not self.loaded:
            return mode.initial_out
        if not mode.periodic:
            left = self._value()
            return left != 0 if mode.strobe else left <= 0
        if not self.counting or self.reload == 1:
            return True
        return self._value() % self.reload < self._high_ticks(self.reload)

    @property
    def count(self) -> int:
        """The counting element as the guest reads it: 16 bits, binary or BCD."""
        self._take_pending_count()
        return self._shown(self._value()) if self.counting else self.held_count

    # --- inside ---

    @property
    def _mode_number(self) -> int:
        return MODE_OF_BITS[self.control >> 1 & 7]

    @property
    def _mode(self) -> Mode:
        return MODES[self._mode_number]

    @property
    def _access(self) -> int:
        return self.control >> 4

    def _value(self) -> int:
        """epoch_value carried on to now: down for one-shots, up for the position in a period."""
        ticks = ticks_in(self._events.now_ps - self.epoch_ps) if self.counting else 0
        return self.epoch_value + ticks if self._mode.periodic else self.epoch_value - ticks

    def _shown(self, value: int) -> int:
        """What the counting element shows when _value() is `value`."""
        if not self._mode.periodic:
            return self._encode(value)
        position = value % self.reload
        if self._mode_number != SQUARE_WAVE:
            return self._encode(self.reload - position)
        high_ticks = self._high_ticks(self.reload)
        in_half = position if position < high_ticks else position - high_ticks
        return self._encode((self.reload & ~1) - 2 * in_half)  # odd counts start one lower, all go by twos

    def _high_ticks(self, reload: int) -> int:
        """Ticks of a period with OUT high, which come first."""
        return (reload + 1) // 2 if self._mode_number == SQUARE_WAVE else reload - 1

    def _load(self) -> None:
        """Move the count register into the counting element."""
        self.reload = self.count_register
        self.epoch_ps = self._events.now_ps
        self.epoch_value = 0 if self._mode.periodic else self.reload
        self.held_count = self._shown(self.epoch_value)
        self.counting = self.gate or self._mode.triggered
        self.loaded = True
        self.null_count = False
        self.switch_ps = None

    def _hold(self) -> None:
        """Stop counting and keep what the counting element shows."""
        self._take_pending_count()
        if self.counting:
            self.epoch_value = self._value()
            if self._mode.strobe and not self.epoch_value:
                self.epoch_value = -1  # MODEL: a falling gate ends a strobe, and its tick, at once
            self.held_count = self._shown(self.epoch_value)
        self.counting = False
        self.switch_ps = None

    def _take_pending_count(self) -> None:
        """Let a periodic counter go over to its new count if the (half) period has ended since."""
        if self.switch_ps is None or self._events.now_ps < self.switch_ps:
            return
        ticks = ticks_in(self.switch_ps - self.epoch_ps)
        ends_high_half = (self.epoch_value + ticks) % self.reload != 0
        self.reload = self.count_register
        # The epoch stays: moving it to the rounded switch_ps would shift CLK by up to a picosecond.
        self.epoch_value = (self._high_ticks(self.reload) if ends_high_half else 0) - ticks
        self.null_count = False
        self.switch_ps = None

    def _next_period_ps(self) -> int:
        """When a periodic counter next reloads: at the end of the period, in mode 3 of the half period."""
        now = self._value()
        start = now - now % self.reload
        high_ticks = self._high_ticks(self.reload)
        at_half = self._mode_number == SQUARE_WAVE and now - start < high_ticks
        return self._ps_at_position(start + (high_ticks if at_half else self.reload))

    def _ps_at_position(self, position: int) -> int:
        return self.epoch_ps + ps_of_tick(position - self.epoch_value)

    def _next_change_ps(self) -> int | None:
        """When OUT changes next if nobody touches the counter, or None."""
        if not self.counting:
            return None
        value = self._value()
        if self._mode.periodic:
            if self.reload == 1:
                return None  # MODEL: a count of 1, illegal in modes 2 and 3, leaves OUT high
            start = value - value % self.reload
            high_ticks = self._high_ticks(self.reload)
            return self._ps_at_position(start + (high_ticks if value - start < high_ticks else self.reload))
        if value > 0:
            return self.epoch_ps + ps_of_tick(self.epoch_value)
        if value == 0 and self._mode.strobe:
            return self.epoch_ps + ps_of_tick(self.epoch_value + 1)
        return None

    def _follow_out(self) -> None:
        """Drive the line to OUT and schedule the next change."""
        if self._on_out is None:
            return
        out = self.out
        self._events.cancel(self._event)
        next_ps = self._next_change_ps()
        self._event = None if next_ps is None else self._events.schedule(next_ps, self._follow_out)
        if out != self._line_level:
            self._line_level = out
            self._on_out(out)

    def _decode(self, raw: int) -> int:
        """Count that the 16 bits `raw` stand for; 0 means the largest."""
        if not self.control & 1:
            return raw or 0x10000
        # MODEL: BCD digits above 9, undefined on hardware, keep their weight.
        return sum((raw >> 4 * i & 0xF) * 10**i for i in range(4)) or 10_000

    def _encode(self, count: int) -> int:
        """16 bits that show `count`, which may have passed below 0."""
        if not self.control & 1:
            return count & 0xFFFF
        return sum(count // 10**i % 10 << 4 * i for i in range(4))


class I8254:
    """The chip: counters at offsets 0-2, control word at offset 3. Gates 0 and 1 are tied high, as on a PC."""

    widths_bytes: tuple[int, ...] = (1,)

    def __init__(self, events: EventQueue, line: InterruptLine) -> None:
        self.counters = (Counter(events, line), Counter(events), Counter(events, gate=False))

    def read(self, offset: int, size_bytes: int) -> int:
        """Next byte of a counter; the control word cannot be read."""
        return self.counters[offset].read_count() if offset < 3 else 0xFF

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Byte of a count, or a control word."""
        if offset < 3:
            self.counters[offset].write_count(value)
        elif value >> 6 == SELECT_READ_BACK:
            self._read_back(value)
        else:
            self.counters[value >> 6].write_control(value)

    def _read_back(self, command: int) -> None:
        for number, counter in enumerate(self.counters):
            if command >> number + 1 & 1:
                if not command & READ_BACK_NO_COUNT:
                    counter.latch_count()
                if not command & READ_BACK_NO_STATUS:
                    counter.latch_status()
