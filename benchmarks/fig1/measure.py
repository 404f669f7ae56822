"""What `sidecore bench fig1` measures, the paper's Figure 1: null call, CPUID and a new page-table entry, both ways.

    guest kernel `fig1` --lines--> Results of each profile --> Comparison by VM exit and by sidecall

Both ways are measured in the same run of the same guest. What a new entry takes is what demand paging takes: the fault,
the guest's handler, the entry, the access. Paper: Kumar, Raj, Schwan, Ganev, "Re-architecting VMMs for Multicore
Systems: The Sidecore Approach", WIOSCA 2007, section IV: 41 % less for a new entry.
"""

from collections.abc import Sequence

from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.pairs import EXIT_SUFFIX, Comparison, Pair
from benchmarks.harness.results import Results, Run

IMAGE = "fig1"
PAPER_PTE_IMPROVEMENT = 0.41
# The bars: by VM exit, by sidecall, and what people call it.
FIGURE = (
    ("null_exit", "null", "null call"),
    ("cpuid_exit", "cpuid", "CPUID"),
    ("pte_exit", "pte", "new page-table entry"),
)
# Not in the paper's figure, but in its text: an entry that TLBs may have. One sidecall, beside what guests do without.
BARS = (
    *FIGURE,
    ("pte_change_exit", "pte_change", "changed entry: the store"),
    ("pte_flush_exit", "pte_change", "changed entry, INVLPG"),
    ("pte_clear_exit", "pte_change", "cleared entries, one flush"),
)


def measure(runs: Sequence[Run]) -> list[Comparison]:
    """Run the guest on every machine. Raises ConfigError."""
    return [comparison_of(results) for results in run_all(runs)]


def comparison_of(results: Results) -> Comparison:
    """A pair for each of BARS; its key is the name of the exit."""
    rows = results.by_name()
    pairs = [
        Pair(exit_name.removesuffix(EXIT_SUFFIX), text, rows[exit_name], rows[call_name])
        for exit_name, call_name, text in BARS
    ]
    return Comparison(results, tuple(pairs))


def paper_pairs(comparison: Comparison) -> tuple[Pair, ...]:
    """Those of the paper's figure."""
    return comparison.pairs[: len(FIGURE)]
