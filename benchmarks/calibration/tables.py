"""The table of `sidecore profiles check`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.calibration.measure import Finding
from benchmarks.harness.text import cycles_text
from vmm.cli.output import list_table

if TYPE_CHECKING:
    from rich.table import Table


def findings_table(findings: Sequence[Finding]) -> "Table":
    """A row for each finding."""
    right = ("Published", "Measured", "Error", "Allowed", "VMM's own")
    table = list_table("Profile", "Quantity", *right, "Verdict", "Source", right=right)
    for finding in findings:
        table.add_row(*row_texts(finding))
    return table


def row_texts(finding: Finding) -> list[str]:
    """The cells of a finding."""
    reference = finding.reference
    measured = cycles_text(finding.low)
    if finding.high != finding.low:
        measured = f"{measured} to {cycles_text(finding.high)}"
    return [
        reference.profile,
        reference.quantity,
        f"{reference.value:,} {reference.unit}",
        measured,
        f"{finding.error_percent:+.1f} %",
        f"{reference.tolerance_percent} %",
        cycles_text(finding.software_cycles) if finding.software_cycles else "",
        "within" if finding.is_within else "OUTSIDE",
        f"{reference.source} ({reference.confidence})",
    ]
