"""Claims about the buses: who answers, at which offset, in which width."""

import pytest

from emulator.bus import PORT_COUNT, MmioBus, PortBus, SharedLine


class Registers:
    """A device whose bytes read as 0x10 + offset, and which notes its accesses."""

    def __init__(self, *widths_bytes: int) -> None:
        self.widths_bytes = widths_bytes
        self.seen: list[tuple[object, ...]] = []

    def read(self, offset: int, size_bytes: int) -> int:
        self.seen.append(("read", offset, size_bytes))
        return sum(0x10 + offset + i << 8 * i for i in range(size_bytes)) | 1 << 8 * size_bytes

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        self.seen.append(("write", offset, size_bytes, value))


def test_a_device_sees_offsets_and_its_answer_is_cut_to_the_width() -> None:
    bus, device = PortBus(), Registers(1, 2, 4)
    bus.attach(0x3F8, 8, device)
    assert bus.read(0x3FA, 1) == 0x12
    assert bus.read(0x3F8, 4) == 0x13121110
    bus.write(0x3FF, 1, 0x1234)
    assert device.seen == [("read", 2, 1), ("read", 0, 4), ("write", 7, 1, 0x34)]


def test_a_width_the_device_lacks_is_split_into_bytes_in_order() -> None:
    bus, device = PortBus(), Registers(1)
    bus.attach(0x20, 4, device)
    assert bus.read(0x20, 2) == 0x1110
    bus.write(0x20, 4, 0x44332211)
    assert device.seen[2:] == [("write", i, 1, (i + 1) * 0x11) for i in range(4)]


def test_a_split_access_reaches_each_ports_own_device() -> None:
    bus, low, high = PortBus(), Registers(1), Registers(1)
    bus.attach(0x60, 1, low)
    bus.attach(0x61, 1, high)
    assert bus.read(0x60, 2) == 0x1010
    assert bus.read(0x61, 2) == 0xFF10
    bus.write(0x60, 2, 0xBEEF)
    assert low.seen[-1] == ("write", 0, 1, 0xEF)
    assert high.seen[-1] == ("write", 0, 1, 0xBE)


class Movable:
    """A device at any of the ports from 0x80 on."""

    def __init__(self, device: Registers) -> None:
        self.device = device

    def find_port(self, port: int, size_bytes: int) -> tuple[Registers, int] | None:
        return (self.device, port - 0x80) if port >= 0x80 and size_bytes == 1 else None


def test_ports_that_can_move_answer_where_no_other_device_does() -> None:
    bus, fixed, movable = PortBus(), Registers(1), Registers(1)
    bus.attach(0x82, 2, fixed)
    bus.behind = Movable(movable)
    assert [bus.read(port, 1) for port in (0x7F, 0x80, 0x82, 0x84)] == [0xFF, 0x10, 0x10, 0x14]
    assert bus.read(0x81, 2) == 0x1011
    bus.write(0x83, 2, 0xBEEF)
    assert movable.seen[-1] == ("write", 4, 1, 0xBE)


def test_a_shared_line_is_asserted_while_any_input_asserts_it() -> None:
    levels: list[bool] = []
    shared = SharedLine(levels.append)
    one, other = shared.input(), shared.input()
    for line, level in ((one, True), (other, True), (one, True), (one, False), (one, False), (other, False)):
        line(level)
    assert levels == [True, False]


def test_nobody_answers_with_ones_and_swallows_writes() -> None:
    bus = PortBus()
    assert [bus.read(0x99, size) for size in (1, 2, 4)] == [0xFF, 0xFFFF, 0xFFFFFFFF]
    bus.write(0x99, 4, 7)


def test_the_last_ports_wrap_to_the_first() -> None:
    bus, device = PortBus(), Registers(1)
    bus.attach(0, 1, device)
    assert bus.read(PORT_COUNT - 1, 2) == 0x10FF


@pytest.mark.parametrize(("base", "length"), [(0x23, 1), (0x1E, 8), (0xFFFF, 2), (-1, 1)])
def test_a_port_that_is_taken_or_does_not_exist_cannot_be_claimed_and_nothing_is(base: int, length: int) -> None:
    bus, owner, late = PortBus(), Registers(1), Registers(1)
    bus.attach(0x20, 4, owner)
    with pytest.raises(ValueError, match="cannot be claimed"):
        bus.attach(base, length, late)
    for port in (0x1E, 0x1F, 0x23, 0x24, 0xFFFF):
        bus.read(port, 1)
    assert late.seen == []


def test_a_device_in_memory_sees_offsets_and_widths_it_decodes() -> None:
    bus, device = MmioBus(), Registers(4)
    bus.attach(0xFEE0_0000, 0x1000, device)
    assert bus.read(0xFEE0_0020, 4) == 0x33323130
    bus.write(0xFEE0_0024, 4, 0x1_2345_6789)
    assert device.seen == [("read", 0x20, 4), ("write", 0x24, 4, 0x2345_6789)]
    assert bus.read(0xFEE0_0022, 4) == 0xFFFF_FFFF
    assert len(device.seen) == 2
    assert bus.read(0xFEE0_0020, 2) == 0xFFFF


def test_what_no_device_decodes_whole_is_split_in_two() -> None:
    bus, low, high = MmioBus(), Registers(4), Registers(1)
    bus.attach(0x1000, 8, low)
    bus.attach(0x1008, 8, high)
    assert bus.read(0x1000, 8) == 0x17161514_13121110
    bus.write(0x1004, 8, 0x88776655_44332211)
    assert low.seen[2:] == [("write", 4, 4, 0x44332211)]
    assert high.seen == [("write", i, 1, 0x55 + 0x11 * i) for i in range(4)]
    bus.write(0x1006, 3, 0)  # odd pieces of an access that crosses a page
    assert high.seen[-1] == ("write", 0, 1, 0)


def test_what_lies_in_front_hides_what_is_behind() -> None:
    behind, own, shared = MmioBus(), Registers(1), Registers(1)
    front = MmioBus(behind)
    behind.attach(0x1000, 0x2000, shared)
    front.attach(0x2000, 0x1000, own)
    assert (front.read(0x1005, 1), front.read(0x2005, 1), behind.read(0x2005, 1)) == (0x15, 0x15, 0x1015 & 0xFF)
    assert (own.seen, shared.seen) == ([("read", 5, 1)], [("read", 5, 1), ("read", 0x1005, 1)])
    assert [front.is_own(address) for address in (0x1FFF, 0x2000, 0x2FFF, 0x3000)] == [False, True, True, False]
    assert [front.covers(*place) for place in ((0, 0x1000), (0xFFF, 2), (0x2FFF, 1), (0x3000, 9))] == [
        False,
        True,
        True,
        False,
    ]
    filled = [(0x2000, 0x1000), (0x1000, 0x2000), (0x1FFF, 0x1001), (0x2FFF, 2), (0x2FFF, 1), (0, 0x1000)]
    assert [front.is_filled(*place) for place in filled] == [True, True, True, False, True, False]


def test_nobody_answers_in_memory_either() -> None:
    bus = MmioBus()
    bus.write(0x1234, 8, 1)
    assert [bus.read(0x1234, size) for size in (1, 3, 8, 16)] == [(1 << 8 * size) - 1 for size in (1, 3, 8, 16)]


@pytest.mark.parametrize(("base", "length"), [(0x1FFF, 1), (0xFFF, 2), (0, 0x10000), (0x1800, 1), (-1, 1), (0x3000, 0)])
def test_addresses_that_are_taken_cannot_be_claimed(base: int, length: int) -> None:
    bus = MmioBus()
    bus.attach(0x1000, 0x1000, Registers(1))
    with pytest.raises(ValueError, match="cannot be claimed"):
        bus.attach(base, length, Registers(1))
