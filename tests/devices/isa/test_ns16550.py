"""The UART as Linux's 8250 driver and small test kernels use it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.isa.ns16550 import Ns16550
from tests.devices.wire import Wire

DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
FCR = IIR
DLAB = 0x80
THRE_INTERRUPT, DATA_INTERRUPT, TIMEOUT_INTERRUPT, ERROR_INTERRUPT, MODEM_INTERRUPT, NONE = 2, 4, 12, 6, 0, 1
OUT2, LOOP = 0x08, 0x10


class Port:
    """A UART, its wire and what it has sent."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.sent = bytearray()
        self.uart = Ns16550(self.wire, self.sent.append)

    def read(self, offset: int) -> int:
        return self.uart.read(offset, 1)

    def write(self, offset: int, value: int) -> None:
        self.uart.write(offset, 1, value)

    def identify(self) -> int:
        return self.read(IIR) & 0x0F


def test_bytes_written_are_sent_in_order_and_the_transmitter_is_always_empty() -> None:
    port = Port()
    for byte in b"hello":
        assert port.read(LSR) & 0x60 == 0x60
        port.write(DATA, byte)
    assert port.sent == b"hello"


def test_the_divisor_hides_behind_dlab() -> None:
    port = Port()
    port.write(LCR, DLAB | 3)
    port.write(DATA, 0x34)
    port.write(IER, 0x12)
    assert (port.read(DATA), port.read(IER)) == (0x34, 0x12)
    port.write(LCR, 3)
    assert port.read(LCR) == 3
    assert port.read(IER) == 0
    assert port.sent == b""


def test_linux_autoconfig_finds_a_16550a() -> None:
    port = Port()
    port.write(IER, 0)
    assert port.read(IER) & 0x0F == 0
    port.write(IER, 0x0F)
    assert port.read(IER) & 0x0F == 0x0F
    port.write(IER, 0)
    saved_mcr = port.read(MCR)
    port.write(MCR, LOOP | 0x0A)
    assert port.read(MSR) & 0xF0 == 0x90  # RTS is seen as CTS, OUT2 as DCD
    port.write(MCR, saved_mcr)
    port.write(LCR, 0xBF)
    port.write(FCR, 0)  # EFR on chips that have one
    port.write(LCR, 0)
    assert port.read(IIR) >> 6 == 0
    port.write(FCR, 0x01)
    assert port.read(IIR) >> 6 == 3
    port.write(LCR, DLAB)
    assert port.read(IIR) != 0  # no EFR: not a 16650
    port.write(LCR, 0)
    port.write(IER, 0x40)
    assert port.read(IER) == 0  # no UUE: not an XScale


def test_linux_thre_test_sees_the_interrupt_each_time_it_is_enabled() -> None:
    port = Port()
    for _ in range(2):
        port.write(IER, 0)
        port.write(IER, 0x02)
        assert port.identify() == THRE_INTERRUPT
        assert port.identify() == NONE  # reading IIR has taken it back


def test_the_line_follows_out2_and_the_interrupts_that_are_enabled() -> None:
    port = Port()
    port.write(IER, 0x02)
    assert not port.wire.level
    port.write(MCR, OUT2)
    assert port.wire.level
    assert port.identify() == THRE_INTERRUPT
    assert not port.wire.level
    port.write(DATA, 0x41)
    assert port.wire.level  # the byte has left already
    port.write(IER, 0)
    assert not port.wire.level
    port.write(IER, 0x02)
    port.write(MCR, OUT2 | LOOP)
    assert not port.wire.level


def test_every_modem_control_bit_comes_back_in_loopback() -> None:
    port = Port()
    port.write(MCR, LOOP)
    for control, status in ((0x01, 0x20), (0x02, 0x10), (0x04, 0x40), (0x08, 0x80)):
        port.write(MCR, LOOP | control)
        assert port.read(MSR) & 0xF0 == status
    port.write(MCR, 0xE0)
    assert port.read(MCR) == 0
    assert port.read(MSR) & 0xF0 == 0xB0  # CTS, DSR, DCD


def test_modem_deltas_interrupt_until_msr_is_read_and_ri_counts_only_when_it_falls() -> None:
    port = Port()
    port.write(MCR, LOOP)
    assert port.read(MSR) == 0x0B  # CTS, DSR and DCD fell
    port.write(IER, 0x08)
    port.write(MCR, LOOP | 0x04)
    assert port.identify() == NONE
    assert port.read(MSR) == 0x40
    port.write(MCR, LOOP)
    assert port.identify() == MODEM_INTERRUPT
    assert port.read(MSR) == 0x04
    assert port.identify() == NONE


def test_received_bytes_interrupt_at_the_trigger_level_and_time_out_below_it() -> None:
    port = Port()
    port.write(FCR, 0x81)  # 8 bytes
    port.write(IER, 0x01)
    port.write(MCR, OUT2)
    port.uart.receive(b"1234567")
    assert port.identify() == TIMEOUT_INTERRUPT
    port.uart.receive(b"8")
    assert port.identify() == DATA_INTERRUPT
    assert port.wire.level
    assert bytes(port.read(DATA) for _ in range(8)) == b"12345678"
    assert not port.wire.level
    assert port.read(LSR) & 0x01 == 0


@pytest.mark.parametrize(("fcr", "trigger_bytes"), [(0x01, 1), (0x41, 4), (0x81, 8), (0xC1, 14)])
def test_trigger_levels(fcr: int, trigger_bytes: int) -> None:
    port = Port()
    port.write(FCR, fcr)
    port.write(IER, 0x01)
    port.uart.receive(bytes(trigger_bytes - 1))
    assert port.identify() == (TIMEOUT_INTERRUPT if trigger_bytes > 1 else NONE)
    port.uart.receive(bytes(1))
    assert port.identify() == DATA_INTERRUPT


@given(st.binary(max_size=100), st.booleans())
def test_nothing_typed_is_lost(data: bytes, with_fifo: bool) -> None:
    port = Port()
    port.write(FCR, with_fifo)
    port.uart.receive(data)
    received = bytearray()
    while port.read(LSR) & 0x01:
        received.append(port.read(DATA))
    assert received == data
    assert port.read(LSR) & 0x02 == 0


def test_clearing_the_fifo_drops_what_it_holds_and_no_more() -> None:
    port = Port()
    port.write(FCR, 0x01)
    port.uart.receive(bytes(range(20)))
    port.write(FCR, 0x03)
    assert port.read(DATA) == 16


def test_an_empty_receiver_reads_zero() -> None:
    assert Port().read(DATA) == 0


def test_loopback_receives_what_is_sent_and_overruns_when_full() -> None:
    port = Port()
    port.write(FCR, 0x01)
    port.write(IER, 0x05)
    port.write(MCR, LOOP)
    port.uart.receive(b"typed")  # waits outside
    for byte in range(17):
        port.write(DATA, byte)
    assert port.sent == b""
    assert port.identify() == ERROR_INTERRUPT  # before received data
    assert port.read(LSR) & 0x03 == 0x03
    assert port.identify() == DATA_INTERRUPT
    assert port.read(LSR) & 0x02 == 0
    assert [port.read(DATA) for _ in range(16)] == list(range(16))
    port.write(MCR, 0)
    assert port.read(DATA) == ord("t")


def test_an_overrun_without_fifo_overwrites_the_received_byte() -> None:
    port = Port()
    port.write(MCR, LOOP)
    port.write(DATA, 1)
    port.write(DATA, 2)
    assert port.read(LSR) & 0x03 == 0x03
    assert port.read(DATA) == 2


def test_interrupts_are_identified_in_order_of_priority() -> None:
    port = Port()
    port.write(IER, 0x0F)
    port.write(MCR, LOOP)
    port.write(DATA, 1)
    port.write(DATA, 2)
    assert port.identify() == ERROR_INTERRUPT
    port.read(LSR)
    assert port.identify() == DATA_INTERRUPT
    port.read(DATA)
    assert port.identify() == THRE_INTERRUPT
    assert port.identify() == MODEM_INTERRUPT
    port.read(MSR)
    assert port.identify() == NONE


def test_the_scratch_register_keeps_any_byte_and_status_registers_ignore_writes() -> None:
    port = Port()
    port.write(SCR, 0xA5)
    assert port.read(SCR) == 0xA5
    port.write(LSR, 0)
    port.write(MSR, 0)
    assert (port.read(LSR), port.read(MSR)) == (0x60, 0xB0)


def test_without_fifos_every_byte_interrupts_whatever_the_trigger_bits_say() -> None:
    port = Port()
    port.write(FCR, 0xC0)
    port.write(IER, 0x01)
    port.uart.receive(b"x")
    assert port.identify() == DATA_INTERRUPT
