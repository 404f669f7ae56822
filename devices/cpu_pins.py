"""What a board's interrupt controllers drive at one CPU. Whoever builds the board connects them to a core or a vCPU."""

from collections.abc import Callable
from dataclasses import dataclass

from emulator.events import EventQueue


def _unconnected() -> None:
    """A pin that leads nowhere."""


def _unconnected_start_up(vector: int) -> None:
    """No CPU waits for it."""


@dataclass(frozen=True)
class CpuPins:
    """Wires from a local APIC to its CPU, and the one thing it asks of it."""

    on_intr: Callable[[bool], None]  # the level of INTR: an interrupt waits for its acknowledge
    tsc_to_ps: Callable[[int], int]  # when the CPU's time-stamp counter shows a value
    timers: EventQueue | None = None  # where the local APIC's timer counts; None: with the board's devices
    on_nmi: Callable[[], None] = _unconnected
    on_init: Callable[[], None] = _unconnected
    on_start_up: Callable[[int], None] = _unconnected_start_up  # SIPI: real mode at vector << 12
