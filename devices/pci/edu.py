"""The educational PCI device: QEMU's `edu`, for people who write their first driver. Not a real chip.

    0x00  identification   RO  0x010000ed
    0x04  liveness         RW  reads the complement of what was written
    0x08  factorial        RW  write n, wait, read n! modulo 2**32
    0x20  status           RW  bit 0 (RO): computing; bit 7: interrupt when a factorial is done
    0x24  interrupts       RO  bits that asked for an interrupt
    0x60  raise            WO  sets bits of `interrupts`
    0x64  acknowledge      WO  clears bits of `interrupts`
    0x80  DMA source       RW  64 bits, as the next two; none of the four changes while a transfer runs
    0x88  DMA destination  RW
    0x90  DMA count        RW  in bytes
    0x98  DMA command      RW  bit 0: start, runs; bit 1: from the buffer to memory; bit 2: interrupt 0x100 when done

One region of 1 MiB in memory, registers of 32 bits, from 0x80 on also of 64; pin INTA# is asserted while `interrupts`
is not 0, or a message is sent for each that is raised (MSI, one vector). The buffer has 4 KiB at 0x40000, where only
DMA reaches it. Source: QEMU docs/specs/edu.rst.

MODEL: a factorial takes one microsecond, a transfer too, and what PCI of 33 MHz takes for its bytes, which move at its
end. DMA addresses have 64 bits (QEMU's have 28 unless it is told otherwise), and their upper halves also answer by
themselves; a lower half clears the upper. A transfer that does not fit the buffer moves nothing (QEMU ends). The buffer
reads all ones.
"""

from math import factorial

from devices.pci.function import DECODES_MEMORY, IS_MASTER, NO_INTERRUPTS, PciFunction, Region
from devices.pci.msi import msi
from emulator.events import Event, EventQueue

REGION_BYTES = 1 << 20
IDENTIFICATION, LIVENESS, FACTORIAL, STATUS, INTERRUPTS, RAISE, ACKNOWLEDGE = 0x00, 0x04, 0x08, 0x20, 0x24, 0x60, 0x64
IDENTIFICATION_VALUE = 0x0100_00ED
IS_COMPUTING, INTERRUPT_WHEN_DONE = 1 << 0, 1 << 7
DMA_SOURCE, DMA_DESTINATION, DMA_COUNT, DMA_COMMAND = 0x80, 0x88, 0x90, 0x98
DMA_RUNS, DMA_TO_MEMORY, DMA_INTERRUPTS = 1 << 0, 1 << 1, 1 << 2
FACTORIAL_DONE, DMA_DONE = 0x001, 0x100  # of `interrupts`
BUFFER_AT, BUFFER_BYTES = 0x40000, 4096
FACTORIAL_PS = DMA_START_PS = 1_000_000
DMA_PS_PER_BYTE = 7_576  # 4 bytes in a cycle of 33 MHz
ZERO_FROM = 34  # n! has 32 factors of two and more from here on

# fmt: off
CONFIGURATION = (
    (0x00, 2, 0x1234, 0),      # vendor
    (0x02, 2, 0x11E8, 0),      # device
    (0x04, 2, 0, DECODES_MEMORY | IS_MASTER | NO_INTERRUPTS),
    (0x08, 1, 0x10, 0),        # revision
    (0x09, 3, 0x00_FF_00, 0),  # class: not one of the others
)
# fmt: on


class Edu:
    """The registers; `function` is what to put on a PCI bus."""

    widths_bytes: tuple[int, ...] = (4, 8)

    def __init__(self, events: EventQueue) -> None:
        regions, capabilities = [Region(self, REGION_BYTES)], [msi(has_masks=False)]
        self.function = PciFunction(CONFIGURATION, regions=regions, pin=1, capabilities=capabilities)
        self._events = events
        self._done: Event | None = None  # of the factorial that is being computed
        self._liveness = self._number = self._status = self._interrupts = 0
        self._dma = {DMA_SOURCE: 0, DMA_DESTINATION: 0, DMA_COUNT: 0, DMA_COMMAND: 0}
        self._buffer = bytearray(BUFFER_BYTES)

    def read(self, offset: int, size_bytes: int) -> int:
        """A register; what cannot be read is all ones."""
        all_ones = (1 << 8 * size_bytes) - 1
        if offset & ~4 in self._dma:
            return self._dma[offset & ~4] >> 8 * (offset & 4) & all_ones
        if size_bytes != 4:
            return all_ones
        readable = {
            IDENTIFICATION: IDENTIFICATION_VALUE,
            LIVENESS: ~self._liveness & all_ones,
            FACTORIAL: self._number,
            STATUS: self._status | IS_COMPUTING * (self._done is not None),
            INTERRUPTS: self._interrupts,
        }
        return readable.get(offset, all_ones)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store in a register; a number that comes while another is worked on is dropped."""
        if offset in self._dma:
            self._write_dma(offset, value)
        elif offset & ~4 in self._dma:
            self._write_dma(offset & ~4, self._dma[offset & ~4] & 0xFFFF_FFFF | value << 32)
        elif size_bytes != 4:
            return
        elif offset == LIVENESS:
            self._liveness = value
        elif offset == FACTORIAL and self._done is None:
            self._number = value
            self._done = self._events.schedule(self._events.now_ps + FACTORIAL_PS, self._finish)
        elif offset == STATUS:
            self._status = value & INTERRUPT_WHEN_DONE
        elif offset == RAISE:
            self._raise(value)
        elif offset == ACKNOWLEDGE:
            self._set_interrupts(self._interrupts & ~value)

    def _finish(self) -> None:
        self._done = None
        self._number = factorial(self._number) & 0xFFFF_FFFF if self._number < ZERO_FROM else 0
        if self._status & INTERRUPT_WHEN_DONE:
            self._raise(FACTORIAL_DONE)

    # --- DMA ---------------------------------------------------------------------------------------------------------

    def _write_dma(self, register: int, value: int) -> None:
        dma = self._dma
        if dma[DMA_COMMAND] & DMA_RUNS or (register == DMA_COMMAND and not value & DMA_RUNS):
            return
        dma[register] = value
        if register == DMA_COMMAND:
            bytes_moved = dma[DMA_COUNT] if self._buffer_offset() is not None else 0
            when_ps = self._events.now_ps + DMA_START_PS + bytes_moved * DMA_PS_PER_BYTE
            self._events.schedule(when_ps, self._transfer)

    def _buffer_offset(self) -> int | None:
        """Where in the buffer the transfer begins; None: it does not fit."""
        dma = self._dma
        offset = dma[DMA_SOURCE if dma[DMA_COMMAND] & DMA_TO_MEMORY else DMA_DESTINATION] - BUFFER_AT
        return offset if offset >= 0 and offset + dma[DMA_COUNT] <= BUFFER_BYTES else None

    def _transfer(self) -> None:
        dma, offset = self._dma, self._buffer_offset()
        if offset is not None:
            end = offset + dma[DMA_COUNT]
            if dma[DMA_COMMAND] & DMA_TO_MEMORY:
                self.function.bus_master.write(dma[DMA_DESTINATION], bytes(self._buffer[offset:end]))
            else:
                self._buffer[offset:end] = self.function.bus_master.read(dma[DMA_SOURCE], end - offset)
        dma[DMA_COMMAND] &= ~DMA_RUNS
        if dma[DMA_COMMAND] & DMA_INTERRUPTS:
            self._raise(DMA_DONE)

    # --- interrupts --------------------------------------------------------------------------------------------------

    def _raise(self, bits: int) -> None:
        self._set_interrupts(self._interrupts | bits)
        if self._interrupts:
            self.function.send_message()

    def _set_interrupts(self, interrupts: int) -> None:
        self._interrupts = interrupts
        self.function.set_interrupt(interrupts != 0)
