"""Statistics of VM exits: count and cycles by reason, from the start of an exit to the next entry."""

from emulator.vmx.exit_reasons import name
from vmm.report import ExitStats


class ExitStatistics:
    """Per exit reason: samples, and total, least and most cycles outside the guest (as `perf kvm stat` has them)."""

    def __init__(self) -> None:
        self._rows: dict[int, list[int]] = {}  # reason -> [count, cycles, min, max]

    def add(self, reason: int, cycles: int) -> None:
        """Book one exit."""
        row = self._rows.get(reason)
        if row is None:
            self._rows[reason] = [1, cycles, cycles, cycles]
            return
        row[0] += 1
        row[1] += cycles
        if cycles < row[2]:
            row[2] = cycles
        if cycles > row[3]:
            row[3] = cycles

    def table(self) -> dict[str, ExitStats]:
        """The statistics by name of the reason."""
        return {
            name(reason): {"count": row[0], "cycles": row[1], "min_cycles": row[2], "max_cycles": row[3]}
            for reason, row in sorted(self._rows.items())
        }
