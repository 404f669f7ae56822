"""Runs a guest for a test: with the files of an image, in one of the three modes, typing what a script says."""

from collections.abc import Sequence
from dataclasses import dataclass

from vmm.outcome import End
from vmm.session.boot_plan import BootPlan
from vmm.session.build import build_guest
from vmm.session.guest import Guest
from vmm.session.run import collect_stats
from vmm.session.spec import PAGING_MODES
from vmm.session.stats import RunStats

MODES = PAGING_MODES
SLICE_CYCLES = 50_000_000


@dataclass(frozen=True)
class Finished:
    """A guest's run: how it ended, what it printed and cost (host_seconds is 0)."""

    end: End | None  # None: the limit was reached
    output: bytes
    stats: RunStats


class Typist:
    """Gets the guest's output; answers each awaited text with keys, at the cycle at which the text is complete."""

    def __init__(self, script: Sequence[tuple[bytes, bytes]]) -> None:
        self.output = bytearray()
        self.guest: Guest | None = None
        self._script = list(script)
        self._seen_bytes = 0

    def transmit(self, byte: int) -> None:
        self.output.append(byte)
        if self._script and self.output.endswith(self._script[0][0], self._seen_bytes):
            _, keys = self._script.pop(0)
            self._seen_bytes = len(self.output)
            assert self.guest is not None
            timers, uart = self.guest.timers, self.guest.board.uart
            timers.schedule(timers.now_ps, lambda: uart.receive(keys))


def run_plan(
    boot_plan: BootPlan,
    *,
    script: Sequence[tuple[bytes, bytes]] = (),
    max_cycles: int,
    slice_cycles: int = SLICE_CYCLES,
) -> Finished:
    """Run to the guest's end or `max_cycles`, slice by slice."""
    typist = Typist(script)
    guest = typist.guest = build_guest(boot_plan, typist.transmit)
    while guest.end is None and guest.pcpu.clock.cycles < max_cycles:
        guest.advance(min(guest.pcpu.clock.cycles + slice_cycles, max_cycles))
    return Finished(guest.end, bytes(typist.output), collect_stats(guest, 0.0))
