"""The file of `sidecore bench fig1`: the bars of each machine, break-evens if there are several, guests under load."""

from collections.abc import Mapping, Sequence
from typing import NotRequired

from benchmarks.fig1.break_even import BreakEven
from benchmarks.fig1.load import LoadFigures, LoadResults
from benchmarks.fig1.measure import IMAGE
from benchmarks.harness.pairs import Comparison, ComparisonFigures, PairFigures
from benchmarks.harness.results import BenchmarkFigures


class MachineFigures(ComparisonFigures):
    """A run in the file."""

    bars: dict[str, PairFigures]


class BreakEvenFigures(MachineFigures):
    """A run beside others; what a line may take at the break-even of a bar."""

    break_even_line_cycles: dict[str, float]


class Figure1Figures(BenchmarkFigures):
    """All of it."""

    loads: NotRequired[list[LoadFigures]]


def figures(
    compared: Sequence[Comparison], evens: Sequence[Mapping[str, BreakEven]], loaded: Sequence[LoadResults]
) -> Figure1Figures:
    """Everything, for a file; `evens` are of the machines in `compared`, or there are none."""
    runs: list[MachineFigures] = [{**each.figures(), "bars": each.pair_figures()} for each in compared]
    found: Figure1Figures = {"benchmark": IMAGE, "runs": runs}
    if evens:
        found["runs"] = [_with_break_evens(*pair) for pair in zip(runs, evens, strict=True)]
    if loaded:
        found["loads"] = [results.figures() for results in loaded]
    return found


def _with_break_evens(run: MachineFigures, by_pair: Mapping[str, BreakEven]) -> BreakEvenFigures:
    return {**run, "break_even_line_cycles": {key: even.cycles for key, even in by_pair.items()}}
