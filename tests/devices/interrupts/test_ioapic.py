"""The I/O APIC as kernels program it: index and window, edges and levels, remote IRR and EOI."""

import random

import pytest

from devices.interrupts import lapic_registers as r
from devices.interrupts.ioapic import IoApic
from tests.devices.interrupts.apic_rig import ApicRig

SELECT, WINDOW = 0x00, 0x10
MASKED, LEVEL, REMOTE_IRR, POLARITY, LOGICAL = 1 << 16, 1 << 15, 1 << 14, 1 << 13, 1 << 11
NMI, INIT, EXT_INT, LOWEST = 4 << 8, 5 << 8, 7 << 8, 1 << 8


class Chip(ApicRig):
    """An I/O APIC and two CPUs."""

    def __init__(self) -> None:
        super().__init__(2)
        self.ioapic = IoApic(self.bus, number=2)

    def read(self, index: int) -> int:
        self.ioapic.write(SELECT, 4, index)
        return self.ioapic.read(WINDOW, 4)

    def write(self, index: int, value: int) -> None:
        self.ioapic.write(SELECT, 4, index)
        self.ioapic.write(WINDOW, 4, value)

    def route(self, pin: int, low: int, destination: int = 0) -> None:
        self.write(0x11 + 2 * pin, destination << 24)
        self.write(0x10 + 2 * pin, low)

    def pulse(self, pin: int) -> None:
        line = self.ioapic.line(pin)
        line(True)
        line(False)


@pytest.fixture
def chip() -> Chip:
    return Chip()


def test_registers_after_reset_are_those_of_the_data_sheet(chip: Chip) -> None:
    assert [chip.read(index) for index in (0, 1, 2)] == [0x0200_0000, 0x17_0011, 0x0200_0000]
    assert [chip.read(index) for index in range(0x10, 0x40)] == [MASKED, 0] * 24
    assert [chip.read(index) for index in (3, 0xF, 0x40, 0xFF)] == [0] * 4


def test_registers_keep_the_bits_they_have(chip: Chip) -> None:
    for index in (0, 1, 2, 0x10, 0x11, 0x40):
        chip.write(index, 0xFFFF_FFFF)
    assert [chip.read(index) for index in (0, 1, 2)] == [0x0F00_0000, 0x17_0011, 0x0F00_0000]
    assert [chip.read(index) for index in (0x10, 0x11, 0x40)] == [0x1_AFFF, 0xFF00_0000, 0]


def test_the_index_may_be_a_byte_and_the_window_is_not(chip: Chip) -> None:
    chip.ioapic.write(SELECT, 1, 1)
    assert (chip.ioapic.read(SELECT, 1), chip.ioapic.read(WINDOW, 4), chip.ioapic.read(WINDOW, 1)) == (1, 0x17_0011, 0)
    chip.ioapic.write(SELECT, 1, 0x10)
    chip.ioapic.write(WINDOW, 1, 0x20)
    assert chip.read(0x10) == MASKED


def test_an_edge_sends_one_interrupt_and_is_lost_while_masked(chip: Chip) -> None:
    chip.route(4, 0x44, destination=1)
    chip.pulse(4)
    assert (chip.cpus[1].serve(), chip.cpus[1].intr, chip.cpus[0].intr) == (0x44, False, False)
    chip.route(4, MASKED | 0x44, destination=1)
    chip.ioapic.line(4)(True)
    chip.route(4, 0x44, destination=1)
    assert not chip.cpus[1].intr
    chip.ioapic.line(4)(True)  # no edge
    assert not chip.cpus[1].intr


def test_a_level_interrupts_until_it_is_gone_once_per_eoi(chip: Chip) -> None:
    cpu, line = chip.cpus[0], chip.ioapic.line(9)
    chip.route(9, LEVEL | POLARITY | 0x59)
    line(True)
    assert chip.read(0x10 + 18) == LEVEL | POLARITY | REMOTE_IRR | 0x59
    assert cpu.take() == 0x59
    assert cpu.read(r.TMR + 0x20) == 1 << 25
    cpu.write(r.EOI, 0)
    assert cpu.take() == 0x59
    line(False)
    cpu.write(r.EOI, 0)
    assert not cpu.intr
    assert not chip.read(0x10 + 18) & REMOTE_IRR


def test_a_level_that_came_while_masked_is_seen_when_unmasked(chip: Chip) -> None:
    chip.ioapic.line(9)(True)
    chip.route(9, LEVEL | MASKED | 0x59)
    assert not chip.cpus[0].intr
    chip.route(9, LEVEL | 0x59)
    assert chip.cpus[0].intr


def test_masking_while_in_service_holds_the_next_back(chip: Chip) -> None:
    cpu = chip.cpus[0]
    chip.ioapic.line(9)(True)
    chip.route(9, LEVEL | 0x59)
    cpu.take()
    chip.write(0x10 + 18, LEVEL | MASKED | 0x59)
    cpu.write(r.EOI, 0)
    assert not cpu.intr
    chip.write(0x10 + 18, LEVEL | 0x59)
    assert cpu.serve() == 0x59


def test_an_entry_made_edge_triggered_forgets_remote_irr(chip: Chip) -> None:
    """How Linux unsticks an entry whose EOI was lost."""
    chip.ioapic.line(9)(True)
    chip.route(9, LEVEL | 0x59)
    chip.write(0x10 + 18, MASKED | 0x59)
    assert chip.read(0x10 + 18) == MASKED | 0x59
    chip.write(0x10 + 18, LEVEL | 0x59)
    assert chip.read(0x10 + 18) & REMOTE_IRR


def test_delivery_modes_and_destinations(chip: Chip) -> None:
    first, second = chip.cpus
    for number, cpu in enumerate(chip.cpus):
        cpu.write(r.LDR, 1 << 24 + number)
    first.write(r.TPR, 0x20)
    for pin, low, destination in ((1, LOGICAL | 0x41, 3), (2, LOGICAL | LOWEST | 0x52, 3), (3, NMI, 1), (5, INIT, 1)):
        chip.route(pin, low, destination)
    chip.pulse(1)
    assert (first.serve(), second.serve()) == (0x41, 0x41)
    chip.pulse(2)
    assert (first.intr, second.serve()) == (False, 0x52)
    chip.pulse(3)
    chip.pulse(5)
    assert second.signals == [("nmi", 0), ("init", 0)]


def test_ext_int_asks_the_8259s(chip: Chip) -> None:
    cpu = chip.cpus[0]
    chip.route(0, EXT_INT)
    cpu.pic_vectors = [0x28]
    cpu.write(r.TPR, 0xFF)
    chip.pulse(0)
    assert cpu.take() == 0x28
    assert not cpu.intr


def test_there_are_24_pins(chip: Chip) -> None:
    for pin in (-1, 24):
        with pytest.raises(ValueError, match="not an input"):
            chip.ioapic.line(pin)


def test_random_traffic_leaves_no_level_behind() -> None:
    """Once every line is low and masked, the CPU gets to the end of what was sent."""
    rng, chip = random.Random(7), Chip()
    cpu = chip.cpus[0]
    for _ in range(5000):
        match rng.randrange(4):
            case 0:
                chip.write(rng.randrange(256), rng.getrandbits(32))
            case 1:
                pin = rng.randrange(24)
                chip.route(pin, rng.choice((0, LEVEL, MASKED, LEVEL | MASKED)) | rng.randrange(16, 256))
            case 2:
                chip.ioapic.line(rng.randrange(24))(rng.random() < 0.5)
            case 3 if cpu.intr:
                cpu.serve()
    for pin in range(24):
        chip.ioapic.line(pin)(False)
        chip.write(0x10 + 2 * pin, chip.read(0x10 + 2 * pin) | MASKED)
    while cpu.intr:
        cpu.serve()
    assert chip.cpus[0].apic.vectors.isr == 0
