"""The command line of the hypervisor: `sidecore boot`, `images`, `profiles`.

The guest's output goes to stdout, everything else to stderr, so that a pipe gets exactly what the guest printed. What
takes long to import is imported by the command that needs it: a mistake is answered at once.
"""

import importlib.metadata
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emulator.errors import ConfigError
from vmm.cli.output import say
from vmm.cli.profiles import profiles

if TYPE_CHECKING:
    from vmm.session.console import Console
    from vmm.session.options import BootOptions
    from vmm.session.run import RunResult

USER_ERROR_STATUS = 2  # of which vmm.outcome.End.exit_status has the rest
INTERRUPTED_STATUS = 130
DEFAULT_FIDELITY = "fast"
FIDELITIES = ("flat", "fast", "detailed")  # emulator.timing.core_timing.FIDELITIES, without its imports
PAGING_MODES = ("shadow", "ept", "native")  # vmm.session.run.PAGING_MODES, without its imports; a test compares

PROTOCOLS = ("linux", "multiboot", "pvh")  # of vmm.boot.loaders.BootProtocol

FILE = click.Path(path_type=Path)


# fmt: off
MADE_BY_SNAPSHOT = {  # parameters of `boot` that say what the guest is
    "guest", "kernel", "initrd", "modules", "protocol", "append", "memory", "paging", "has_sidecore", "vcpus",
    "pcpus", "devices", "poll", "sidecore_policy", "switch_sidecore", "profile", "overrides", "timing", "workload",
}
# fmt: on


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(importlib.metadata.version("sidecore"), prog_name="sidecore")
def cli() -> None:
    """Run guests on an emulated multi-core x86-64 machine with VT-x, under a VMM in Python, and see every cycle."""


@cli.command()
@click.argument("guest", required=False)
@click.option("--kernel", type=FILE, metavar="FILE[@ADDRESS[:BITS]]", help=(
    "Boot this kernel instead of a named guest: bzImage, vmlinux, ELF, Multiboot or PVH; with an address a flat "
    "binary, entered there in real mode (16 bits, below 1 MiB), protected mode (32) or 64-bit mode."
))  # fmt: skip
@click.option(
    "--initrd", type=FILE, help="Initial RAM disk for --kernel; of a Multiboot or PVH kernel the first module."
)
@click.option("--module", "modules", multiple=True, metavar="FILE [ARGS]", help=(
    "A module for a Multiboot or PVH kernel, as in --module 'disk.img ro'. Repeatable."
))  # fmt: skip
@click.option(
    "--protocol", metavar="|".join(PROTOCOLS), help="How to boot a --kernel that can be booted in several ways."
)
@click.option("--append", default="", help="Kernel command line; for a named guest, more of it.")
@click.option("--memory", default="256M", show_default=True, help="RAM of the guest.")
@click.option("--paging", default="shadow", show_default=True, metavar="|".join(PAGING_MODES), help=(
    "How guest memory is virtualized: shadow page tables, extended page tables, or no VMM at all."
))  # fmt: skip
@click.option("--sidecore", "has_sidecore", is_flag=True, help=(
    "Give the machine one more core, which serves the guest over a shared page instead of VM exits."
))  # fmt: skip
@click.option("--sidecore-policy", metavar="POLICY", help=(
    "Let the sidecore's core run guests too, by this policy: always-on, never, when-idle or FILE.py:NAME."
))  # fmt: skip
@click.option("--switch-sidecore", multiple=True, metavar="CYCLE:on|off", help=(
    "Turn sidecalls on or off when the clock gets there; the guest goes on by VM exits. Repeatable."
))  # fmt: skip
@click.option("--vcpus", default=1, show_default=True, help="Processors of the guest.")
@click.option("--pcpus", type=int, help="Cores of the machine; as many as --vcpus, unless they are to share fewer.")
@click.option("--device", "devices", multiple=True, metavar="edu", help=(
    "Put a device on the PCI bus: edu, the one of QEMU's for who writes a first driver. Repeatable."
))  # fmt: skip
@click.option("--poll", default="spin", show_default=True, metavar="spin|mwait", help="How the sidecore waits.")
@click.option("--profile", help="Timing of the machine: a name from `sidecore profiles list`, or a .toml file.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=(
    "Change one value of the profile, as in core.frequency_hz=2e9; see `sidecore profiles parameters`. Repeatable."
))  # fmt: skip
@click.option("--timing", default=DEFAULT_FIDELITY, show_default=True, metavar="|".join(FIDELITIES), help=(
    "How time is computed: flat, one cycle for each instruction; fast, a model of the core, memory by an average; "
    "detailed, every access through caches and TLBs."
))  # fmt: skip
@click.option("--workload", metavar="CLASS", help="Whose average `fast` takes for memory: linux, kernel, ...")
@click.option("--until", metavar="TEXT", help="End with status 0 when the guest has printed TEXT.")
@click.option("--max-seconds", type=float, help="End with status 3 after this long on the workstation.")
@click.option("--max-cycles", type=int, help="End with status 3 when the emulated core's clock gets here.")
@click.option("--stats", type=FILE, metavar="F.json", help="Write the figures of the summary to this file.")
@click.option("--trace", type=FILE, metavar="F.jsonl", help="Write one line per VM exit to this file.")
@click.option("--explain", metavar="REASON[:N]", help=(
    "Show the account of the N-th VM exit for this reason (CPUID, EXCEPTION_NMI ...), line by line with its sources."
))  # fmt: skip
@click.option("--save", "save_path", type=FILE, metavar="F", help=(
    "Write the state of the whole machine to this file, and end, at one of these places:"
))  # fmt: skip
@click.option("--save-at-text", metavar="TEXT", help="... when the guest has printed TEXT;")
@click.option("--save-at-cycle", type=int, metavar="N", help="... when the emulated core's clock gets here;")
@click.option("--save-at-exit", metavar="REASON[:N]", help="... behind the N-th VM exit for this reason.")
@click.option("--restore", "restore_path", type=FILE, metavar="F", help=(
    "Go on from a file of --save, as if there had been no end; options that make the guest do not go with it."
))  # fmt: skip
@click.option("--no-input", is_flag=True, help="Take no keys, even from a terminal: the run is reproducible.")
def boot(**parameters: Any) -> None:
    """Boot GUEST and give it this terminal; end with Ctrl-A X.

    GUEST is a name from `sidecore images list` or a kernel file; without one, `default` boots.

    Exit status: 0 the guest shut down or reset, wrote 0 to the debug exit, or printed the --until text; 2 a mistake in
    the command; 3 a limit was reached; 4 the guest did what the machine does not model; 130 stopped by Ctrl-C or
    Ctrl-A X; (value << 1) | 1 for another value written to the debug exit.
    """
    if parameters["restore_path"] is not None:
        check_restore_options()
    options = boot_options(**parameters)
    from vmm.session.console import Console
    from vmm.session.plan import plan
    from vmm.session.progress import StatusLine
    from vmm.session.run import run

    boot_plan = plan(options, say)
    until = options.until.encode() if options.until is not None else None
    with Console(until=until, allow_input=options.allow_input) as console, StatusLine() as status_line:
        result = run(boot_plan, console, status_line.update)
    finish(options, console, result)


def check_restore_options() -> None:
    """A snapshot says what the machine and the guest are. Raises ConfigError."""
    context = click.get_current_context()
    for parameter in context.command.params:
        is_given = context.get_parameter_source(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
        if is_given and parameter.name in MADE_BY_SNAPSHOT:
            name = parameter.opts[0] if isinstance(parameter, click.Option) else "the guest's name"
            raise ConfigError(f"--restore has {name} from the snapshot; leave it out")


def boot_options(
    *, guest: str | None, memory: str, profile: str | None, paging: str, timing: str, protocol: str | None,
    stats: Path | None, trace: Path | None, no_input: bool, vcpus: int, pcpus: int | None, save_path: Path | None,
    save_at_text: str | None, save_at_cycle: int | None, save_at_exit: str | None, **same: Any,
) -> "BootOptions":  # fmt: skip
    """Parameters of the command as options. Raises ConfigError."""
    from emulator.errors import choices_text
    from vmm.boot.loaders.memory_size import parse_memory_size

    memory_bytes = parse_memory_size(memory)
    if paging not in PAGING_MODES:
        raise ConfigError(f"no paging mode {paging!r}; {choices_text(paging, PAGING_MODES)}")
    if timing not in FIDELITIES:
        raise ConfigError(f"no timing {timing!r}; {choices_text(timing, FIDELITIES)}")
    if protocol is not None and protocol not in PROTOCOLS:
        raise ConfigError(f"no boot protocol {protocol!r}; {choices_text(protocol, PROTOCOLS)}")
    from emulator.profiles.profile import DEFAULT_PROFILE
    from vmm.boot.loaders import BootProtocol
    from vmm.session.observe.save_point import SaveOptions
    from vmm.session.options import BootOptions

    save = SaveOptions(save_path, save_at_text, save_at_cycle, save_at_exit)
    return BootOptions(
        image=guest,
        memory_bytes=memory_bytes,
        vcpu_count=vcpus,
        pcpu_count=pcpus,
        paging=paging,  # type: ignore[arg-type]  # checked above
        timing=timing,  # type: ignore[arg-type]
        protocol=BootProtocol(protocol) if protocol is not None else None,
        profile=profile or DEFAULT_PROFILE,
        stats_path=stats,
        trace_path=trace,
        save=save if save != SaveOptions() else None,
        allow_input=not no_input,
        **same,
    )


def finish(options: "BootOptions", console: "Console", result: "RunResult") -> None:
    """Show how the run ended and what it cost, write the statistics file, exit with the run's status."""
    import rich.console

    from vmm.session.report.summary import print_summary, write_stats

    if sys.stderr.isatty() and console.tail and not console.tail.endswith(b"\n"):
        click.echo(err=True)
    missed = options.until is not None and not console.until_seen
    is_lost = options.save is not None and result.end.kind.name != "SAVED"
    say(
        f"{result.end}"
        + (f", before it printed {options.until!r}" if missed else "")
        + (", before it came to where it is saved" if is_lost else "")
    )
    if result.report:
        click.echo(result.report, err=True)
    print_summary(result.stats, rich.console.Console(stderr=True), result.instructions_before)
    if result.recorder is not None:
        from vmm.session.report.explain_table import print_explanation

        print_explanation(result.recorder, rich.console.Console(stderr=True))
    if options.stats_path is not None:
        write_stats(options.stats_path, result.stats)
    sys.exit(result.end.exit_status)


@cli.group()
def images() -> None:
    """Guests that have a name."""


@images.command("list")
def list_images() -> None:
    """Every guest, and whether it needs the network at first."""
    from guest_images.images import all_images

    width = max(len(entry.name) for entry in all_images())
    for entry in all_images():
        click.echo(f"{entry.name:<{width}}  {entry.kind:<6}  {entry.description}")


@images.command("build")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def build_images(names: tuple[str, ...]) -> None:
    """Compile the test kernels, all or those named, or make another image; prints where they are.

    `linux-small` is built from Debian's kernel source, which takes some minutes; the others are fetched.
    """
    from guest_images.images import build, kernel_images

    for name in names or [entry.name for entry in kernel_images()]:
        click.echo(build(name, say))


@images.command("fetch")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def fetch_images(names: tuple[str, ...]) -> None:
    """Fetch Debian's kernel and BusyBox, or the images named; prints where they are."""
    from guest_images.images import resolve

    for name in names or ("linux",):
        image = resolve(name, say)
        click.echo("\n".join(str(path) for path in (image.kernel, image.initrd) if path is not None))


cli.add_command(profiles)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; a mistake of the user's is one line and status 2."""
    try:
        cli.main(arguments, prog_name="sidecore", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(USER_ERROR_STATUS)
    except click.ClickException as error:
        say(" ".join(error.format_message().split()))
        sys.exit(USER_ERROR_STATUS)
    except ConfigError as error:
        say(str(error))
        sys.exit(USER_ERROR_STATUS)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED_STATUS)
