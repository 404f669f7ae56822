"""`sidecore profiles check`: measures, prints the table, writes the file."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.calibration.measure import figures, measure
from benchmarks.calibration.tables import findings_table
from vmm.cli.output import show
from vmm.session.output_file import check_writable, write_file


def check_and_report(names: Sequence[str], overrides: tuple[str, ...], json_path: Path | None) -> bool:
    """Measure and print; whether all is within what is allowed. Raises ConfigError."""
    if json_path is not None:
        check_writable(json_path)
    findings = measure(names, overrides)
    show(findings_table(findings))
    if json_path is not None:
        write_file(json_path, json.dumps([figures(finding) for finding in findings], indent=2) + "\n")
    return all(finding.is_within for finding in findings)
