"""The tables of `sidecore bench speed`."""

from benchmarks.speed.exit_cost import ExitCost
from benchmarks.speed.loops import MODES, LoopCost
from benchmarks.speed.measure import Contender
from benchmarks.speed.turns import TurnCost


def boot_rows(contenders: list[Contender]) -> list[tuple[str, ...]]:
    """One row per contender; the last column compares with QEMU as it comes."""
    peer = next((contender for contender in contenders if contender.name == "qemu tcg"), None)
    rows: list[tuple[str, ...]] = [
        ("Linux to its shell", "seconds", "runs", "guest seconds", "instructions", "MIPS", "of QEMU's time")
    ]
    for contender in contenders:
        seconds, count, guest_seconds = contender.median_seconds, contender.instructions, contender.guest_seconds
        rows.append(
            (
                contender.name,
                f"{seconds:.2f}",
                str(len(contender.seconds)),
                "-" if guest_seconds is None else f"{guest_seconds:.3f}",
                "-" if count is None else f"{count:,}",
                "-" if count is None else f"{count / seconds / 1e6:.0f}",
                "-" if peer is None else f"{seconds / peer.median_seconds:.2f}",
            )
        )
    return rows


def loop_rows(loops: list[LoopCost]) -> list[tuple[str, ...]]:
    """One row per loop: QEMU's time for one round, and how many times that each mode takes."""
    rows: list[tuple[str, ...]] = [("Loops, times QEMU's time", "rounds", "QEMU ns", *MODES)]
    for loop in loops:
        qemu = max(loop.qemu_seconds, 0.01)  # the clock of processes goes in steps of 0.01 s
        times = (f"{loop.seconds[mode] / qemu:.1f}" for mode in MODES)
        rows.append((loop.name, f"{loop.count:,}", f"{qemu / loop.count * 1e9:,.0f}", *times))
    return rows


def exit_rows(costs: list[ExitCost]) -> list[tuple[str, ...]]:
    """One row per kind of exit and mode."""
    rows: list[tuple[str, ...]] = [("One VM exit and back", "workstation us", "emulated cycles")]
    for cost in costs:
        rows.append((f"{cost.exit_name}, {cost.paging}", f"{cost.microseconds:.2f}", f"{cost.guest_cycles:,}"))
    return rows


def turn_rows(turns: list[TurnCost]) -> list[tuple[str, ...]]:
    """One row per kind of machine."""
    rows: list[tuple[str, ...]] = [("Turns alone, and frames, for one emulated second", "workstation s")]
    return [*rows, *((cost.machines, f"{cost.seconds:.2f}") for cost in turns)]


def table_text(rows: list[tuple[str, ...]]) -> str:
    """Columns below each other: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *numbers in rows:
        cells = [f"{number:>{width}}" for number, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]))
    return "\n".join(lines)
