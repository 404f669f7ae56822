"""I/O APIC 82093AA: 24 interrupt inputs, each with an entry that says which message it sends to the local APICs.

    pin --(edge, or level and no remote IRR)--> redirection entry --> InterruptMessage --> InterruptBus
                          ^                                                                    |
                          +---- remote IRR of level-triggered entries <------ EOI of a CPU ----+

Registers are reached through two: IOREGSEL (offset 0x00, an index) and IOWIN (0x10, 32 bits).

    63 .. 56      16    15     14          13        12      11       10 9 8         7 .. 0
    destination   mask  level  remote IRR  polarity  status  logical  delivery mode  vector     RO: remote IRR, status

Source: Intel 82093AA data sheet (290566-001), 3.0 and 3.2.4.

MODEL: a line is asserted or not whatever the polarity bit says; a message to nobody counts as delivered.
"""

from functools import partial

from devices.interrupts.interrupt_bus import DeliveryMode, InterruptBus, InterruptMessage
from emulator.bus import InterruptLine

PIN_COUNT = 24
IOAPIC_BYTES = 0x1000
SELECT, WINDOW = 0x00, 0x10
ID, VERSION, ARBITRATION, REDIRECTION = 0x00, 0x01, 0x02, 0x10
VERSION_VALUE = (PIN_COUNT - 1) << 16 | 0x11
ID_BITS = 0x0F00_0000

LOGICAL, REMOTE_IRR, LEVEL, MASKED = 1 << 11, 1 << 14, 1 << 15, 1 << 16
LOW_WRITABLE = 0x1_AFFF
HIGH_WRITABLE = 0xFF00_0000
WITH_REMOTE_IRR = (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY)


class IoApic:
    """The chip, with I/O APIC ID `number`."""

    widths_bytes: tuple[int, ...] = (1, 4)

    def __init__(self, bus: InterruptBus, *, number: int) -> None:
        self._bus = bus
        self.id = number << 24 & ID_BITS
        self.selected = 0
        self.lines = 0  # levels of the pins
        self.entries = [MASKED] * PIN_COUNT  # 64 bits each
        bus.on_eoi.append(self.end_of_interrupt)

    def line(self, pin: int) -> InterruptLine:
        """The wire to input `pin`. Raises ValueError when there is none."""
        if not 0 <= pin < PIN_COUNT:
            raise ValueError(f"pin {pin} is not an input of the I/O APIC")
        return partial(self.set_line, pin)

    def set_line(self, pin: int, asserted: bool) -> None:
        """Drive an input. An edge on a masked pin is lost; a level is seen when it is unmasked."""
        bit = 1 << pin
        rises = asserted and not self.lines & bit
        self.lines = self.lines | bit if asserted else self.lines & ~bit
        entry = self.entries[pin]
        if entry & LEVEL:
            self._follow_level(pin)
        elif rises and not entry & MASKED:
            self._send(entry)

    def _follow_level(self, pin: int) -> None:
        """Send what a level-triggered pin asks for, unless it is masked or being served."""
        entry = self.entries[pin]
        if entry & (LEVEL | MASKED | REMOTE_IRR) == LEVEL and self.lines >> pin & 1:
            if entry >> 8 & 7 in WITH_REMOTE_IRR:
                self.entries[pin] |= REMOTE_IRR
            self._send(entry)

    def _send(self, entry: int) -> None:
        mode = entry >> 8 & 7
        self._bus.send(
            InterruptMessage(
                vector=entry & 0xFF,
                delivery_mode=mode,
                destination=entry >> 56,
                is_logical=bool(entry & LOGICAL),
                is_level=bool(entry & LEVEL) and mode in WITH_REMOTE_IRR,
            )
        )

    def end_of_interrupt(self, vector: int) -> None:
        """A local APIC finished a level-triggered interrupt: entries with its vector may send again."""
        for pin, entry in enumerate(self.entries):
            if entry & REMOTE_IRR and entry & 0xFF == vector:
                self.entries[pin] = entry & ~REMOTE_IRR
                self._follow_level(pin)

    # --- registers ---

    def read(self, offset: int, size_bytes: int) -> int:
        """IOREGSEL, or the register it selects; other offsets, and the window but as 32 bits, read 0."""
        if offset == SELECT:
            return self.selected
        return self._read_selected() if offset == WINDOW and size_bytes == 4 else 0

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Select a register, or write the selected one."""
        if offset == SELECT:
            self.selected = value & 0xFF
        elif offset == WINDOW and size_bytes == 4:
            self._write_selected(value)

    def _read_selected(self) -> int:
        pin, is_high = divmod(self.selected - REDIRECTION, 2)
        if 0 <= pin < PIN_COUNT:
            return self.entries[pin] >> 32 * is_high & 0xFFFF_FFFF
        return {ID: self.id, VERSION: VERSION_VALUE, ARBITRATION: self.id}.get(self.selected, 0)

    def _write_selected(self, value: int) -> None:
        pin, is_high = divmod(self.selected - REDIRECTION, 2)
        if self.selected == ID:
            self.id = value & ID_BITS
        elif 0 <= pin < PIN_COUNT and is_high:
            self.entries[pin] = self.entries[pin] & 0xFFFF_FFFF | (value & HIGH_WRITABLE) << 32
        elif 0 <= pin < PIN_COUNT:
            kept = REMOTE_IRR if value & LEVEL else 0  # an edge-triggered entry has none
            self.entries[pin] = self.entries[pin] & (HIGH_WRITABLE << 32 | kept) | value & LOW_WRITABLE
            self._follow_level(pin)
