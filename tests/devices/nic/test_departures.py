"""What a card says of when it may send next: never too late, never taken back, and worth something while it is idle."""

from functools import partial

import pytest

from devices.nic.programs import PROGRAMS, send
from tests.devices.nic.rig import Rig
from tests.devices.nic.scenario import Life

PS_PER_BYTE = 8_000
AROUND_FRAME_BYTES = 12  # preamble and check sequence


@pytest.mark.parametrize("seed", range(4))
def test_no_frame_leaves_before_what_was_said_and_what_was_said_holds(seed: int) -> None:
    """Whatever guests do. All that happens outside the chip is an event here."""
    life = Life(seed, actions=400)
    events, nic, end = life.rig.events, life.rig.nics[0], life.rig.ends[0]
    said_ps = known = 0
    while (next_ps := events.next_ps()) is not None and next_ps < life.within_ps:
        first_ps = nic.departures.first_ps(next_ps)
        assert first_ps >= said_ps
        said_ps = first_ps
        events.run_until(next_ps)
        for frame, last_bit_ps in end.sent[known:]:
            assert last_bit_ps - (len(frame) + AROUND_FRAME_BYTES) * PS_PER_BYTE >= said_ps
        known = len(end.sent)
    assert known > 50


def test_an_idle_card_takes_at_least_a_descriptor_a_frame_and_two_rings() -> None:
    rig = Rig()
    guest = rig.guest(0, 1)
    rig.run(us=3)
    departures = rig.nics[0].departures
    idle_ps = departures.first_ps(rig.events.now_ps) - rig.events.now_ps
    assert idle_ps == departures.answer_ps > 1_600_000
    now_ps = rig.events.now_ps
    guest.send(b"\2\0\0\0\1\1", bytes(50))
    rig.run(us=10)
    first_bit_ps = rig.ends[0].sent[0][1] - (64 + AROUND_FRAME_BYTES) * PS_PER_BYTE
    assert idle_ps < first_bit_ps - now_ps < idle_ps + 1_500_000


def test_a_program_of_somebody_else_may_send_at_any_time() -> None:
    rig = Rig(programs={**PROGRAMS, 3: partial(send)})
    assert rig.nics[0].departures.first_ps(123) == 123
    assert rig.nics[0].departures.answer_ps == 0
