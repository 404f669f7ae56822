"""Runs benchmark guests: one guest on one profile under one way of paging, or many of them on all of a workstation.

    Run --run_guest()--> Results(measurements with their accounts)
    [Run, ...] --run_all()--> [Results, ...]      in as many processes as there are processors

What a run returns depends on nothing but the run: emulated time is exact.
"""

from collections.abc import Mapping, Sequence

from benchmarks.harness.accounts import Rounds, account_now
from benchmarks.harness.measurements import LINE_START, Measurement, parse_line
from benchmarks.harness.processes import run_in_processes
from benchmarks.harness.results import Fact, Results, Row, Run, missing_of, row_of, spec_of
from emulator.errors import ConfigError
from guest_images.images import resolve
from vmm.cli.output import say
from vmm.outcome import End, EndKind
from vmm.session.build import build_guest
from vmm.session.plan import plan

SLICE_CYCLES = 10**12


class Lines:
    """Puts a guest's serial output together to lines; measurements are parsed as they come."""

    def __init__(self, rounds: Rounds, spec: Mapping[str, Fact]) -> None:
        self.last = ""
        self.rows: list[Row] = []
        self._rounds, self._spec = rounds, spec
        self._line = bytearray()

    def transmit(self, byte: int) -> None:
        """The guest sent `byte`."""
        if byte != ord("\n"):
            self._line.append(byte)
            return
        self.last = self._line.decode("ascii", "replace").rstrip("\r")
        self._line.clear()
        if self.last.startswith(LINE_START):
            found = parse_line(self.last)
            if isinstance(found, Measurement):
                self.rows.append(row_of(self._spec, found, self._rounds.take(found)))
            else:
                self.rows.append(missing_of(self._spec, found))


def run_guest(run: Run) -> Results:
    """Run to the guest's end. Raises ConfigError when it does not succeed there."""
    boot_plan = plan(run.host, run.guest)
    frequency_hz = boot_plan.host.profile.frequency_hz
    rounds = Rounds(lambda: account_now(guest))
    lines = Lines(rounds, spec_of(run.host, frequency_hz, run.image))
    guest = build_guest(boot_plan, lines.transmit)
    guest.board.post.on_code = rounds.mark
    while guest.end is None:
        limit_cycles = guest.pcpu.clock.cycles + SLICE_CYCLES
        guest.advance(limit_cycles)
        if guest.end is None and guest.pcpu.clock.cycles < limit_cycles:
            raise ConfigError(f"{run}: it sleeps, and nothing is left that could wake it")
    if guest.end != End(EndKind.DEBUG_EXIT):
        raise ConfigError(f"{run}: the guest did not succeed: {guest.end}; it said {lines.last!r} last")
    return Results(run, frequency_hz, tuple(lines.rows))


def run_all(runs: Sequence[Run], *, process_count: int | None = None) -> list[Results]:
    """The results of `runs`, in their order; on a terminal a bar shows how far it is."""
    for image in dict.fromkeys(run.image for run in runs):
        resolve(image)  # compiled once, and not by each process
    if any(run.timing == "detailed" for run in runs):
        from emulator.timing.kernels.compiled import load_kernels

        load_kernels(lambda: say("compiling the models of caches and TLBs, this once"))
    results = list(run_in_processes(run_guest, runs, process_count=process_count))
    return sorted(results, key=lambda result: runs.index(result.run))
