"""What the guest `mem` would measure on machines made up."""

from dataclasses import replace

from benchmarks.harness.accounts import Account
from benchmarks.harness.measurements import Measurement
from benchmarks.harness.results import Result, Results, Run, row_of, spec_of
from vmm.session.spec import Paging


def row(name: str, parameters: tuple[int, ...], cycles_per_operation: int) -> Result:
    measurement = Measurement(name, parameters, 10, (0,), (10 * cycles_per_operation,))
    return row_of({}, measurement, Account({}, {}))


def made_results(paging: Paging = "native", profile: str = "haswell", scale: int = 1) -> Results:
    """A machine whose loads take 3, 7 and 40 cycles, and whose TLB holds 16 pages."""
    rows = [
        row("load_latency", (1024, 64), 3 * scale),
        row("load_latency", (2048, 64), 7 * scale),
        row("load_latency", (1024, 256), 40 * scale),
        row("page_latency", (16,), 3 * scale),
        row("page_latency", (32,), 27 * scale),
        row("read_bandwidth", (4096,), 2),
        row("write_bandwidth", (4096,), 4),
        row("copy_bandwidth", (4096,), 8),
    ]
    run = Run("mem", profile, paging, "detailed")
    spec = spec_of(run.host, 2_000_000_000, "mem")
    return Results(run, 2_000_000_000, tuple(replace(row, spec=spec) for row in rows))
