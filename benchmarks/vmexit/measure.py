"""`sidecore bench vmexit`: cycles of each operation that a VMM may have to step in for, measured in a guest.

    guest kernel `vmexit` --lines--> Results of each (profile, paging) --> tables, figures for a file, vmexit_plot

Next to what the guest measured stands what the machine's ledger booked for the same round, by category; without
caches the two agree to the cycle. After kvm-unit-tests' vmexit in what is measured, and LMbench in how.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from benchmarks.harness.accounts import Account
from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.measurements import Measurement, Unavailable
from benchmarks.harness.outputs import Outputs
from benchmarks.harness.results import Results, Run
from benchmarks.harness.text import cycles_text, show_titled
from emulator.ledger import LABELS
from vmm.cli.profiles import make_table

if TYPE_CHECKING:
    from rich.table import Table

IMAGE = "vmexit"
# The guest's names, in the order to show them.
OPERATIONS = {
    "cpuid": "CPUID",
    "vmcall": "VMCALL, unknown number",
    "mov_from_cr0": "MOV from CR0",
    "mov_to_cr0": "MOV to CR0, same value",
    "mov_from_cr3": "MOV from CR3",
    "mov_to_cr3": "MOV to CR3, same value",
    "mov_from_cr4": "MOV from CR4",
    "mov_to_cr4": "MOV to CR4, same value",
    "mov_from_cr8": "MOV from CR8",
    "mov_to_cr8": "MOV to CR8, same value",
    "inl": "IN, 32 bits, port 0xcf8",
    "outl": "OUT, 32 bits, port 0xcf8",
    "rdmsr": "RDMSR of IA32_PAT",
    "wrmsr": "WRMSR of IA32_PAT",
    "hlt_interrupt": "HLT ended by a waiting interrupt, with its EOI",
    "null_interrupt": "INT n and IRETQ",
    "ipi": "interrupt command to itself, and EOI",
    "page_fault_reflected": "page fault for the guest",
    "page_fault_fixed": "first load of a mapped page",
    "pte_write": "PTE write: a page becomes read-only",
    "pte_write_access": "new PTE, then a load of its page",
    "invlpg": "INVLPG",
}
UNAVAILABLE_CELL = "-"


def measure_and_report(runs: Sequence[Run], outputs: Outputs) -> None:
    """Run them, print the tables, write the files. Raises ConfigError."""
    outputs.check()
    all_results = run_all(runs)
    for title, table in tables(all_results):
        show_titled(title, table)
    for line in reasons(all_results):
        click.echo(line)
    from benchmarks.vmexit.plot import draw

    outputs.write(figures(all_results), lambda figure: draw(figure, all_results))


def tables(all_results: Sequence[Results]) -> list[tuple[str, "Table"]]:
    """(title, table): one profile, all ways of paging and where the cycles went; of many, medians side by side."""
    profiles = list(dict.fromkeys(results.run.profile for results in all_results))
    if len(profiles) == 1:
        return [modes_table(all_results), *(account_table(results) for results in all_results)]
    pagings = list(dict.fromkeys(results.run.paging for results in all_results))
    return [profiles_table([r for r in all_results if r.run.paging == paging]) for paging in pagings]


def modes_table(all_results: Sequence[Results]) -> tuple[str, "Table"]:
    """Median and inter-quartile range of every operation, of one profile."""
    headings = [heading for results in all_results for heading in (results.run.paging, "IQR")]
    table = make_table("Operation", *headings, right=tuple(headings))
    run = all_results[0].run
    title = f"Cycles of one operation on {run.profile}, {run.timing} timing, as the guest measures them: median, IQR"
    for name, text in OPERATIONS.items():
        cells: list[str] = []
        for results in all_results:
            row = results.by_name().get(name)
            cells += (
                [cycles_text(row.measurement.median), cycles_text(iqr(row.measurement))]
                if row
                else [UNAVAILABLE_CELL] * 2
            )
        table.add_row(text, *cells)
    return title, table


def profiles_table(all_results: Sequence[Results]) -> tuple[str, "Table"]:
    """The medians on every profile, of one way of paging."""
    headings = tuple(results.run.profile for results in all_results)
    table = make_table("Operation", *headings, right=headings)
    run = all_results[0].run
    title = f"Cycles of one operation, {run.paging}, {run.timing} timing: medians"
    for name, text in OPERATIONS.items():
        rows = [results.by_name().get(name) for results in all_results]
        table.add_row(text, *(cycles_text(row.measurement.median) if row else UNAVAILABLE_CELL for row in rows))
    return title, table


def account_table(results: Results) -> tuple[str, "Table"]:
    """What the ledger booked for one of each operation: a column for each category that has any."""
    rows = results.by_name()
    categories = categories_of(row.account for row in rows.values())
    table = make_table("Operation", *categories, "sum", "VM exits", right=(*categories, "sum"))
    title = f"Where the cycles of the median round went, {results.run.paging}"
    for name, text in OPERATIONS.items():
        if name in rows:
            cycles, exits = rows[name].account.cycles, rows[name].account.exits
            cells = [cycles_text(cycles[category]) if category in cycles else "" for category in categories]
            exits_text = ", ".join(f"{reason} x {count:g}" for reason, count in exits.items())
            table.add_row(text, *cells, cycles_text(sum(cycles.values())), exits_text)
    return title, table


def reasons(all_results: Sequence[Results]) -> list[str]:
    """Why there is no figure where there is none."""
    where: dict[str, dict[str, None]] = {}
    for results in all_results:
        for row in results.rows:
            if isinstance(row, Unavailable):
                text = f"{UNAVAILABLE_CELL} {OPERATIONS.get(row.name, row.name)}: {row.reason}"
                where.setdefault(text, {})[results.run.paging] = None
    return [f"{text} ({', '.join(pagings)})" for text, pagings in where.items()]


def categories_of(accounts: Iterable[Account]) -> list[str]:
    """The ledger's categories that any of `accounts` has, in the ledger's order."""
    present = {name for account in accounts for name in account.cycles}
    return [label for label in LABELS if label in present]


def iqr(row: Measurement) -> float:
    """The inter-quartile range of an operation's samples."""
    low, high = row.quartiles
    return high - low


def figures(all_results: Sequence[Results]) -> dict[str, Any]:
    """All of it for a file."""
    return {"benchmark": IMAGE, "runs": [_run_figures(results) for results in all_results]}


def _run_figures(results: Results) -> dict[str, Any]:
    operations: dict[str, Any] = {}
    for row in results.rows:
        if isinstance(row, Unavailable):
            operations[row.name] = {"unavailable": row.reason}
        else:
            ledger = {"ledger_cycles": dict(row.account.cycles), "exits": dict(row.account.exits)}
            operations[row.measurement.name] = row.measurement.statistics(results.frequency_hz) | ledger
    return results.run.facts() | {"frequency_hz": results.frequency_hz, "operations": operations}
