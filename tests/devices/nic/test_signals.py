"""How often the host is told, and of whom: what the width of the identifier register makes of it."""

import pytest

from tests.devices.nic.rig import Rig


def signals_of_packets(guests: int, bits: int) -> list[int]:
    """For a packet to each guest, one at a time: how many guests have the bit that is set."""
    rig = Rig(identifier_bits=bits)
    sender = rig.guest(0, 0)
    receivers = [rig.guest(1, number) for number in range(guests)]
    signals = []
    for receiver in receivers:
        sender.send(receiver.mac, b"")
        rig.run(20)
        identifier = rig.nics[1].doorbell.read(0, 8)
        rig.nics[1].doorbell.write(0, 8, identifier)
        signals.append(sum(identifier >> other.vif.bit & 1 for other in receivers))
    return signals


@pytest.mark.parametrize(
    ("guests", "bits", "signals"), [(8, 8, 1), (16, 8, 2), (32, 8, 4), (32, 32, 1), (64, 64, 1), (5, 1, 5)]
)
def test_a_packet_signals_each_guest_that_shares_its_bit(guests: int, bits: int, signals: int) -> None:
    assert signals_of_packets(guests, bits) == [signals] * guests


def test_packets_that_come_before_the_host_looks_are_one_interrupt() -> None:
    rig = Rig()
    sender, receivers = rig.guest(0, 0), [rig.guest(1, number) for number in range(3)]
    for receiver in (*receivers, receivers[0]):
        sender.send(receiver.mac, b"")
    rig.run(30)
    assert [level for _, level in rig.lines[1].changes] == [True]
    assert rig.nics[1].doorbell.read(0, 8) == 0b111
    assert [receiver.vif.counters.told for receiver in receivers] == [2, 1, 1]


def test_a_masked_register_keeps_its_bits_and_interrupts_nobody() -> None:
    rig = Rig()
    sender, receiver = rig.guest(0, 0), rig.guest(1, 0)
    rig.nics[1].doorbell.write(8, 8, (1 << 64) - 1)
    sender.send(receiver.mac, b"")
    rig.run(20)
    assert (rig.lines[1].level, rig.nics[1].doorbell.read(0, 8), receiver.delivered) == (False, 1, [0])
    rig.nics[1].doorbell.write(8, 8, 0)
    assert rig.lines[1].level


def test_the_frame_is_in_memory_when_the_host_is_told() -> None:
    rig = Rig()
    sender, receiver = rig.guest(0, 0), rig.guest(1, 0)
    sender.send(receiver.mac, b"there".ljust(46))
    while not rig.lines[1].level:
        rig.events.run_until(rig.events.now_ps + 1000)
    assert receiver.take() == [b"there".ljust(46)]
