"""Packets of gdb's remote protocol: what is sent is what arrives, in whatever pieces, and damage is seen."""

import random

import pytest

from tests.vmm.session.debugger.gdb.client import without_runs
from vmm.session.debugger.gdb.packets import PACKET_MAX_BYTES, Packet, Parser, Sign, frame


def payloads(dice: random.Random) -> bytes:
    alphabet = dice.choice([b"0", b"0x", b"#$}*+-", bytes(range(256))])
    return b"".join(bytes((dice.choice(alphabet),)) * dice.choice((1, 1, 2, 4, 7, 40, 130)) for _ in range(20))


def test_what_is_sent_is_what_arrives() -> None:
    dice = random.Random("packets")
    for _ in range(300):
        payload = payloads(dice)
        sent = b"+" + without_runs(frame(payload))
        at = dice.randrange(len(sent))
        parser = Parser()
        assert parser.feed(sent[:at]) + parser.feed(sent[at:]) == [Sign.ACKNOWLEDGED, Packet(payload)]


def test_runs_are_short_and_have_no_sign_as_count() -> None:
    for length in range(1, 300):
        raw = frame(b"a" * length)[1:-3]
        assert len(raw) <= 3 * (length // 98 + 1) + 4
        assert not set(raw) & set(b"#$+-")


@pytest.mark.parametrize(
    "sent", [b"$g#00", b"$g#6", b"$g", b"$" + b"a" * (PACKET_MAX_BYTES + 1) + b"#00", b"$g#zz", b"garbage", b"#67"]
)
def test_after_damage_the_next_packet_is_found(sent: bytes) -> None:
    found = Parser().feed(sent + b"$g#67\x03")
    assert found[-2:] == [Packet(b"g"), Sign.INTERRUPT]
    assert set(found[:-2]) <= {Sign.DAMAGED}


def test_a_byte_that_interrupts_is_none_within_a_packet() -> None:
    assert Parser().feed(frame(b"X0,1:\x03")) == [Packet(b"X0,1:\x03")]
