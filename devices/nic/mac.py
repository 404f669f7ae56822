"""The gigabit port: frames between the wire and the buffers of the network processor, RBUF and TBUF.

    wire --last bit--> RBUF --> receive          transmit --> TBUF --> | preamble | frame | check | gap | --> wire

Both buffers hold frames in pieces (mpackets). A frame for which RBUF has no room is dropped and counted; who transmits
waits for room in TBUF. The wire itself adds only its latency. A short frame is padded.

MODEL: the port is always up, and knows no pause frames.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from devices.nic.board import NicBoard
from devices.nic.chip_events import ChipEvents
from devices.nic.observe import Observers
from devices.nic.rings import Taker, Turns
from devices.nic.vif_page import FRAME_MAX_BYTES, FRAME_MIN_BYTES
from emulator.events import PS_PER_SECOND

PREAMBLE_BYTES, CHECK_BYTES, GAP_BYTES = 8, 4, 12  # IEEE 802.3, 4.4.2 and 3.1.1
PADDED_BYTES = 60  # at least, without the check sequence


class End(Protocol):
    """The end of a wire."""

    on_receive: Callable[[bytes], None] | None

    def send(self, frame: bytes, now_ps: int) -> bool:
        """A frame's last bit leaves at `now_ps`."""
        ...


class Received(NamedTuple):
    """A frame in RBUF, or in DRAM."""

    frame: bytes
    arrived_ps: int


class Mac:
    """One port. `end` is where its wire is connected."""

    def __init__(self, events: ChipEvents, board: NicBoard, observers: Observers) -> None:
        self.end: End | None = None
        self.arrived = self.sent = 0
        self.drops: dict[str, int] = {}  # of frames that were for nobody yet, by cause
        self._free_ps = 0  # when the next frame may start
        self._events = events
        self._observers = observers
        self._bits_per_second = board.media_bits_per_second
        self._piece_bytes = board.mpacket_bytes
        self._rooms = (
            board.receive_buffer_bytes // board.mpacket_bytes,
            board.transmit_buffer_bytes // board.mpacket_bytes,
        )
        self._receive_room, self._transmit_room = self._receive_least, self._transmit_least = self._rooms  # in pieces
        self._arrived: deque[Received] = deque()
        self._getters: deque[Taker] = deque()
        self._turns = Turns()
        self._leaving: deque[tuple[int, int]] = deque()  # when they have left, and pieces
        self._waiting: deque[Taker] = deque()

    def _pieces(self, frame: bytes) -> int:
        return -(-len(frame) // self._piece_bytes)

    @property
    def lead_ps(self) -> int:
        """How long before its last bit has left a frame is sent, at least."""
        return self._ps(PREAMBLE_BYTES + PADDED_BYTES + CHECK_BYTES)

    def connect(self, end: End) -> None:
        """Put a wire in."""
        self.end = end
        end.on_receive = self.receive

    # --- in ----------------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        """The last bit of a frame is in."""
        self._events.catch_up()
        self.arrived += 1
        self._observers.frame(frame, self._events.now_ps, self._events.now_ps)
        if not FRAME_MIN_BYTES <= len(frame) <= FRAME_MAX_BYTES:
            self.count_drop("length")
        elif self._pieces(frame) > self._receive_room:
            self.count_drop("receive buffer full")
        else:
            self._receive_room -= self._pieces(frame)
            self._receive_least = min(self._receive_least, self._receive_room)
            self._arrived.append(Received(frame, self._events.now_ps))
            if self._getters:
                self._give(self._getters.popleft(), self._events.now_ps)

    def get(self, getter: Taker, at_ps: int) -> None:
        """Hand it the first frame in RBUF, when there is one."""
        if self._arrived:
            self._give(getter, at_ps)
        else:
            self._getters.append(getter)

    def _give(self, getter: Taker, at_ps: int) -> None:
        getter.take_turn(self._turns, at_ps)
        getter.hand(self._arrived.popleft(), at_ps)

    def free(self, frame: bytes) -> None:
        """A frame is not in RBUF any more."""
        self._receive_room += self._pieces(frame)

    def count_drop(self, cause: str) -> None:
        """A frame that came ends here."""
        self.drops[cause] = self.drops.get(cause, 0) + 1

    # --- out ---------------------------------------------------------------------------------------------------------

    def has_room(self, frame: bytes, taker: Taker) -> bool:
        """Whether TBUF has room for a frame; if not, `taker` is told when to try again."""
        while self._leaving and self._leaving[0][0] <= self._events.now_ps:
            self._transmit_room += self._leaving.popleft()[1]
        if self._pieces(frame) <= self._transmit_room:
            return True
        if not self._waiting:
            self._events.schedule(self._leaving[0][0], self._retry)
        self._waiting.append(taker)
        return False

    def _retry(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for taker in waiting:
            taker.retry(self._events.now_ps)

    def send(self, frame: bytes, vif_number: int, at_ps: int) -> None:
        """A frame for which there is room is in TBUF at `at_ps`: then it leaves, behind those before it."""
        self._transmit_room -= self._pieces(frame)
        self._transmit_least = min(self._transmit_least, self._transmit_room)
        start_ps = max(self._free_ps, at_ps)
        padded = frame.ljust(PADDED_BYTES, b"\0")
        end_ps = start_ps + self._ps(PREAMBLE_BYTES + len(padded) + CHECK_BYTES)
        self._free_ps = end_ps + self._ps(GAP_BYTES)
        self._leaving.append((end_ps, self._pieces(frame)))
        self.sent += 1
        self._observers.stamp(vif_number, "sent", start_ps)
        self._observers.frame(padded, end_ps, self._events.now_ps)
        if self.end is not None:
            self.end.send(padded, end_ps)

    def buffers(self) -> dict[str, int]:
        """How much of RBUF and TBUF was in use, at most, in bytes."""
        receive, transmit = self._rooms
        return {
            "receive_max_bytes": (receive - self._receive_least) * self._piece_bytes,
            "transmit_max_bytes": (transmit - self._transmit_least) * self._piece_bytes,
        }

    def _ps(self, length_bytes: int) -> int:
        return -(-length_bytes * 8 * PS_PER_SECOND // self._bits_per_second)
