"""The command line of the hypervisor: `sidecore boot`, `images`, `profiles`, `diff`.

The guest's output goes to stdout, everything else to stderr, so that a pipe gets exactly what the guest printed. What
takes long to import is imported by the command that needs it: a mistake is answered at once.
"""

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from emulator.errors import ConfigError
from vmm.cli.debug import debug
from vmm.cli.diff import diff
from vmm.cli.output import say
from vmm.cli.profiles import profiles
from vmm.cli.spec_options import MADE_BY_SNAPSHOT, read_specs, spec_options
from vmm.cli.streams import drop_stdout, open_streams
from vmm.session.spec import Outside, specs_of

if TYPE_CHECKING:
    from vmm.session.console import Console
    from vmm.session.run import RunResult

USER_ERROR_STATUS = 2  # of which vmm.outcome.End.exit_status has the rest
INTERRUPTED_STATUS = 130
STDOUT_FD, STDERR_FD = 1, 2
NOT_WRITTEN = (errno.ENOSPC, errno.EIO, errno.EBADF)  # what a stdout that was given to us may answer


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sidecore", prog_name="sidecore")  # looked up when asked for
def cli() -> None:
    """Run guests on an emulated multi-core x86-64 machine with VT-x, under a VMM in Python, and see every cycle."""


@cli.command()
@click.argument("image", required=False, metavar="[GUEST]")
@spec_options()
def boot(**parameters: Any) -> None:
    """Boot GUEST and give it this terminal; end with Ctrl-A X.

    GUEST is a name from `sidecore images list` or a kernel file; without one, `default` boots.

    Exit status: 0 the guest shut down or reset, wrote 0 to the debug exit, or printed the --until text; 2 a mistake in
    the command; 3 a limit was reached; 4 the guest did what the machine does not model; 6 its processor shut down (a
    triple fault); 8 it halted for ever; 10 it ended before it printed the --until text; 12 it ended before it came to
    where it is saved; 128 and the signal's number: 130 Ctrl-C or Ctrl-A X, 143 SIGTERM, 129 SIGHUP; (value << 1) | 1
    for another value written to the debug exit.
    """
    if parameters["restore_path"] is not None:
        check_restore_options()
    host, guest, limits, outside = specs_of(read_specs(parameters))
    from vmm.session.console import Console
    from vmm.session.plan import plan
    from vmm.session.progress import StatusLine
    from vmm.session.run import run

    boot_plan = plan(host, guest, limits, outside, progress=say)
    until = limits.until.encode() if limits.until is not None else None
    output_fd = STDERR_FD if outside.takes_stdout else STDOUT_FD
    console = Console(until=until, allow_input=outside.allow_input, stdout_fd=output_fd)
    with console, StatusLine() as status_line:
        result = run(boot_plan, console, status_line.update)
    finish(outside, console, result)


def check_restore_options() -> None:
    """A snapshot says what the machine and the guest are. Raises ConfigError."""
    context = click.get_current_context()
    for name, option in MADE_BY_SNAPSHOT.items():
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise ConfigError(f"--restore has {option} from the snapshot; leave it out")


def finish(outside: Outside, console: "Console", result: "RunResult") -> None:
    """Show how the run ended and what it cost, write the statistics file, exit with the run's status."""
    import rich.console

    from vmm.session.report.summary import print_summary, write_stats

    if sys.stderr.isatty() and console.tail and not console.tail.endswith(b"\n"):
        click.echo(err=True)
    say(str(result.end))
    if result.report:
        click.echo(result.report, err=True)
    print_summary(result.stats, rich.console.Console(stderr=True), result.instructions_before)
    if result.recorder is not None:
        from vmm.session.report.explain_table import print_explanation

        print_explanation(result.recorder, rich.console.Console(stderr=True))
    if outside.stats_path is not None:
        write_stats(outside.stats_path, result.stats)
    sys.exit(result.status)


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

    `linux-small` and `linux-vif` are built from Debian's kernel source, which takes minutes; the others are fetched.
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


cli.add_command(debug)
cli.add_command(profiles)
cli.add_command(diff)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; a mistake of the user's is one line and status 2."""
    open_streams()
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
    except OSError as error:
        if error.errno not in NOT_WRITTEN:
            raise
        drop_stdout()
        say(f"cannot write the output: {os.strerror(error.errno)}")
        sys.exit(USER_ERROR_STATUS)
