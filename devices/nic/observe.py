"""Who wants to know where a packet is: `stamp` is told each hop of each packet, in order of the device's work.

posted  polled  fetched  sent   on the way out: the descriptor is visible, read, its payload in DRAM, the MAC starts
arrived classified delivered signalled   on the way in: last bit, its VIF is found, DONE in memory, line raised
"""

from collections.abc import Callable
from typing import Protocol


class Observer(Protocol):
    """Whoever follows packets."""

    def stamp(self, vif_number: int, hop: str, now_ps: int) -> None:
        """A packet of this VIF gets to `hop` at `now_ps`; "arrived" is told when the frame is classified."""
        ...


Take = Callable[[bytes, int, int], None]


class Observers:
    """Lists of them, of packets and of frames at the MAC. They belong to a run: a snapshot leaves them alone."""

    WIRED = ("listening", "capturing")

    def __init__(self) -> None:
        self.listening: list[Observer] = []
        self.capturing: list[Take] = []

    def stamp(self, vif_number: int, hop: str, now_ps: int) -> None:
        """Tell all."""
        for observer in self.listening:
            observer.stamp(vif_number, hop, now_ps)

    def frame(self, frame: bytes, last_bit_ps: int, now_ps: int) -> None:
        """Tell those who capture that a frame's last bit has come, or will be sent."""
        for take in self.capturing:
            take(frame, last_bit_ps, now_ps)
