"""How fast the emulator is on this workstation: Linux to its shell beside QEMU, one VM exit, turns, frames.

Every contender boots the same vmlinux, initramfs and command line as a process of its own, and is timed from its start
until the shell's line has arrived. With several repetitions they take turns, so that a busy workstation hits all.
QEMU is measured as it comes, and with -icount, where it counts instructions too and time follows from them.
"""

import json
import os
import platform
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.results import Fact, Result, Spread
from benchmarks.speed.exit_cost import ExitCost, measure_exit_costs
from benchmarks.speed.loops import LoopCost, measure_loops
from benchmarks.speed.packets import measure_packets
from benchmarks.speed.turns import TurnCost, measure_turns
from emulator.errors import ConfigError
from guest_images.images import Image, resolve
from guest_images.linux import READY_LINE
from vmm.cli.output import say

QEMU = "qemu-system-x86_64"
QEMU_MACHINE = ("-cpu", "qemu64", "-m", "256", "-no-reboot", "-nic", "none")
QEMU_CONSOLE = ("-display", "none", "-monitor", "none", "-serial", "stdio")
TIMEOUT_SECONDS = 600
READ_BYTES = 1 << 16


@dataclass
class Contender:
    """One way to boot Linux: a command, and the statistics file it writes if it does."""

    name: str
    command: list[str]
    stats_path: Path | None = None
    seconds: list[float] = field(default_factory=list)
    instructions: int | None = None
    guest_seconds: float | None = None

    @property
    def median_seconds(self) -> float:
        """The median of the runs so far."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Speeds:
    """All that was measured."""

    boots: list[Contender]
    loops: list[LoopCost]
    exits: list[ExitCost]
    turns: list[TurnCost]


def measure(repeat: int) -> Speeds:
    """Boot Linux so often in every way, and run the loops; then time exits and turns. Raises ConfigError."""
    image = resolve("linux", say)
    with tempfile.TemporaryDirectory(prefix="sidecore-bench-") as scratch:
        contenders = sidecore_contenders(Path(scratch)) + qemu_contenders(image)
        for turn in range(repeat):
            for contender in contenders:
                say(f"{contender.name}, run {turn + 1} of {repeat}")
                run_once(contender)
    loops = measure_loops(shutil.which(QEMU), repeat)
    return Speeds(contenders, loops, measure_exit_costs(), measure_turns() + measure_packets())


def sidecore_contenders(scratch: Path) -> list[Contender]:
    """This emulator in its three modes, and at both fidelities."""
    contenders = []
    for timing in ("fast", "detailed"):
        for paging in ("native", "ept", "shadow"):
            stats_path = scratch / f"{paging}-{timing}.json"
            options = ["--timing", timing, "--paging", paging, "--until", READY_LINE, "--no-input"]
            command = [sys.executable, "-m", "benchmarks.cli", "boot", "linux", *options, "--stats", str(stats_path)]
            contenders.append(Contender(f"sidecore {paging}, {timing}", command, stats_path))
    return contenders


def qemu_contenders(image: Image) -> list[Contender]:
    """QEMU's translator with and without instruction counting; none when QEMU is not installed."""
    qemu = shutil.which(QEMU)
    if qemu is None:
        say(f"{QEMU} is not installed, so there is nothing to compare with (on Debian: apt install qemu-system-x86)")
        return []
    files = ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", image.append]
    command = [qemu, "-accel", "tcg", *QEMU_MACHINE, *QEMU_CONSOLE, *files]
    return [
        Contender("qemu tcg", command),
        Contender("qemu tcg -icount shift=0", [*command, "-icount", "shift=0,sleep=off"]),
    ]


def run_once(contender: Contender) -> None:
    """Boot once and add what it took. Raises ConfigError when the shell is not reached."""
    pipe, root = subprocess.PIPE, Path(__file__).parents[2]
    with subprocess.Popen(
        contender.command, cwd=root, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            seconds = seconds_until(READY_LINE.encode(), process.stdout.fileno())
            if contender.stats_path is not None:
                process.wait(TIMEOUT_SECONDS)
        finally:
            process.kill()
    if seconds is None:
        raise ConfigError(f"{contender.name} did not reach its shell: {' '.join(contender.command)}")
    contender.seconds.append(seconds)
    if contender.stats_path is not None:
        stats = json.loads(contender.stats_path.read_text())
        contender.instructions, contender.guest_seconds = stats["instructions"], stats["guest_seconds"]


def seconds_until(text: bytes, fd: int, timeout_seconds: float = TIMEOUT_SECONDS) -> float | None:
    """Seconds until `text` has come out of `fd`; None if it ends without, or takes longer than the time-out."""
    started, output = time.perf_counter(), b""
    while text not in output:
        left_seconds = started + timeout_seconds - time.perf_counter()
        if left_seconds <= 0 or not select.select([fd], [], [], left_seconds)[0]:
            return None
        data = os.read(fd, READ_BYTES)
        if not data:
            return None
        output = output[-len(text) :] + data
    return time.perf_counter() - started


def rows_of(speeds: Speeds) -> list[Result]:
    """All of it for a file, with what the workstation is."""
    spec: dict[str, Fact] = {"workstation": platform.platform()}
    rows = []
    for contender in speeds.boots:
        facts = {"instructions": contender.instructions, "guest_seconds": contender.guest_seconds}
        about: dict[str, Fact] = {name: fact for name, fact in facts.items() if fact is not None}
        spread = Spread(tuple(sorted(contender.seconds)))
        value = contender.median_seconds
        rows.append(Result(spec | {"contender": contender.name}, "linux_boot", "seconds", value, spread, about=about))
    for loop in speeds.loops:
        for mode, seconds in loop.seconds.items():
            about = {"count": loop.count, "qemu_seconds": loop.qemu_seconds}
            rows.append(Result(spec | {"mode": mode}, f"loop/{loop.name}", "seconds", seconds, about=about))
    for cost in speeds.exits:
        about = {"exit": cost.exit_name, "guest_cycles": cost.guest_cycles}
        rows.append(Result(spec | {"paging": cost.paging}, "exit", "microseconds", cost.microseconds, about=about))
    for turn in speeds.turns:
        rows.append(Result(spec | {"machines": turn.machines}, "turns_of_a_second", "seconds", turn.seconds))
    return rows
