"""8259A interrupt controller; a PC has a cascaded pair of them (i8259_pair.py).

One chip turns eight request lines into one INT pin and, at INTA, a vector:

    IR0..7 -> IRR --(not IMR)--> priority resolver --> INT pin --> CPU, or IR2 of the master
                                     ^                  |
                                 ISR +------- INTA -----+--> vector = ICW2 | level

Ports: offset 0 takes ICW1, OCW2 and OCW3 and reads IRR, ISR or a poll byte; offset 1 takes ICW2-4 and
OCW1 and reads IMR. Sources: Intel 8259A data sheet (231468-003), figures 7 and 8; Intel 82371AB (PIIX4),
section 4.3, for `elcr`: which inputs are level-triggered.

Left out: 8080/8085 vectors (CALL), buffered mode pins. A line that falls before INTA takes its request
back, in edge mode too, and the CPU that comes nevertheless gets the default level 7 (data sheet, "Edge and Level
Triggered Modes"); so a caller must hold a line, not pulse it.
"""

from collections.abc import Callable

NO_REQUEST = -1
SPURIOUS_LEVEL = 7  # "default IR7": what INTA yields when the request has gone

ICW1_IC4, ICW1_SNGL, ICW1_LTIM, ICW1_INIT = 0x01, 0x02, 0x08, 0x10
ICW2_BASE = 0xF8
ICW4_AEOI, ICW4_SFNM = 0x02, 0x10
OCW3_SELECT = 0x08  # with ICW1_INIT clear: this is OCW3, else OCW2
OCW3_RIS, OCW3_RR, OCW3_POLL, OCW3_SMM, OCW3_ESMM = 0x01, 0x02, 0x04, 0x20, 0x40
POLL_REQUEST = 0x80

# MODEL: a chip programmed for 8080/8085 (ICW4.uPM = 0) still answers INTA with one 8086 vector byte.


def ignore_output(level: bool) -> None:
    """INT pin that is connected to nothing."""


class I8259:
    """One 8259A: a `BusDevice` with eight request lines and an INT pin."""

    widths_bytes: tuple[int, ...] = (1,)

    def __init__(self, on_output: Callable[[bool], None] = ignore_output) -> None:
        self.on_output = on_output  # called with the new level when the INT pin changes
        self.output = False  # INT pin: a latch, set by the resolver, reset by INTA or a command word
        self.lines = 0  # levels of the eight IR inputs
        self.irr = 0
        self.isr = 0
        self.imr = 0
        self.elcr = 0  # level-triggered inputs, see EdgeLevelControl
        self.lowest_priority = 7
        self.icw1 = ICW1_SNGL
        self.icw2 = 0
        self.icw3 = 0
        self.icw4 = 0
        self.expected_icw = 0  # 2, 3 or 4 while an initialisation sequence is under way
        self.special_mask = False
        self.rotate_on_aeoi = False
        self.read_isr = False
        self.poll = False

    # --- request lines and INTA: the hot paths ---

    def set_line(self, level: int, asserted: bool) -> None:
        """Drive input IR`level`. A rising edge (or a high level) requests, a fall takes the request back."""
        bit = 1 << level
        if not asserted:
            self.lines &= ~bit
            self.irr &= ~bit  # INT stays up: that is what makes the interrupt spurious
        elif not self.lines & bit:
            self.lines |= bit
            self.irr |= bit
            if not self.output and self.requested_level() >= 0:
                self._set_output(True)

    def requested_level(self) -> int:
        """The request the resolver lets through to INT, or NO_REQUEST."""
        requests = self.irr & ~self.imr
        if not requests:
            return NO_REQUEST
        in_service = self.isr & ~self.imr if self.special_mask else self.isr
        request_rank = self._best_rank(requests)
        if in_service:
            service_rank = self._best_rank(in_service)
            if request_rank > service_rank or (request_rank == service_rank and not self._nests(request_rank)):
                return NO_REQUEST
        return (request_rank + self.lowest_priority + 1) & 7

    def begin_acknowledge(self) -> int:
        """First INTA pulse: take the best request into service; its level, or NO_REQUEST if it has gone."""
        level = self.requested_level()
        if level >= 0:
            bit = 1 << level
            self.isr |= bit
            if not self.level_triggered & bit:
                self.irr &= ~bit  # the edge latch is used up
        return level

    def end_acknowledge(self, level: int) -> int:
        """Last INTA pulse for the `level` that begin_acknowledge returned: the vector."""
        if level < 0:
            level = SPURIOUS_LEVEL
        elif self.icw4 & ICW4_AEOI:
            self.isr &= ~(1 << level)
            if self.rotate_on_aeoi:
                self.lowest_priority = level
        if self.output:
            self._set_output(False)  # each INTA ends with INT low, so a master sees an edge per slave interrupt
        self._update_output()
        return self.icw2 | level

    def acknowledge(self) -> int:
        """A whole INTA cycle of a chip on its own: the vector."""
        return self.end_acknowledge(self.begin_acknowledge())

    @property
    def level_triggered(self) -> int:
        """Inputs that request as long as they are high: all with ICW1.LTIM, else those in the ELCR."""
        return 0xFF if self.icw1 & ICW1_LTIM else self.elcr

    def has_slave(self, level: int) -> bool:
        """Whether this chip is a cascade master with a slave on `level` (ICW1.SNGL, ICW3)."""
        return not self.icw1 & ICW1_SNGL and bool(self.icw3 >> level & 1)

    def set_elcr(self, elcr: int) -> None:
        """Make exactly the inputs in `elcr` level-triggered."""
        self.elcr = elcr
        self._follow_levels()
        self._update_output()

    # --- registers ---

    def read(self, offset: int, size_bytes: int) -> int:
        """IMR at offset 1; at offset 0 the poll byte if a poll was ordered, else IRR or ISR as OCW3 chose."""
        if offset:
            return self.imr
        if self.poll:
            self.poll = False
            level = self.begin_acknowledge()  # the read pulse takes the place of INTA
            self.end_acknowledge(level)
            return 0 if level < 0 else POLL_REQUEST | level
        return self.isr if self.read_isr else self.irr

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Take a command word; figures 7 and 8 of the data sheet tell which one it is."""
        if not offset and value & ICW1_INIT:
            self._write_icw1(value)
        elif not offset and value & OCW3_SELECT:
            self._write_ocw3(value)
        elif not offset:
            OCW2_COMMANDS[value >> 5](self, value & 7)
        elif self.expected_icw:
            self._write_icw2_to_4(value)
        else:
            self.imr = value
        self._update_output()

    def _write_icw1(self, value: int) -> None:
        """Restart: edge latches, IMR, ISR, special mask and the priorities are cleared (data sheet, "ICW1")."""
        self.icw1 = value
        self.icw4 = 0
        self.irr = self.isr = self.imr = 0
        self.lowest_priority = 7
        self.special_mask = self.rotate_on_aeoi = self.read_isr = self.poll = False
        self.expected_icw = 2
        self._follow_levels()

    def _write_icw2_to_4(self, value: int) -> None:
        wants_icw4 = 4 if self.icw1 & ICW1_IC4 else 0
        if self.expected_icw == 2:
            self.icw2 = value & ICW2_BASE
            self.expected_icw = wants_icw4 if self.icw1 & ICW1_SNGL else 3
        elif self.expected_icw == 3:
            self.icw3 = value
            self.expected_icw = wants_icw4
        else:
            self.icw4 = value
            self.expected_icw = 0

    def _write_ocw3(self, value: int) -> None:
        if value & OCW3_ESMM:
            self.special_mask = bool(value & OCW3_SMM)
        if value & OCW3_POLL:
            self.poll = True  # overrides a register read ordered by the same word
        elif value & OCW3_RR:
            self.read_isr = bool(value & OCW3_RIS)

    # --- OCW2 commands; `level` is L2-L0 ---

    def _end_of_interrupt(self, _level: int) -> int:
        """Non-specific EOI: reset the ISR bit of highest priority; the level, or NO_REQUEST."""
        in_service = self.isr & ~self.imr if self.special_mask else self.isr
        if not in_service:
            return NO_REQUEST
        level = (self._best_rank(in_service) + self.lowest_priority + 1) & 7
        self.isr &= ~(1 << level)
        return level

    def _rotate_on_end_of_interrupt(self, _level: int) -> None:
        ended = self._end_of_interrupt(_level)
        if ended >= 0:
            self.lowest_priority = ended

    def _specific_end_of_interrupt(self, level: int) -> None:
        self.isr &= ~(1 << level)

    def _rotate_on_specific_end_of_interrupt(self, level: int) -> None:
        self.isr &= ~(1 << level)
        self.lowest_priority = level

    def _set_priority(self, level: int) -> None:
        self.lowest_priority = level

    def _set_rotate_on_aeoi(self, _level: int) -> None:
        self.rotate_on_aeoi = True

    def _clear_rotate_on_aeoi(self, _level: int) -> None:
        self.rotate_on_aeoi = False

    def _no_operation(self, _level: int) -> None:
        pass

    # --- inside ---

    def _best_rank(self, levels: int) -> int:
        """Priority rank (0 is highest) of the best of `levels`, a non-empty bit set."""
        rotated = (levels << 8 | levels) >> self.lowest_priority + 1 & 0xFF  # bit 0: highest priority
        return (rotated & -rotated).bit_length() - 1

    def _nests(self, rank: int) -> bool:
        """Special fully nested mode: a slave may interrupt its own level at the master."""
        return bool(self.icw4 & ICW4_SFNM) and self.has_slave((rank + self.lowest_priority + 1) & 7)

    def _follow_levels(self) -> None:
        """IRR of a level-triggered input is the input; an edge latch keeps what it has."""
        level_triggered = self.level_triggered
        self.irr = self.irr & ~level_triggered | self.lines & level_triggered

    def _update_output(self) -> None:
        requested = self.requested_level() >= 0
        if requested != self.output:
            self._set_output(requested)

    def _set_output(self, asserted: bool) -> None:
        self.output = asserted
        self.on_output(asserted)


# R, SL, EOI (bits 7-5 of OCW2) -> command: data sheet, figure 8.
OCW2_COMMANDS: tuple[Callable[[I8259, int], object], ...] = (
    I8259._clear_rotate_on_aeoi,
    I8259._end_of_interrupt,
    I8259._no_operation,
    I8259._specific_end_of_interrupt,
    I8259._set_rotate_on_aeoi,
    I8259._rotate_on_end_of_interrupt,
    I8259._set_priority,
    I8259._rotate_on_specific_end_of_interrupt,
)
