"""Where a packet's signal is, for who listens: "taken" "upcalled" "scheduled" "injected" "seen", behind those of the
device (devices/nic/observe.py).
"""

from collections.abc import Sequence

from devices.nic.observe import Observer


class Hops:
    """Tells `observers`, the NIC's own list. They belong to a run: a snapshot leaves them alone."""

    WIRED = ("_observers",)

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._observers)

    def stamp(self, vif_number: int, hop: str, now_ps: int) -> None:
        """A packet of this VIF gets to `hop`."""
        for observer in self._observers:
            observer.stamp(vif_number, hop, now_ps)
