"""Random lives of guests on two NICs: well-behaved and hostile ones, that come, send, scribble, detach and go."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from devices.nic.board import NicBoard
from devices.nic.vif import VifCounters
from devices.nic.vif_page import RECEIVE_RING, SEND_RING
from tests.devices.nic.rig import PAGE, Guest, Rig

GROUP, NOBODY = b"\xff" * 6, b"\2\0\0\0\7\7"
ADDRESSES = (0, PAGE, 0x3FFFF, 0x40000, 1 << 32, (1 << 63) - 7, (1 << 64) - 1, (1 << 64) - 1514)
LENGTHS = (0, 1, 13, 14, 60, 1514, 1515, 2048, 1 << 31, (1 << 32) - 1)


class Life:
    """`hostile` guests of each NIC do anything; the others send numbered frames to each other, and take what comes."""

    def __init__(
        self,
        seed: int,
        *,
        guests: int = 10,
        hostile: int = 4,
        actions: int = 300,
        within_ps: int = 400_000_000,
        board: NicBoard | None = None,
        **options: Any,
    ) -> None:
        self.rig = Rig(board, **options)
        self.random = random.Random(seed)
        self.guests = [[self.rig.guest(nic, number) for number in range(guests)] for nic in range(2)]
        self.hostile, self.within_ps = hostile, within_ps
        self.sent: dict[tuple[bytes, bytes], list[bytes]] = {}  # by flow
        self.came: dict[tuple[bytes, bytes], list[bytes]] = {}
        self.stamps: list[tuple[int, int, str, int]] = []
        self.gone: list[VifCounters] = []
        for nic in range(2):
            self.rig.nics[nic].observers.append(Stamps(nic, self.stamps))
        for _ in range(actions):
            when_ps = self.random.randrange(within_ps)
            self.rig.events.schedule(when_ps, self._act)
        for when_ps in range(0, within_ps + 200_000_000, 20_000_000):
            self.rig.events.schedule(when_ps + self.random.randrange(1000), self._take)

    def run(self) -> "Life":
        """To the end, when all is quiet."""
        self.rig.run(self.within_ps // 1_000_000 + 2_000)
        self._take()
        return self

    # --- what guests do ----------------------------------------------------------------------------------------------

    def _act(self) -> None:
        nic, number = self.random.randrange(2), self.random.randrange(len(self.guests[0]))
        guest = self.guests[nic][number]
        if number >= self.hostile:
            self._send(
                guest, self.guests[self.random.randrange(2)][self.random.randrange(self.hostile, len(self.guests[0]))]
            )
        else:
            acts: list[Callable[[int, Guest], None]] = [
                self._send_anything,
                self._scribble,
                self._detach,
                self._go,
                self._flood,
            ]
            self.random.choices(acts, (6, 6, 2, 1, 1))[0](nic, guest)

    def _send(self, guest: Guest, other: Guest) -> None:
        flow = self.sent.setdefault((guest.mac, other.mac), [])
        if guest.posted - guest.vif.counters.posted < 60 and guest.posted - guest.vif.counters.sent < 30:
            payload = len(flow).to_bytes(4, "little") * (self.random.choice((48, 200, 1480)) // 4)
            flow.append(payload)
            guest.send(other.mac, payload)

    def _take(self) -> None:
        for guests in self.guests:
            for guest in guests[self.hostile :]:
                for frame in guest.take_frames():
                    if (frame[6:12], guest.mac) in self.sent:
                        self.came.setdefault((frame[6:12], guest.mac), []).append(frame[14:])

    def _address(self) -> int:
        return self.random.choice([*ADDRESSES, self.random.getrandbits(64), self.random.randrange(0x40000)])

    def _length(self) -> int:
        return self.random.choice([*LENGTHS, self.random.getrandbits(32), self.random.randrange(1600)])

    def _send_anything(self, nic: int, guest: Guest) -> None:
        if self.random.random() < 0.5:
            guest.posted = guest.vif.send_index
        if self.random.random() < 0.7:
            guest.post(self._address(), self._length())
            return
        hostile = self.guests[self.random.randrange(2)][self.random.randrange(self.hostile)].mac
        guest.send(self.random.choice((GROUP, NOBODY, hostile, hostile)), bytes(self.random.randrange(1500)))

    def _scribble(self, nic: int, guest: Guest) -> None:
        """Over descriptors that may be in work, or over the whole page; told or not."""
        for _ in range(self.random.choice((1, 8))):
            ring, number = self.random.choice((SEND_RING, RECEIVE_RING)), self.random.randrange(64)
            state = self.random.choice((0, 1, 1, 1, 2, 3, 4, self.random.getrandbits(32)))
            guest.write(ring, number, self._address(), self._length(), state)
            if self.random.random() < 0.7:
                guest.vif.notice_send(number, self.rig.events.now_ps + self.random.randrange(100_000))
        if self.random.random() < 0.1:
            guest.ram.bytes[PAGE : PAGE + 4096] = self.random.randbytes(4096)

    def _detach(self, nic: int, guest: Guest) -> None:
        guest.vif.detach()
        if self.random.random() < 0.8:
            guest.posted = guest.taken = 0
            guest.vif.attach(self.random.choice((PAGE, PAGE, PAGE, 0x2000, 7, 1 << 60)))

    def _go(self, nic: int, guest: Guest) -> None:
        """A guest is destroyed; another gets its address."""
        self.rig.nics[nic].destroy_vif(guest.vif)
        self.gone.append(guest.vif.counters)
        self.guests[nic][self.guests[nic].index(guest)] = self.rig.guest(nic, guest.mac[5])

    def _flood(self, nic: int, guest: Guest) -> None:
        """More than anybody takes, to a guest that takes nothing."""
        for _ in range(64):
            guest.post(0x2000, 60)

    # --- what came of it ---------------------------------------------------------------------------------------------

    def outcome(self) -> Any:
        """All that can be seen, to compare two lives."""
        statistics = [nic.stats() for nic in self.rig.nics]
        sent = [end.sent for end in self.rig.ends]
        memory = [(bytes(guest.ram.bytes), guest.delivered) for guests in self.guests for guest in guests]
        return statistics, sent, memory, sorted(self.stamps), self.came, self.rig.lines[0].changes, self.gone


class Stamps:
    def __init__(self, nic: int, stamps: list[tuple[int, int, str, int]]) -> None:
        self._nic, self._stamps = nic, stamps

    def stamp(self, vif_number: int, hop: str, now_ps: int) -> None:
        self._stamps.append((now_ps, self._nic, hop, vif_number))


def alike(seed: int, one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two lives that differ in nothing but options are the same to the picosecond."""
    make = partial(Life, seed)
    return bool(make(**one).run().outcome() == make(**other).run().outcome())
