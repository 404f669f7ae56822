"""More VIFs than bits of the identifier register: whose frame it is, a signal does not say; a sidecore knows."""

import pytest

from tests.vmm.nic.rig import PS_PER_MS, Rig, frame_to, make_rig, receiver
from vmm.nic.registry import Signal
from vmm.scheduler.credit import CreditScheduler

FRAMES = 5
FOREVER = 1000


def rig_of(guests: int, *, signal: Signal = "interrupt", identifier_bits: int = 8, cores: int = 1) -> Rig:
    """Guests that sleep until frames come; those for guest 0 come from 50 ms on."""
    sidecores = int(signal == "sidecore")
    rig = make_rig(
        "ept",
        guests=guests,
        cores=cores + sidecores,
        sidecores=sidecores,
        signal=signal,
        identifier_bits=identifier_bits,
        scheduler=CreditScheduler(cores),
    )
    for _ in range(guests):
        rig.add(receiver(FOREVER))
    for number in range(FRAMES):
        rig.end.arrive((50 + number) * PS_PER_MS, frame_to(0))
    rig.run(60 * PS_PER_MS)
    return rig


def test_every_guest_with_the_bit_is_signalled_and_scheduled_for_nothing() -> None:
    rig = rig_of(4, identifier_bits=2)
    for number, redundant in ((0, 0), (1, None), (2, FRAMES), (3, None)):
        counts = rig.counts(number)
        if redundant is None:  # another bit
            assert counts["signals"] == 0
            continue
        assert counts["signals"] == counts["schedulings"] == FRAMES
        assert counts["redundant"] == counts["redundant_schedulings"] == redundant


@pytest.mark.parametrize(("guests", "signal", "bits"), [(4, "interrupt", 4), (4, "sidecore", 1), (4, "msix", 1)])
def test_nothing_is_redundant_with_as_many_bits_as_guests_nor_where_none_are_used(
    guests: int, signal: Signal, bits: int
) -> None:
    rig = rig_of(guests, signal=signal, identifier_bits=bits)
    assert rig.counts(0)["signals"] == FRAMES
    assert all(rig.counts(number)["redundant"] == 0 for number in range(guests))


def test_signals_are_one_a_packet_for_each_vif_of_the_bit_and_schedulings_are_no_more() -> None:
    rig = rig_of(6, identifier_bits=1)
    counts = [rig.counts(number) for number in range(6)]
    assert sum(c["signals"] for c in counts) == 6 * FRAMES
    assert all(c["schedulings"] <= c["signals"] for c in counts)
