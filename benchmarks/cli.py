"""The `sidecore` command: what the hypervisor's command line has, and the benchmarks.

Benchmarks use the hypervisor and not the other way round, so the command that has both is put together here.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emulator.errors import ConfigError, choices_text
from emulator.timing.fidelity import DEFAULT_FIDELITY, FIDELITIES
from vmm.cli.main import cli, main
from vmm.cli.output import say
from vmm.cli.profiles import profiles
from vmm.session.spec import PAGING_MODES

if TYPE_CHECKING:
    from benchmarks.harness.outputs import Outputs
    from benchmarks.harness.results import Run

__all__ = ["cli", "main"]

FILE = click.Path(path_type=Path)
OUTSIDE_STATUS = 1  # of `profiles check`: a measurement is too far off
BENCH_PAGING = ("native", "shadow", "ept")  # in the order of the columns
WITH_SIDECORE = ("fig1", "fig3")  # guests that run beside one


def file_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options for the files of rows, for `outputs_of`."""
    command = click.option("--csv", "csv_path", type=FILE, metavar="F.csv", help="Write the rows here.")(command)
    return click.option("--json", "json_path", type=FILE, metavar="F.json", help="Write the rows here.")(command)


@cli.group()
def bench() -> None:
    """Measurements of the emulated machine, from inside a guest, and of the emulator itself."""


@bench.command()
@click.option("--repeat", default=1, show_default=True, type=click.IntRange(min=1), help="Runs of each; medians count.")
@file_options
def speed(repeat: int, **files: Path | None) -> None:
    """Boot Linux in every mode and in QEMU, and time one exit to the VMM: how fast is it on this workstation?"""
    from benchmarks.speed.command import measure_and_report

    measure_and_report(repeat, outputs_of(**files))


@bench.command()
@click.option("--profile", "profiles", multiple=True, help="Fit for this profile. Repeatable; the default one.")
@click.option("--all-profiles", is_flag=True, help="Every profile of `sidecore profiles list`.")
@click.option("--workload", "workloads", multiple=True, metavar="CLASS", help="Repeatable; all if not given.")
@click.option("--paging", "pagings", multiple=True, metavar="|".join(BENCH_PAGING), help="Repeatable; all three.")
@click.option("--write", is_flag=True, help="Keep the allowances: runs with --timing fast use them from then on.")
def fit(
    profiles: tuple[str, ...], all_profiles: bool, workloads: tuple[str, ...], pagings: tuple[str, ...], write: bool
) -> None:
    """Fit what memory costs in `--timing fast` to runs with `--timing detailed`, and show how far it is off."""
    from benchmarks.fit.command import fit_and_report
    from benchmarks.fit.measure import Case
    from emulator.profiles.profile import DEFAULT_PROFILE, load_profile, shipped_profiles
    from emulator.timing.allowances import WORKLOADS

    for chosen, choices in ((workloads, list(WORKLOADS)), (pagings, list(BENCH_PAGING))):
        for name in chosen:
            if name not in choices:
                raise ConfigError(f"no {name!r} here; {choices_text(name, choices)}")
    names = list(shipped_profiles()) if all_profiles else list(profiles) or [DEFAULT_PROFILE]
    for name in names:
        load_profile(name)
    cases = [
        Case(profile, workload, paging)  # type: ignore[arg-type]  # checked above
        for profile in names
        for workload in workloads or WORKLOADS
        for paging in pagings or BENCH_PAGING
    ]
    fit_and_report(cases, write=write)


def guest_options(timing: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of a benchmark that runs a guest, for `runs_of` and `outputs_of`; `timing` is the default."""
    options = (
        click.option("--profile", "profiles", multiple=True, help="Timing of the machine. Repeatable."),
        click.option("--all-profiles", is_flag=True, help="Every profile of `sidecore profiles list`."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one value. Repeatable."),
        click.option("--paging", "pagings", multiple=True, metavar="|".join(BENCH_PAGING), help=(
            "How guest memory is virtualized. Repeatable; all three if not given."
        )),
        click.option("--timing", default=timing, show_default=True, metavar="|".join(FIDELITIES), help=(
            "How time is computed; see `sidecore boot --help`."
        )),
        file_options,
        click.option("--plot", "plot_path", type=FILE, metavar="F.png|svg", help="Draw them here."),
    )  # fmt: skip

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@bench.command()
@guest_options(timing=DEFAULT_FIDELITY)
def vmexit(**options: Any) -> None:
    """Cycles of each operation that a VMM may have to step in for, and where they went."""
    runs, outputs = runs_of("vmexit", **options), outputs_of(**options)
    from benchmarks.vmexit.command import measure_and_report

    measure_and_report(runs, outputs)


@bench.command()
@guest_options(timing="detailed")
def mem(**options: Any) -> None:
    """What memory costs: latency of a load by size and stride, reach of the TLBs, bandwidth."""
    runs, outputs = runs_of("mem", **options), outputs_of(**options)
    from benchmarks.mem.command import measure_and_report

    measure_and_report(runs, outputs)


@profiles.command("check")
@click.argument("names", nargs=-1, metavar="[PROFILE...]")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one value. Repeatable.")
@file_options
def check_profiles(names: tuple[str, ...], overrides: tuple[str, ...], **files: Path | None) -> None:
    """Compare what guests measure with what was published of the machines; all of them if none is named.

    Round trips of VM exits, latencies of the caches and of memory, and the reach of the TLBs. Exit status 1 when one
    is further off than is allowed.
    """
    from benchmarks.calibration.command import check_and_report
    from emulator.profiles.profile import shipped_profiles

    chosen = tuple(dict.fromkeys(names)) or tuple(shipped_profiles())
    if not check_and_report(chosen, overrides, outputs_of(**files)):
        sys.exit(OUTSIDE_STATUS)


@bench.command()
@guest_options(timing=DEFAULT_FIDELITY)
@click.option("--poll", default="spin", show_default=True, metavar="spin|mwait", help="How the sidecore waits.")
@click.option("--guests", type=click.IntRange(1, 32), help="So many guests at once share the sidecores, too.")
@click.option("--sidecores", default=1, show_default=True, type=click.IntRange(1, 32), help="With --guests.")
def fig1(poll: str, guests: int | None, sidecores: int, pagings: tuple[str, ...], **options: Any) -> None:
    """Figure 1 of the sidecore paper: null call, CPUID and a new page-table entry, by VM exit and by sidecall."""
    if len(pagings) > 1 or "native" in pagings:
        raise ConfigError("--paging: Figure 1 is of one way of paging, shadow or ept")
    runs, outputs = runs_of("fig1", pagings=pagings or ("shadow",), **options), outputs_of(**options)
    runs = [replace(run, poll=poll) for run in runs]  # type: ignore[arg-type]  # checked by plan()
    from benchmarks.fig1.command import measure_and_report

    measure_and_report(runs, outputs, guests=guests, sidecores=sidecores)


@bench.command(context_settings={"show_default": True})
@click.option(
    "--guests",
    "counts",
    multiple=True,
    type=click.IntRange(1, 64),
    help="Guests on each host. Repeatable; 1 to 32.",
    show_default=False,
)
@click.option("--probes", default=1000, type=click.IntRange(1, 10**6), help="Of each flow, after those of the warm-up.")
@click.option("--warm-up", default=100, type=click.IntRange(0, 10**6), help="Probes that are not counted.")
@click.option("--probe-bytes", default=64, type=click.IntRange(60, 1514), help="Size of a probe's frame.")
@click.option(
    "--think",
    "think_us",
    default=0,
    type=click.IntRange(0, 10**6),
    metavar="US",
    help="Between an answer and the next probe.",
)
@click.option(
    "--identifier-bits", default=8, type=click.IntRange(1, 64), help="Width of the NIC's identifier register."
)
@click.option(
    "--interrupt-core",
    default="guests",
    metavar="dom0|guests|round-robin",
    help="Which core takes the NIC's interrupt.",
)
@click.option("--boost", "has_boost", is_flag=True, help="The scheduler prefers who wakes (Xen from October 2006 on).")
@click.option(
    "--pinning", default="shared", metavar="shared|split|one", help="Guests use both cores, half of them each, or one."
)
@click.option("--fourth-core", "fourth_runs_guests", is_flag=True, help="Without a sidecore its core runs guests.")
@click.option("--dom0-core", default=0, type=click.IntRange(0, 2), help="Of dom0; which core is whose sibling follows.")
@click.option(
    "--send-queues", default="guest", metavar="guest|nic", help="Where they lie: in guest memory, or behind the NIC."
)
@click.option(
    "--slower-clients",
    "slower_clients_percent",
    default=0,
    type=click.IntRange(0, 90),
    metavar="%",
    help="So much slower is the clock of the clients' host.",
)
@click.option("--signal", default="auto", metavar="auto|msix|posted", help="How guests are told without a sidecore.")
@click.option("--sidecores", default=1, type=click.IntRange(1, 2), help="Of each host, where it has any.")
@click.option("--poll", default="spin", metavar="spin|mwait", help="How the sidecore waits.")
@click.option("--profile", default="xeon-2.8-ht-2006", help="The hosts.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one value of it. Repeatable.")
@click.option("--timing", default=DEFAULT_FIDELITY, metavar="fast|detailed", help="How time is computed.")
@click.option(
    "--guest", "guest", default="own", metavar="own|linux", help="Whose psapp: our kernel's, or that of Linux."
)
@click.option(
    "--phases", default=1, type=click.IntRange(1, 16), help="Starting phases of the flows; all samples count."
)
@click.option("--carriers", "has_carriers", is_flag=True, help="Beside the NIC, driver domains; throughput, too.")
@click.option("--isolation", "has_isolation", is_flag=True, help="What a guest that only computes loses, too.")
@click.option("--map", "has_map", is_flag=True, help="What the paper leaves open, at the last --guests: many runs.")
@file_options
@click.option("--plot", "plot_path", type=FILE, metavar="F.svg|F.png", help="Draw the figure.")
def fig4(
    counts: tuple[int, ...], guest: str, json_path: Path | None, csv_path: Path | None, plot_path: Path | None,
    **options: Any,
) -> None:  # fmt: skip
    """Figure 4 of the sidecore paper: round trips through the self-virtualized NIC, without and with a sidecore."""
    from benchmarks.fig4.command import measure_and_report
    from benchmarks.fig4.setup import GUESTS, setup_of

    shown = {name: options.pop(name) for name in ("phases", "has_map", "has_carriers", "has_isolation")}
    outputs = outputs_of(json_path=json_path, csv_path=csv_path, plot_path=plot_path)
    measure_and_report(setup_of(guest=guest, **options), tuple(dict.fromkeys(counts)) or GUESTS, outputs, **shown)


def figure3_command(name: str, help_text: str) -> None:
    """Add a command that shows some of what the guest `fig3` measures: see benchmarks/fig3/measure.py."""

    @bench.command(name, help=help_text)
    @guest_options(timing=DEFAULT_FIDELITY)
    @click.option("--poll", default="spin", show_default=True, metavar="spin|mwait", help="How the sidecore waits.")
    def command(poll: str, pagings: tuple[str, ...], **options: Any) -> None:
        if len(pagings) > 1 or "native" in pagings:
            raise ConfigError("--paging: Figure 3 is of one way of paging, shadow or ept")
        runs, outputs = runs_of("fig3", pagings=pagings or ("shadow",), **options), outputs_of(**options)
        runs = [replace(run, poll=poll) for run in runs]  # type: ignore[arg-type]  # checked by plan()
        from benchmarks.fig3.command import measure_and_report

        measure_and_report(runs, outputs, name)


figure3_command(
    "pagefault", "What a page fault of a process takes, by VM exit and by sidecall (LMbench's lat_pagefault)."
)
figure3_command(
    "ctx", "What a context switch takes, by VM exit and by sidecall (LMbench's lat_ctx, 16 processes, 16 KB)."
)
figure3_command("fig3", "Figure 3 of the sidecore paper: `bench pagefault` and `bench ctx`.")


def runs_of(
    image: str, *, profiles: tuple[str, ...], all_profiles: bool, overrides: tuple[str, ...], pagings: tuple[str, ...],
    timing: str, **_outputs: Any,
) -> "list[Run]":  # fmt: skip
    """A run for each profile and way of paging, in the order to show them. Raises ConfigError."""
    for paging in pagings:
        if paging not in PAGING_MODES:
            raise ConfigError(f"no paging mode {paging!r}; {choices_text(paging, BENCH_PAGING)}")
    if timing not in FIDELITIES:
        raise ConfigError(f"no timing {timing!r}; {choices_text(timing, FIDELITIES)}")
    if profiles and all_profiles:
        raise ConfigError("both --profile and --all-profiles were given; leave one out")
    from benchmarks.harness.results import Run
    from emulator.profiles.profile import DEFAULT_PROFILE, load_profile, shipped_profiles
    from vmm.session.unused_parameters import unused_parameters

    if all_profiles:
        loaded = [load_profile(name) for name in shipped_profiles()]
        loaded.sort(key=lambda profile: profile.exit_cycles + profile.entry_cycles, reverse=True)
        profiles = tuple(profile.name for profile in loaded)
    profiles = tuple(dict.fromkeys(profiles)) or (DEFAULT_PROFILE,)
    chosen = [paging for paging in BENCH_PAGING if paging in pagings or not pagings]
    runs = [
        Run(image, name, paging, timing, overrides, has_sidecore=image in WITH_SIDECORE)  # type: ignore[arg-type]
        for name in profiles
        for paging in chosen
    ]
    lines = (line for run in runs for line in unused_parameters(run.host, load_profile(run.profile, overrides)))
    for line in dict.fromkeys(lines):
        say(line)
    return runs


def outputs_of(
    *, json_path: Path | None, csv_path: Path | None, plot_path: Path | None = None, **_runs: Any
) -> "Outputs":
    """The files asked for, not checked yet."""
    from benchmarks.harness.outputs import Outputs

    return Outputs(json_path, plot_path, csv_path)


if __name__ == "__main__":
    main()
