"""The NIC as a guest's driver and the VMM see it."""

import pytest

from devices.nic.board import load_board
from devices.nic.nic import Nic
from devices.nic.vif_page import DONE, RECEIVE_RING, SEND_RING
from emulator.events import EventQueue
from tests.devices.nic.rig import PAGE, SEND_BUFFERS, Ram, Rig
from tests.devices.pci.memory import FakeMemory


def test_a_frame_gets_from_one_guest_to_the_other() -> None:
    rig = Rig()
    one, other = rig.guest(0, 0), rig.guest(1, 0)
    one.send(other.mac, b"x" * 50)
    rig.run(20)
    assert one.read(SEND_RING, 0) == (SEND_BUFFERS, 64, DONE)
    assert other.read(RECEIVE_RING, 0)[1:] == (64, DONE)
    assert other.take() == [b"x" * 50]
    assert (other.delivered, one.delivered) == ([0], [])


def test_a_delivered_frame_sets_the_bit_of_its_vif_and_asserts_the_line_until_it_is_cleared() -> None:
    rig = Rig()
    guests = [rig.guest(1, number) for number in range(11)]
    sender = rig.guest(0, 0)
    sender.send(guests[10].mac, b"")
    rig.run(20)
    registers = rig.nics[1].doorbell
    assert (registers.read(0, 8), rig.lines[1].level, rig.lines[0].level) == (1 << 10 % 8, True, False)
    registers.write(0, 8, 0xFF)
    assert (registers.read(0, 8), rig.lines[1].level) == (0, False)


def test_frames_of_a_flow_come_in_order_whatever_their_lengths() -> None:
    rig = Rig()
    one, other = rig.guest(0, 0), rig.guest(1, 0)
    payloads = [bytes([number]) * (46 + 37 * number % 1400) for number in range(30)]
    for payload in payloads:
        one.send(other.mac, payload)
    rig.run(400)
    assert other.take() == payloads


def test_there_are_64_vifs_and_a_destroyed_ones_number_is_used_again() -> None:
    nic = Nic(EventQueue(), load_board())
    vifs = [nic.create_vif(bytes((2, 0, 0, 0, 0, number)), Ram()) for number in range(64)]
    assert nic.create_vif(bytes((2, 0, 0, 0, 1, 0)), Ram()) is None
    vif = vifs[7]
    assert vif is not None
    assert vif.attach(PAGE)
    nic.destroy_vif(vif)
    assert not vif.attach(PAGE)
    again = nic.create_vif(vif.mac, Ram())
    assert again is not None
    assert (again.number, again.is_attached) == (7, False)


@pytest.mark.parametrize("mac", [b"", bytes(7), b"\x01\0\0\0\0\0", b"\2\0\0\0\0\0"], ids=bytes.hex)
def test_a_mac_address_is_one_guests_alone(mac: bytes) -> None:
    nic = Nic(EventQueue(), load_board())
    nic.create_vif(b"\2\0\0\0\0\0", Ram())
    with pytest.raises(ValueError, match="no MAC address"):
        nic.create_vif(mac, Ram())


def test_with_msix_each_vif_has_its_vector() -> None:
    rig = Rig(signals="msix")
    guests = [rig.guest(1, number) for number in range(11)]
    function, memory = rig.nics[1].function, FakeMemory()
    function.bus_master.port = memory
    table = function.regions[1].device
    for vector in range(64):
        table.write(16 * vector, 8, 16 * vector)
        table.write(16 * vector + 8, 8, 0x4000 | vector)
    function.write(function.read(0x34, 1) + 2, 2, 1 << 15)
    sender = rig.guest(0, 0)
    for number in (10, 2):
        sender.send(guests[number].mac, b"")
    rig.run(40)
    assert [(address // 16, is_write) for address, _, is_write in memory.accesses] == [(10, True), (2, True)]
    assert (rig.nics[1].doorbell.identifier, rig.lines[1].level) == (0, False)


def test_without_signals_nothing_is_told_but_the_delivery() -> None:
    rig = Rig(signals="none")
    one, other = rig.guest(0, 0), rig.guest(1, 0)
    one.send(other.mac, b"")
    rig.run(20)
    assert (other.delivered, other.vif.counters.signals) == ([0], 0)
    assert (rig.nics[1].doorbell.identifier, rig.lines[1].level) == (0, False)
