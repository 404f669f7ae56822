"""The interrupt controllers as a kernel's driver uses them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.interrupts.i8259 import I8259
from devices.interrupts.i8259_pair import I8259Pair
from tests.devices.wire import Wire

MASTER_BASE, SLAVE_BASE = 0x20, 0x28
EOI, ROTATE_EOI, SPECIFIC_EOI, ROTATE_SPECIFIC_EOI, SET_PRIORITY = 0x20, 0xA0, 0x60, 0xE0, 0xC0
READ_IRR, READ_ISR, POLL, SMM_ON, SMM_OFF = 0x0A, 0x0B, 0x0C, 0x68, 0x48


def write(chip: I8259, offset: int, value: int) -> None:
    chip.write(offset, 1, value)


def initialise(chip: I8259, *, base: int, icw3: int, icw4: int = 0x01, icw1: int = 0x11) -> None:
    write(chip, 0, icw1)
    write(chip, 1, base)
    if not icw1 & 0x02:
        write(chip, 1, icw3)
    if icw1 & 0x01:
        write(chip, 1, icw4)


def single(icw4: int = 0x01, icw1: int = 0x13) -> tuple[I8259, Wire]:
    wire = Wire()
    chip = I8259(wire)
    initialise(chip, base=MASTER_BASE, icw3=0, icw4=icw4, icw1=icw1)
    return chip, wire


def linux_pair(master_icw4: int = 0x01, slave_icw4: int = 0x01) -> tuple[I8259Pair, Wire]:
    wire = Wire()
    pair = I8259Pair(wire)
    initialise(pair.master, base=MASTER_BASE, icw3=0x04, icw4=master_icw4)
    initialise(pair.slave, base=SLAVE_BASE, icw3=0x02, icw4=slave_icw4)
    return pair, wire


def end_slave_interrupt(pair: I8259Pair) -> None:
    write(pair.slave, 0, EOI)
    write(pair.master, 0, EOI)


def in_service(chip: I8259) -> int:
    write(chip, 0, READ_ISR)
    return chip.read(0, 1)


def requested(chip: I8259) -> int:
    write(chip, 0, READ_IRR)
    return chip.read(0, 1)


def test_a_masters_irq_raises_int_and_yields_its_vector() -> None:
    pair, wire = linux_pair()
    pair.line(4)(True)
    assert pair.output
    assert wire.level
    assert pair.acknowledge() == MASTER_BASE + 4
    assert not pair.output
    assert not wire.level
    assert in_service(pair.master) == 0x10
    write(pair.master, 0, EOI)
    assert in_service(pair.master) == 0
    assert not pair.output  # edge: a line that stays high does not request again


def test_a_slaves_irq_goes_through_ir2_and_yields_the_slaves_vector() -> None:
    pair, _ = linux_pair()
    pair.line(8)(True)
    assert pair.acknowledge() == SLAVE_BASE
    assert (in_service(pair.master), in_service(pair.slave)) == (0x04, 0x01)
    pair.line(9)(True)
    assert not pair.output  # lower priority on the same slave
    end_slave_interrupt(pair)
    assert pair.output
    assert pair.acknowledge() == SLAVE_BASE + 1


def test_the_imr_reads_back_and_withholds_requests() -> None:
    pair, _ = linux_pair()
    write(pair.master, 1, 0xFB)
    assert pair.master.read(1, 1) == 0xFB
    pair.line(0)(True)
    assert not pair.output
    assert requested(pair.master) == 0x01
    write(pair.master, 1, 0xFA)
    assert pair.output
    write(pair.master, 1, 0xFB)
    assert not pair.output


def test_a_higher_priority_request_nests_and_a_lower_one_waits() -> None:
    pair, _ = linux_pair()
    pair.line(3)(True)
    assert pair.acknowledge() == MASTER_BASE + 3
    pair.line(5)(True)
    assert not pair.output
    pair.line(1)(True)
    assert pair.acknowledge() == MASTER_BASE + 1
    write(pair.master, 0, EOI)  # ends 1, the best in service
    assert in_service(pair.master) == 0x08
    assert not pair.output
    write(pair.master, 0, EOI)
    assert pair.acknowledge() == MASTER_BASE + 5


def test_on_output_can_be_set_later() -> None:
    pair, _ = linux_pair()
    wire = Wire()
    pair.on_output = wire
    assert pair.on_output is wire
    pair.line(1)(True)
    assert wire.level


@pytest.mark.parametrize("irq", [-1, 2, 16])
def test_the_pair_has_no_line_for(irq: int) -> None:
    with pytest.raises(ValueError, match=f"IRQ {irq} "):
        I8259Pair().line(irq)


def test_a_request_that_falls_before_inta_is_spurious_irq7_without_service() -> None:
    pair, _ = linux_pair()
    pair.line(4)(True)
    pair.line(4)(False)
    assert pair.output  # the glitch has set INT
    assert pair.acknowledge() == MASTER_BASE + 7
    assert in_service(pair.master) == 0
    assert not pair.output


def test_a_request_that_falls_on_the_slave_is_spurious_irq15_and_serves_ir2() -> None:
    pair, _ = linux_pair()
    pair.line(12)(True)
    pair.line(12)(False)
    assert pair.acknowledge() == SLAVE_BASE + 7
    assert (in_service(pair.master), in_service(pair.slave)) == (0x04, 0)
    write(pair.master, 0, EOI)
    assert not pair.output


def test_inta_without_int_is_spurious_irq7() -> None:
    pair, _ = linux_pair()
    assert pair.acknowledge() == MASTER_BASE + 7
    assert in_service(pair.master) == 0


def test_an_elcr_bit_makes_a_line_request_as_long_as_it_is_high() -> None:
    pair, _ = linux_pair()
    pair.elcr.write(0, 1, 0xFF)
    pair.elcr.write(1, 1, 0xFF)
    assert (pair.elcr.read(0, 1), pair.elcr.read(1, 1)) == (0xF8, 0xDE)  # 0-2, 8 and 13 stay edge-triggered
    pair.line(5)(True)
    assert pair.acknowledge() == MASTER_BASE + 5
    assert requested(pair.master) == 0x20
    write(pair.master, 0, EOI)
    assert pair.output
    assert pair.acknowledge() == MASTER_BASE + 5
    pair.line(5)(False)
    write(pair.master, 0, EOI)
    assert not pair.output


def test_a_slaves_level_line_interrupts_again_after_both_eois() -> None:
    pair, _ = linux_pair()
    pair.elcr.write(1, 1, 0x08)
    pair.line(11)(True)
    for _ in range(3):
        assert pair.acknowledge() == SLAVE_BASE + 3
        end_slave_interrupt(pair)
    pair.line(11)(False)
    assert pair.acknowledge() == SLAVE_BASE + 7
    write(pair.master, 0, EOI)
    assert not pair.output


def test_icw1_ltim_makes_every_input_level_triggered() -> None:
    chip, _ = single(icw1=0x1B)
    chip.set_line(0, True)
    assert chip.acknowledge() == MASTER_BASE
    write(chip, 0, EOI)
    assert chip.output


def test_initialisation_forgets_requests_masks_and_service() -> None:
    chip, _ = single()
    for level in (1, 6):
        chip.set_line(level, True)
    chip.acknowledge()
    write(chip, 1, 0x80)
    initialise(chip, base=0x70, icw3=0, icw1=0x13)
    assert not chip.output
    assert (requested(chip), in_service(chip), chip.read(1, 1)) == (0, 0, 0)
    chip.set_line(6, False)
    chip.set_line(6, True)  # a new edge is needed
    assert chip.acknowledge() == 0x76


def test_without_icw4_the_imr_follows_icw2_in_a_single_chip() -> None:
    chip, _ = single(icw1=0x12)
    write(chip, 1, 0x5A)
    assert chip.read(1, 1) == 0x5A


def test_automatic_eoi_leaves_nothing_in_service() -> None:
    chip, _ = single(icw4=0x03)
    chip.set_line(3, True)
    chip.set_line(5, True)
    assert chip.acknowledge() == MASTER_BASE + 3
    assert in_service(chip) == 0
    assert chip.acknowledge() == MASTER_BASE + 5


def test_a_slave_in_automatic_eoi_mode_gives_the_master_an_edge_per_interrupt() -> None:
    pair, _ = linux_pair(master_icw4=0x03, slave_icw4=0x03)
    pair.line(9)(True)
    pair.line(10)(True)
    assert pair.acknowledge() == SLAVE_BASE + 1
    assert pair.output
    assert pair.acknowledge() == SLAVE_BASE + 2
    assert not pair.output


def test_rotate_on_automatic_eoi_makes_the_served_level_the_lowest() -> None:
    chip, _ = single(icw4=0x03)
    write(chip, 0, 0x80)
    chip.set_line(0, True)
    assert chip.acknowledge() == MASTER_BASE
    chip.set_line(0, False)
    chip.set_line(0, True)
    chip.set_line(7, True)
    assert chip.acknowledge() == MASTER_BASE + 7  # 0 is the lowest now
    write(chip, 0, 0x00)
    assert chip.acknowledge() == MASTER_BASE
    chip.set_line(7, False)
    chip.set_line(7, True)
    chip.set_line(1, True)
    assert chip.acknowledge() == MASTER_BASE + 1  # and rotation is off: 7 has stayed the lowest


def test_rotate_on_nonspecific_eoi() -> None:
    chip, _ = single()
    for level in (3, 4, 2):
        chip.set_line(level, True)
    assert chip.acknowledge() == MASTER_BASE + 2
    write(chip, 0, ROTATE_EOI)
    chip.set_line(2, False)
    chip.set_line(2, True)
    assert chip.acknowledge() == MASTER_BASE + 3
    write(chip, 0, ROTATE_EOI)
    assert chip.acknowledge() == MASTER_BASE + 4
    write(chip, 0, ROTATE_EOI)
    assert chip.acknowledge() == MASTER_BASE + 2


def test_rotate_on_nonspecific_eoi_with_nothing_in_service_changes_no_priority() -> None:
    chip, _ = single()
    write(chip, 0, SET_PRIORITY | 2)
    write(chip, 0, ROTATE_EOI)
    chip.set_line(2, True)
    chip.set_line(3, True)
    assert chip.acknowledge() == MASTER_BASE + 3


def test_set_priority_chooses_the_lowest_level() -> None:
    chip, _ = single()
    write(chip, 0, SET_PRIORITY | 4)
    chip.set_line(0, True)
    chip.set_line(5, True)
    assert chip.acknowledge() == MASTER_BASE + 5
    assert not chip.output  # 0 comes after 5 now


def test_a_specific_eoi_ends_that_level_only() -> None:
    chip, _ = single()
    chip.set_line(5, True)
    chip.acknowledge()
    chip.set_line(1, True)
    chip.acknowledge()
    write(chip, 0, SPECIFIC_EOI | 5)
    assert in_service(chip) == 0x02
    write(chip, 0, ROTATE_SPECIFIC_EOI | 1)
    assert in_service(chip) == 0
    chip.set_line(1, False)
    for level in (1, 2):
        chip.set_line(level, True)
    assert chip.acknowledge() == MASTER_BASE + 2


def test_special_mask_mode_lets_lower_levels_through_a_masked_level_in_service() -> None:
    chip, _ = single()
    chip.set_line(1, True)
    chip.acknowledge()
    chip.set_line(6, True)
    write(chip, 1, 0x02)
    assert not chip.output
    write(chip, 0, SMM_ON)
    assert chip.output
    assert chip.acknowledge() == MASTER_BASE + 6
    write(chip, 0, EOI)  # "an IS bit that is masked ... will not be cleared by a non-specific EOI"
    assert in_service(chip) == 0x02
    chip.set_line(7, True)
    assert chip.output
    write(chip, 0, SMM_OFF)
    assert not chip.output


def test_special_fully_nested_mode_lets_the_slave_interrupt_itself() -> None:
    for master_icw4, nests in ((0x11, True), (0x01, False)):
        pair, _ = linux_pair(master_icw4=master_icw4)
        pair.line(12)(True)
        assert pair.acknowledge() == SLAVE_BASE + 4
        pair.line(9)(True)
        assert pair.output == nests


def test_poll_takes_a_request_into_service_without_inta() -> None:
    chip, _ = single()
    write(chip, 0, POLL)
    assert chip.read(0, 1) & 0x80 == 0
    chip.set_line(3, True)
    write(chip, 0, POLL)
    assert chip.read(0, 1) == 0x83
    assert not chip.output
    assert in_service(chip) == 0x08
    assert chip.read(0, 1) == 0x08  # a poll is one read long


def test_a_master_without_a_slave_on_ir2_answers_for_it_itself() -> None:
    pair = I8259Pair()
    initialise(pair.master, base=MASTER_BASE, icw3=0x00)
    initialise(pair.slave, base=SLAVE_BASE, icw3=0x02)
    pair.line(8)(True)
    assert pair.acknowledge() == MASTER_BASE + 2


def test_a_slave_with_a_wrong_id_leaves_the_bus_undriven() -> None:
    pair = I8259Pair()
    initialise(pair.master, base=MASTER_BASE, icw3=0x04)
    initialise(pair.slave, base=SLAVE_BASE, icw3=0x05)
    pair.line(8)(True)
    assert pair.acknowledge() == 0xFF


class ReferenceChip:
    """The priority rules of the data sheet with lists instead of bits; edge-triggered, no special modes."""

    def __init__(self) -> None:
        self.order = list(range(8))  # highest first
        self.high: set[int] = set()
        self.waiting: set[int] = set()
        self.served: set[int] = set()
        self.masked: set[int] = set()
        self.int_pin = False

    def best(self) -> int | None:
        for level in self.order:
            if level in self.served:
                return None
            if level in self.waiting - self.masked:
                return level
        return None

    def lowest(self, level: int) -> None:
        while self.order[-1] != level:
            self.order.append(self.order.pop(0))

    def line(self, level: int, asserted: bool) -> None:
        if asserted and level not in self.high:
            self.waiting.add(level)
        (self.high.add if asserted else self.high.discard)(level)
        if not asserted:
            self.waiting.discard(level)
        self.int_pin |= self.best() is not None

    def acknowledge(self) -> int:
        level = self.best()
        if level is None:
            level = 7
        else:
            self.waiting.discard(level)
            self.served.add(level)
        self.int_pin = self.best() is not None
        return level

    def end(self, *, level: int | None, rotate: bool) -> None:
        if level is None:
            level = next((served for served in self.order if served in self.served), None)
        if level is not None:
            self.served.discard(level)
            if rotate:
                self.lowest(level)
        self.int_pin = self.best() is not None


levels = st.integers(0, 7)
traffic = st.lists(
    st.one_of(
        st.tuples(st.just("line"), levels, st.booleans()),
        st.tuples(st.just("acknowledge"), st.just(0), st.just(False)),
        st.tuples(st.just("end"), levels, st.booleans()),
        st.tuples(st.just("end specific"), levels, st.booleans()),
        st.tuples(st.just("set priority"), levels, st.just(False)),
        st.tuples(st.just("mask"), st.integers(0, 255), st.just(False)),
    ),
    max_size=60,
)


@given(traffic)
def test_a_chip_agrees_with_the_reference_under_any_traffic(operations: list[tuple[str, int, bool]]) -> None:
    chip, wire = single()
    reference = ReferenceChip()
    for operation, number, flag in operations:
        match operation:
            case "line":
                chip.set_line(number, flag)
                reference.line(number, flag)
            case "acknowledge":
                assert chip.acknowledge() == MASTER_BASE + reference.acknowledge()
            case "end":
                write(chip, 0, ROTATE_EOI if flag else EOI)
                reference.end(level=None, rotate=flag)
            case "end specific":
                write(chip, 0, (ROTATE_SPECIFIC_EOI if flag else SPECIFIC_EOI) | number)
                reference.end(level=number, rotate=flag)
            case "set priority":
                write(chip, 0, SET_PRIORITY | number)
                reference.lowest(number)
                reference.int_pin = reference.best() is not None
            case _:
                write(chip, 1, number)
                reference.masked = {level for level in range(8) if number >> level & 1}
                reference.int_pin = reference.best() is not None
        assert chip.output == wire.level == reference.int_pin
        assert in_service(chip) == sum(1 << level for level in reference.served)
        reference.int_pin = reference.best() is not None  # OCW3, a command word, settles INT
        assert requested(chip) == sum(1 << level for level in reference.waiting)


PAIR_ORDER = (0, 1, 8, 9, 10, 11, 12, 13, 14, 15, 3, 4, 5, 6, 7)


@given(st.sets(st.sampled_from(PAIR_ORDER), min_size=1))
def test_the_pair_serves_simultaneous_requests_in_the_pcs_order(irqs: set[int]) -> None:
    pair, _ = linux_pair()
    for irq in sorted(irqs):
        pair.line(irq)(True)
    served = []
    while pair.output:
        vector = pair.acknowledge()
        served.append(vector - MASTER_BASE)
        if vector >= SLAVE_BASE:
            write(pair.slave, 0, EOI)
        write(pair.master, 0, EOI)
    assert served == [irq for irq in PAIR_ORDER if irq in irqs]
