"""16550A UART, with the receive side fed from an unbounded queue.

    receive(bytes) -> incoming queue -> FIFO (16, or 1 when disabled) -> RBR -> guest
    guest -> THR -> transmit(byte), or back into the FIFO in loopback

Registers, by offset (and DLAB):

    0  RBR (read), THR (write), DLL (DLAB)     4  MCR: DTR, RTS, OUT1, OUT2, LOOP
    1  IER, DLM (DLAB)                         5  LSR: DR, OE, PE, FE, BI, THRE, TEMT, RCVR FIFO error
    2  IIR (read), FCR (write)                 6  MSR: DCTS, DDSR, TERI, DDCD, CTS, DSR, RI, DCD
    3  LCR                                     7  SCR

On a PC the OUT2 pin enables the interrupt line. Source: National PC16550D data sheet (June 1995), section 8.
"""

from collections import deque
from collections.abc import Callable

from emulator.bus import InterruptLine

FIFO_BYTES = 16
TRIGGER_BYTES = (1, 4, 8, 14)  # FCR bits 7-6

IER_RECEIVED_DATA, IER_THR_EMPTY, IER_LINE_STATUS, IER_MODEM_STATUS = 0x01, 0x02, 0x04, 0x08
IIR_FIFOS_ENABLED = 0xC0
FCR_ENABLE, FCR_CLEAR_RECEIVER = 0x01, 0x02
LCR_DLAB = 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 0x01, 0x02, 0x04, 0x08, 0x10
MCR_BITS = 0x1F
LSR_DATA_READY, LSR_OVERRUN, LSR_THR_EMPTY, LSR_TRANSMITTER_EMPTY = 0x01, 0x02, 0x20, 0x40
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80

# Interrupt identification, highest priority first: table IV of the data sheet.
IIR_LINE_STATUS, IIR_RECEIVED_DATA, IIR_TIMEOUT, IIR_THR_EMPTY, IIR_MODEM_STATUS, IIR_NONE = 6, 4, 12, 2, 0, 1

# MODEL: the line is infinitely fast: a byte written has left at once; divisor, frame format and break change nothing.
# MODEL: the character time-out comes at once, not after four character times, below the FIFO's trigger level.
# MODEL: the far end is always there: CTS, DSR, DCD on and RI off (but in loopback); no parity, framing or break errors.


class Ns16550:
    """The UART: a `BusDevice` of 8 offsets. `transmit` gets each byte the guest sends."""

    WIRED = ("transmit",)

    widths_bytes: tuple[int, ...] = (1,)

    def __init__(self, line: InterruptLine, transmit: Callable[[int], None]) -> None:
        self.transmit = transmit
        self._line = line
        self._line_level = False
        self.incoming: deque[int] = deque()  # what the far end has sent and the FIFO has had no room for
        self.fifo: deque[int] = deque()
        self.fifo_enabled = False
        self.trigger_bytes = 1
        self.ier = 0
        self.lcr = 0
        self.mcr = 0
        self.scr = 0
        self.divisor = 0
        self.overrun = False
        self.thr_empty_pending = False  # the THRE interrupt, until IIR shows it or THR is written
        self.modem_deltas = 0  # MSR bits 3-0
        self.modem_lines = MSR_CTS | MSR_DSR | MSR_DCD  # MSR bits 7-4

    def receive(self, data: bytes) -> None:
        """Let the far end send `data`; nothing is lost, what the FIFO cannot take waits."""
        self.incoming.extend(data)
        self._fill_fifo()
        self._update_line()

    def read(self, offset: int, size_bytes: int) -> int:
        """Register at `offset`; RBR, IIR, LSR and MSR change by being read."""
        value = self._read_register(offset)
        self._update_line()
        return value

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store in the register at `offset`; LSR and MSR are read-only here ("factory testing")."""
        if offset == 0 and not self.lcr & LCR_DLAB:
            self._send(value)
        elif offset == 0:
            self.divisor = self.divisor & 0xFF00 | value
        elif offset == 1 and self.lcr & LCR_DLAB:
            self.divisor = self.divisor & 0x00FF | value << 8
        elif offset == 1:
            self._write_ier(value)
        elif offset == 2:
            self._write_fcr(value)
        elif offset == 3:
            self.lcr = value
        elif offset == 4:
            self._write_mcr(value)
        elif offset == 7:
            self.scr = value
        self._update_line()

    # --- registers ---

    def _read_register(self, offset: int) -> int:
        match offset:
            case 0 | 1 if self.lcr & LCR_DLAB:
                return self.divisor >> 8 * offset & 0xFF
            case 0:
                return self._take_received()
            case 1:
                return self.ier
            case 2:
                return self._read_iir()
            case 3:
                return self.lcr
            case 4:
                return self.mcr
            case 5:
                return self._read_lsr()
            case 6:
                deltas, self.modem_deltas = self.modem_deltas, 0
                return self.modem_lines | deltas
            case _:
                return self.scr

    def _take_received(self) -> int:
        if not self.fifo:
            return 0
        byte = self.fifo.popleft()
        self._fill_fifo()
        return byte

    def _write_ier(self, value: int) -> None:
        enabled = value & ~self.ier
        self.ier = value & 0x0F
        if enabled & IER_THR_EMPTY:
            self.thr_empty_pending = True  # enabling it with THR empty interrupts at once, each time

    def _read_iir(self) -> int:
        source = self._interrupt_source()
        if source == IIR_THR_EMPTY:
            self.thr_empty_pending = False
        return source | (IIR_FIFOS_ENABLED if self.fifo_enabled else 0)

    def _write_fcr(self, value: int) -> None:
        enable = bool(value & FCR_ENABLE)
        if enable != self.fifo_enabled or (enable and value & FCR_CLEAR_RECEIVER):
            self.fifo.clear()  # what waits in `incoming` has not arrived yet, and stays
        self.fifo_enabled = enable
        self.trigger_bytes = TRIGGER_BYTES[value >> 6] if enable else 1
        self._fill_fifo()

    def _write_mcr(self, value: int) -> None:
        self.mcr = value & MCR_BITS
        self._fill_fifo()
        lines = MSR_CTS | MSR_DSR | MSR_DCD
        if self.mcr & MCR_LOOP:
            lines = sum(status for control, status in LOOPBACK if self.mcr & control)
        changed = lines ^ self.modem_lines
        if lines & MSR_RI:
            changed &= ~MSR_RI  # TERI: only the trailing edge counts
        self.modem_lines = lines
        self.modem_deltas |= changed >> 4

    def _read_lsr(self) -> int:
        overrun, self.overrun = self.overrun, False
        data_ready = LSR_DATA_READY if self.fifo else 0
        return LSR_THR_EMPTY | LSR_TRANSMITTER_EMPTY | data_ready | (LSR_OVERRUN if overrun else 0)

    # --- inside ---

    def _send(self, byte: int) -> None:
        self.thr_empty_pending = True  # the line has taken it already
        if not self.mcr & MCR_LOOP:
            self.transmit(byte)
        elif len(self.fifo) < self._capacity:
            self.fifo.append(byte)
        else:
            self.overrun = True
            if not self.fifo_enabled:
                self.fifo[0] = byte  # RBR is overwritten; a full FIFO keeps its bytes and the new one is lost

    @property
    def _capacity(self) -> int:
        return FIFO_BYTES if self.fifo_enabled else 1

    def _fill_fifo(self) -> None:
        """Let waiting bytes arrive, as many as fit; in loopback the receiver is cut off from the line."""
        if self.mcr & MCR_LOOP:
            return
        while self.incoming and len(self.fifo) < self._capacity:
            self.fifo.append(self.incoming.popleft())

    def _interrupt_source(self) -> int:
        """IIR bits 3-0 of the pending, enabled interrupt of highest priority."""
        enabled = self.ier
        if enabled & IER_LINE_STATUS and self.overrun:
            return IIR_LINE_STATUS
        if enabled & IER_RECEIVED_DATA and self.fifo:
            return IIR_RECEIVED_DATA if len(self.fifo) >= self.trigger_bytes else IIR_TIMEOUT
        if enabled & IER_THR_EMPTY and self.thr_empty_pending:
            return IIR_THR_EMPTY
        if enabled & IER_MODEM_STATUS and self.modem_deltas:
            return IIR_MODEM_STATUS
        return IIR_NONE

    def _update_line(self) -> None:
        """INTR pin through the OUT2 gate; loopback takes OUT2 off its pin."""
        gate_open = self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2
        level = gate_open and self._interrupt_source() != IIR_NONE
        if level != self._line_level:
            self._line_level = level
            self._line(level)


LOOPBACK = (  # MCR output -> MSR input: data sheet, "Modem Control Register", bit 4
    (MCR_DTR, MSR_DSR),
    (MCR_RTS, MSR_CTS),
    (MCR_OUT1, MSR_RI),
    (MCR_OUT2, MSR_DCD),
)
