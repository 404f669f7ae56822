"""Packets of gdb's remote serial protocol: bytes in, values out, and back; it knows no socket and no meaning.

    + $qSupported:swbreak+#2f         acknowledgement, then a packet: payload, and the sum of its bytes modulo 256
    $ } x    x ^ 0x20                 escaped: # $ } and, in answers, *
    $ 0 * space                       0, and 3 more of it: a run, in answers only
    0x03                              outside of a packet: stop the target

Source: "Debugging with GDB", appendix E.1, Overview.
"""

from dataclasses import dataclass
from enum import Enum

PACKET_MAX_BYTES = 0x4000  # of a payload as it is sent
INTERRUPT, ESCAPE, FLIP = 0x03, 0x7D, 0x20
RUN_MIN, RUN_MAX, RUN_BASE = 3, 97, 29  # bytes behind the first one; the count is sent as 29 more
FORBIDDEN_COUNTS = frozenset(b"#$+-")


class Sign(Enum):
    """What arrives beside packets."""

    ACKNOWLEDGED = "the other side has our packet"
    REFUSED = "it wants it again"
    INTERRUPT = "stop the target"
    DAMAGED = "a packet whose sum is wrong, or that is too long"


@dataclass(frozen=True)
class Packet:
    """A payload, without escapes."""

    payload: bytes


SIGNS = {ord("+"): Sign.ACKNOWLEDGED, ord("-"): Sign.REFUSED, INTERRUPT: Sign.INTERRUPT}


class Parser:
    """Takes bytes as they come. It keeps one packet at most."""

    def __init__(self) -> None:
        self._payload: bytearray | None = None  # None: outside of a packet
        self._sum_text: bytearray | None = None  # None: before #
        self._is_too_long = False

    def feed(self, data: bytes) -> list[Packet | Sign]:
        """What is complete with `data`."""
        found: list[Packet | Sign] = []
        for byte in data:
            arrived = self._take(byte)
            if arrived is not None:
                found.append(arrived)
        return found

    def _take(self, byte: int) -> Packet | Sign | None:
        if byte == ord("$"):  # wherever it was: so it finds its way again
            self._payload, self._sum_text, self._is_too_long = bytearray(), None, False
            return None
        if self._payload is None:
            return SIGNS.get(byte)  # other bytes between packets mean nothing
        if self._sum_text is None:
            self._add(self._payload, byte)
            return None
        self._sum_text.append(byte)
        if len(self._sum_text) < 2:
            return None
        raw, sum_text = bytes(self._payload), bytes(self._sum_text)
        self._payload = self._sum_text = None
        is_right = not self._is_too_long and sum_text.lower() == b"%02x" % checksum(raw)
        return Packet(unescaped(raw)) if is_right else Sign.DAMAGED

    def _add(self, payload: bytearray, byte: int) -> None:
        if byte == ord("#"):
            self._sum_text = bytearray()
        elif len(payload) < PACKET_MAX_BYTES:
            payload.append(byte)
        else:
            self._is_too_long = True


def checksum(raw: bytes) -> int:
    """Of a payload as it is sent."""
    return sum(raw) & 0xFF


def frame(payload: bytes) -> bytes:
    """The packet with `payload`, as it is sent."""
    raw = _with_runs(_escaped(payload))
    return b"$%s#%02x" % (raw, checksum(raw))


def unescaped(raw: bytes) -> bytes:
    """The payload; an escape at its end escapes nothing."""
    parts = raw.split(b"}")
    return parts[0] + b"".join(bytes((part[0] ^ FLIP,)) + part[1:] for part in parts[1:] if part)


def _escaped(payload: bytes) -> bytes:
    for byte in b"}#$*":  # } first: the others bring more of it
        payload = payload.replace(bytes((byte,)), bytes((ESCAPE, byte ^ FLIP)))
    return payload


def _with_runs(escaped: bytes) -> bytes:
    sent, at = bytearray(), 0
    while at < len(escaped):
        byte, end = escaped[at], at + 1
        while end < len(escaped) and escaped[end] == byte and end - at <= RUN_MAX:
            end += 1
        more = end - at - 1
        while more + RUN_BASE in FORBIDDEN_COUNTS:
            more -= 1
        if more < RUN_MIN:
            more = 0
        sent.append(byte)
        if more:
            sent += bytes((ord("*"), more + RUN_BASE))
        at += 1 + more
    return bytes(sent)
