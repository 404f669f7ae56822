"""A guest's run as a value, and cut at a point where a snapshot is taken: what tests of snapshots compare."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vmm.session.boot_plan import BootPlan
from vmm.session.guest import Guest
from vmm.session.observe.trace import TraceWriter
from vmm.session.plan import plan
from vmm.session.run import collect_stats
from vmm.session.snapshot import SaveableGuest, Snapshot
from vmm.session.spec import specs_of

SLICE_CYCLES = 30_000_000


@dataclass(frozen=True)
class Run:
    """All that is known of a finished run but the workstation's time."""

    stats: str
    output: bytes
    trace: str
    end: str
    cycles: int


@cache
def plan_of(image: str, paging: str, **options: Any) -> BootPlan:
    """The plan of a test kernel."""
    return plan(*specs_of({"image": image, "paging": paging, "memory_bytes": 32 << 20, **options}))


def finish(guest: Guest) -> str:
    """Run to the guest's own end; statistics without the workstation's time."""
    while guest.end is None:
        before = guest.pcpu.clock.cycles
        guest.advance(before + SLICE_CYCLES)
        assert guest.end is not None or guest.pcpu.clock.cycles > before, "the guest sleeps for ever"
    return json.dumps(collect_stats(guest, 0.0), sort_keys=True)


def records(path: Path) -> str:
    """The records of a trace, without its first and last line."""
    return "".join(path.read_text().splitlines(keepends=True)[1:-1])


def whole(boot_plan: BootPlan, folder: Path) -> Run:
    """An uninterrupted run."""
    output = bytearray()
    with TraceWriter(folder / "whole", {}) as trace:
        guest = SaveableGuest.build(boot_plan, output.append, observers=[trace]).guest
        stats = finish(guest)
    return Run(stats, bytes(output), records(folder / "whole"), str(guest.end), guest.pcpu.clock.cycles)


def continued(snapshot: Snapshot, output: bytearray, first: str, folder: Path) -> Run:
    """What follows a snapshot, with what came before it in front."""
    with TraceWriter(folder / "second", {}) as trace:
        guest = SaveableGuest.clone(snapshot, output.append, observers=[trace]).guest
        stats = finish(guest)
    second = records(folder / "second")
    return Run(stats, bytes(output), first + second, str(guest.end), guest.pcpu.clock.cycles)


def cut(boot_plan: BootPlan, at_cycles: int, folder: Path) -> tuple[Snapshot, bytearray, str]:
    """Run to a point: a snapshot, the output and the trace so far."""
    output = bytearray()
    with TraceWriter(folder / "first", {}) as trace:
        saveable = SaveableGuest.build(boot_plan, output.append, observers=[trace])
        saveable.guest.advance(at_cycles)
        snapshot = saveable.snapshot()
    return snapshot, output, records(folder / "first")
