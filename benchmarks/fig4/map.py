"""The map of what the paper leaves open: each regime differs from the default in one thing, or in how hard flows press.

    think time 0, 25, 100, 200, 1000 us  x  the core of the master interrupt  +  BOOST, pinning, the fourth core, ...

The last is the control: a register as wide as there are guests has no redundancy left, so what a sidecore still gains
there is the shorter path.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.fig4.setup import INTERRUPT_CORES, Setup

THINK_US = (0, 25, 100, 200, 1000)
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("BOOST", {"has_boost": True}),
    ("pinned half and half", {"pinning": "split"}),
    ("fourth core runs guests", {"fourth_runs_guests": True}),
    ("send queues behind the NIC", {"send_queues": "nic"}),
    ("dom0 beside the fourth core", {"dom0_core": 1}),
    ("mwait", {"poll": "mwait"}),
    ("clients' host 25% slower", {"slower_clients_percent": 25}),
)


def regimes(setup: Setup) -> Iterator[tuple[str, Setup, Setup]]:
    """(name, without, with a sidecore) for each regime around `setup`."""
    for think_us in THINK_US:
        for core in INTERRUPT_CORES:
            yield _pair(f"think {think_us} us, interrupt: {core}", setup, think_us=think_us, interrupt_core=core)
    for name, changes in VARIANTS:
        yield _pair(name, setup, **changes)
    yield _pair("control: a bit for each guest", setup, identifier_bits=max(setup.guests, setup.identifier_bits))


def _pair(name: str, setup: Setup, **changes: Any) -> tuple[str, Setup, Setup]:
    without = replace(setup, sidecores=0, **changes)
    with_one = {key: value for key, value in changes.items() if key not in ("fourth_runs_guests", "interrupt_core")}
    return name, without, replace(setup, sidecores=max(1, setup.sidecores), **with_one)
