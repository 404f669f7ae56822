"""`sidecore profiles check`: measures, prints the table, writes the file."""

from collections.abc import Sequence

from benchmarks.calibration.measure import measure, row_of
from benchmarks.calibration.tables import findings_table
from benchmarks.harness.outputs import Outputs
from vmm.cli.output import show


def check_and_report(names: Sequence[str], overrides: tuple[str, ...], outputs: Outputs) -> bool:
    """Measure and print; whether all is within what is allowed. Raises ConfigError."""
    outputs.check()
    findings = measure(names, overrides)
    show(findings_table(findings))
    outputs.write("check", [row_of(finding) for finding in findings])
    return all(finding.is_within for finding in findings)
