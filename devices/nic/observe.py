"""Who wants to know where a packet is: `stamp` is told each hop of each packet, in order of the device's work.

posted  polled  fetched  sent   on the way out: the descriptor is visible, read, its payload in DRAM, the MAC starts
arrived classified delivered signalled   on the way in: last bit, its VIF is found, DONE in memory, line raised
"""

from typing import Protocol


class Observer(Protocol):
    """Whoever follows packets."""

    def stamp(self, vif_number: int, hop: str, now_ps: int) -> None:
        """A packet of this VIF gets to `hop` at `now_ps`; "arrived" is told when the frame is classified."""
        ...


class Observers:
    """A list of them. They belong to a run: a snapshot leaves them alone."""

    WIRED = ("listening",)

    def __init__(self) -> None:
        self.listening: list[Observer] = []

    def stamp(self, vif_number: int, hop: str, now_ps: int) -> None:
        """Tell all."""
        for observer in self.listening:
            observer.stamp(vif_number, hop, now_ps)
