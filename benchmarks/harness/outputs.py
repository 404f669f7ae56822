"""Where a benchmark's figures go besides the terminal: a JSON file, a plot. Checked before anything runs.

A file is written whole or not at all: an old one survives a run that fails.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.plotting import PLOT_SUFFIXES, plot_bytes
from emulator.errors import ConfigError
from vmm.session.output_file import check_writable, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Outputs:
    """The files asked for."""

    json_path: Path | None = None
    plot_path: Path | None = None

    def check(self) -> None:
        """Raise ConfigError unless both can be written."""
        paths = [path for path in (self.json_path, self.plot_path) if path is not None]
        if self.plot_path is not None and self.plot_path.suffix.lower() not in PLOT_SUFFIXES:
            raise ConfigError(f"--plot {str(self.plot_path)!r} must end in {' or '.join(PLOT_SUFFIXES)}")
        for path in paths:
            check_writable(path)
        if len({path.resolve() for path in paths}) < len(paths):
            raise ConfigError(f"--json and --plot both name {str(paths[0])!r}; give each its own file")

    def write(self, figures: Mapping[str, object], draw: Callable[["Figure"], None]) -> None:
        """Write the figures, and the plot that `draw` makes of an empty one. Raises ConfigError."""
        if self.json_path is not None:
            write_file(self.json_path, json.dumps(figures, indent=2, sort_keys=True, allow_nan=False) + "\n")
        if self.plot_path is not None:
            write_file(self.plot_path, plot_bytes(draw, self.plot_path.suffix.lower()))
