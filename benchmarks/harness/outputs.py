"""Where a benchmark's rows go besides the terminal: a JSON file, a CSV file, a plot. Checked before anything runs.

    {"benchmark": "vmexit", "rows": [
        {"spec": {...}, "metric": "cpuid", "unit": "cycles", "value": 5548.0, "about": {},
         "spread": {"min": ..., "q1": ..., "samples": [...]}, "account": {"cycles": {...}, "exits": {...}}}, ...]}

A CSV file has a line for each row, and a column for each name that any row has: `spec.profile`, `account.exits.HLT`.

A file is written whole or not at all: an old one survives a run that fails.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.plotting import PLOT_SUFFIXES, plot_bytes
from benchmarks.harness.results import Row
from emulator.errors import ConfigError
from vmm.session.output_file import check_writable, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Outputs:
    """The files asked for."""

    json_path: Path | None = None
    plot_path: Path | None = None
    csv_path: Path | None = None

    def check(self) -> None:
        """Raise ConfigError unless all can be written."""
        named = {"--json": self.json_path, "--plot": self.plot_path, "--csv": self.csv_path}
        paths = {option: path for option, path in named.items() if path is not None}
        if self.plot_path is not None and self.plot_path.suffix.lower() not in PLOT_SUFFIXES:
            raise ConfigError(f"--plot {str(self.plot_path)!r} must end in {' or '.join(PLOT_SUFFIXES)}")
        for path in paths.values():
            check_writable(path)
        for (one, path), (other, second) in combinations(paths.items(), 2):
            if path.resolve() == second.resolve():
                raise ConfigError(f"{one} and {other} both name {str(path)!r}; give each its own file")

    def write(self, benchmark: str, rows: Sequence[Row], draw: Callable[["Figure"], None] | None = None) -> None:
        """Write the rows, and the plot that `draw` makes of an empty one. Raises ConfigError."""
        records = [row.record() for row in rows]
        if self.json_path is not None:
            document = {"benchmark": benchmark, "rows": records}
            write_file(self.json_path, json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n")
        if self.csv_path is not None:
            write_file(self.csv_path, csv_text(records))
        if self.plot_path is not None and draw is not None:
            write_file(self.plot_path, plot_bytes(draw, self.plot_path.suffix.lower()))


def csv_text(records: Sequence[Mapping[str, object]]) -> str:
    """The rows as CSV (RFC 4180), columns in the order in which they come up."""
    lines = [dict(_cells("", record)) for record in records]
    columns = dict.fromkeys(name for line in lines for name in line)
    text = StringIO()
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _cells(prefix: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _cells(f"{prefix}.{name}" if prefix else name, part)
    elif isinstance(value, list):
        yield prefix, " ".join(map(str, value))
    else:
        yield prefix, value
