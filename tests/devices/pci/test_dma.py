"""What a function reaches by itself: memory in pieces, local APICs, nothing where it is not allowed."""

import pytest

from devices.interrupts.interrupt_bus import DeliveryMode, InterruptBus, InterruptMessage
from devices.interrupts.message_signalled import decode_message
from devices.pci.dma import TRANSFER_MAX_BYTES, BusMaster, Upstream
from tests.devices.pci.memory import FakeMemory

ONES = b"\xff"


class Apic:
    """Takes every message."""

    processor_priority = 0

    def __init__(self) -> None:
        self.messages: list[InterruptMessage] = []

    def is_addressed(self, destination: int, *, is_logical: bool) -> bool:
        return True

    def accept(self, message: InterruptMessage) -> None:
        self.messages.append(message)


class Rig:
    def __init__(self, *, is_allowed: bool = True) -> None:
        self.memory, self.apic, bus = FakeMemory(), Apic(), InterruptBus()
        bus.attach(self.apic)
        self.upstream = Upstream(self.memory, bus)
        self.master = BusMaster(lambda: is_allowed)
        self.master.port = self.upstream


def test_a_transfer_comes_in_pieces_that_cross_no_page() -> None:
    rig = Rig()
    data = bytes(range(250)) * 20
    rig.master.write(0xF80, data)
    assert rig.memory.accesses == [(0xF80, 0x80, True), (0x1000, 0x1000, True), (0x2000, 0x308, True)]
    assert rig.master.read(0xF80, len(data)) == data
    assert not any(rig.memory.bytes[:0xF80])
    assert not any(rig.memory.bytes[0xF80 + len(data) :])


def test_beyond_the_last_address_it_goes_on_at_the_first() -> None:
    rig = Rig()
    assert rig.master.read((1 << 64) - 16, 32) == ONES * 16 + bytes(16)
    assert [access[:2] for access in rig.memory.accesses] == [((1 << 64) - 16, 16), (0, 16)]


def test_a_function_that_is_not_allowed_reads_ones_and_writes_nothing() -> None:
    rig = Rig(is_allowed=False)
    assert rig.master.read(0, 5000) == ONES * 5000
    rig.master.write(0, bytes(5000))
    rig.master.write(0xFEE0_0000, bytes(4))
    assert (rig.memory.accesses, rig.apic.messages) == ([], [])


@pytest.mark.parametrize("is_allowed", [True, False])
def test_a_device_that_does_not_split_what_is_long_is_wrong(is_allowed: bool) -> None:
    rig = Rig(is_allowed=is_allowed)
    assert rig.master.read(0, 0) == b""
    assert len(rig.master.read(0, TRANSFER_MAX_BYTES)) == TRANSFER_MAX_BYTES
    with pytest.raises(ValueError, match="wants to transfer 65537 bytes"):
        rig.master.read(0, TRANSFER_MAX_BYTES + 1)
    with pytest.raises(ValueError, match="wants to transfer 65537 bytes"):
        rig.master.write(0, bytes(TRANSFER_MAX_BYTES + 1))
    with pytest.raises(ValueError, match="wants to transfer -1 bytes"):
        rig.master.read(0, -1)


def test_what_is_written_where_local_apics_are_is_a_message_of_32_bits_or_nothing() -> None:
    rig = Rig()
    rig.upstream.write(0xFEE0_3000, (0x4041).to_bytes(4, "little"))
    for address, data in ((0xFEE0_0000, bytes(8)), (0xFEE0_0000, bytes(2)), (0xFEE0_0002, bytes(4))):
        rig.upstream.write(address, data)
    assert rig.apic.messages == [InterruptMessage(vector=0x41, destination=3)]
    assert rig.upstream.read(0xFEE0_0020, 4) == ONES * 4
    assert rig.memory.accesses == []


def test_a_message_says_who_gets_what() -> None:
    assert decode_message(0xFEE0_5000, 0x31) == InterruptMessage(vector=0x31, destination=5)
    assert decode_message(0xFEE0_C004, 0x0131) == InterruptMessage(
        vector=0x31, delivery_mode=DeliveryMode.LOWEST_PRIORITY, destination=0x0C, is_logical=True
    )
    assert decode_message(0xFEEF_F000, 0x0400) == InterruptMessage(vector=0, delivery_mode=DeliveryMode.NMI)
    assert decode_message(0xFEE0_0000, 0xC099) == InterruptMessage(vector=0x99, destination=0, is_level=True)


def test_a_redirected_message_goes_to_one_of_those_addressed() -> None:
    message = decode_message(0xFEE0_300C, 0x31)
    assert message is not None
    assert message.delivery_mode == DeliveryMode.LOWEST_PRIORITY


@pytest.mark.parametrize("data", [0x0331, 0x0631, 0x8031])
def test_reserved_modes_and_a_level_that_is_released_send_nothing(data: int) -> None:
    assert decode_message(0xFEE0_0000, data) is None
