"""Loops in which a kernel spends an emulator's time, here and on QEMU: the guest `speed_loops`.

Each contender runs a loop so often, and not at all: the difference of the processes' own time is the loop's. Beside it
stands QEMU's. In `detailed` and under a VMM the loops do more; that is the price of what they tell.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import ConfigError
from guest_images import images
from vmm.cli.output import say

IMAGE = "speed_loops"
LOOPS = {  # how often: long beside what differs from start to start
    "delay": 200_000,
    "checksum": 4_000,
    "copy": 10_000,
    "context_switch": 200_000,
    "page_fault": 60_000,
    "interrupt": 1_000_000,
    "user": 300_000,
    "changed_code": 60_000,
}
QEMU_TIMES = 4  # so many times as often on QEMU, which is quick, and no longer from start to start
OURS = {"native": ["--paging", "native"], "ept": ["--paging", "ept"], "shadow": ["--paging", "shadow"]}
MODES = (*OURS, "native, detailed")


@dataclass(frozen=True)
class LoopCost:
    """One loop."""

    name: str
    count: int
    qemu_seconds: float  # of the workstation's processor; what starts and ends the guest is not in it
    seconds: dict[str, float]  # by mode of this emulator


def measure_loops(qemu: str | None, repeat: int) -> list[LoopCost]:
    """All loops, in turns; nothing without QEMU. Raises ConfigError."""
    if qemu is None:
        return []
    kernel = images.build(IMAGE)
    commands = {mode: _our_command(mode) for mode in MODES}
    costs = []
    for name, count in LOOPS.items():
        say(f"loop {name}")
        samples: dict[str, list[float]] = {}
        for _ in range(repeat):
            for who, command in {"qemu": _qemu_command(qemu, kernel), **commands}.items():
                times = QEMU_TIMES if who == "qemu" else 1
                empty, whole = (_seconds(command, f"loop={name} count={often}") for often in (0, count * times))
                samples.setdefault(who, []).append(max(0.0, whole - empty) / times)
        medians = {who: statistics.median(seconds) for who, seconds in samples.items()}
        costs.append(LoopCost(name, count, medians.pop("qemu"), medians))
    return costs


def _our_command(mode: str) -> list[str]:
    options = OURS["native"] + ["--timing", "detailed"] if "detailed" in mode else OURS[mode]
    return [sys.executable, "-m", "benchmarks.cli", "boot", IMAGE, *options, "--no-input"]


def _qemu_command(qemu: str, kernel: Path) -> list[str]:
    machine = ["-accel", "tcg", "-cpu", "qemu64", "-m", "256", "-no-reboot", "-nic", "none"]
    devices = ["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-serial", "stdio", "-display", "none"]
    return [qemu, "-kernel", str(kernel), *machine, *devices]


def _seconds(command: Sequence[str], append: str) -> float:
    """The processor time of a run. Raises ConfigError when the guest does not say that all is well."""
    whole = [*command, "--append" if "boot" in command else "-append", append]
    before = os.times()
    root = Path(__file__).parents[2]
    done = subprocess.run(whole, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    after = os.times()
    if "PASS: all 1 checks" not in done.stdout:
        raise ConfigError(f"{' '.join(whole)} failed: {(done.stdout + done.stderr)[-300:]}")
    return after.children_user + after.children_system - before.children_user - before.children_system
