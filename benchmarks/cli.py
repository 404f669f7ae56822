"""The `sidecore` command: what the hypervisor's command line has, and the benchmarks.

Benchmarks use the hypervisor and not the other way round, so the command that has both is put together here.
"""

from pathlib import Path

import click

from vmm.cli import cli, main

__all__ = ["cli", "main"]


@cli.group()
def bench() -> None:
    """Measurements of the emulator itself."""


@bench.command()
@click.option("--repeat", default=1, show_default=True, type=click.IntRange(min=1), help="Runs of each; medians count.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="F.json", help="Write the figures here.")
def speed(repeat: int, json_path: Path | None) -> None:
    """Boot Linux in every mode and in QEMU, and time one exit to the VMM: how fast is it on this workstation?"""
    from benchmarks.speed import measure_and_report

    measure_and_report(repeat, json_path)


if __name__ == "__main__":
    main()
