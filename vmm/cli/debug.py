"""`sidecore debug`: the debugger of `vmm/session/debugger` on a terminal, with a script, for gdb."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emulator.errors import ConfigError
from vmm.cli.spec_options import read_specs, spec_options
from vmm.session.spec import GuestSpec, HostSpec, specs_of

if TYPE_CHECKING:
    from vmm.session.debugger.debugger import Debugger
    from vmm.session.symbols import Symbols


@click.command("debug")
@click.argument("image", required=False, metavar="[GUEST]")
@spec_options(GuestSpec, HostSpec)
@click.option("--restore", "restore_path", type=click.Path(path_type=Path), metavar="F", help="Debug a snapshot.")
@click.option(
    "--script", type=click.Path(path_type=Path), metavar="FILE", help="Follow the commands of a file, then end."
)
@click.option(
    "--gdb",
    "gdb_port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Answer gdb on this port of the loopback address, 0 being any that is free, instead of a console.",
)
@click.option(
    "--symbols",
    "symbols_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Names of the kernel: its ELF file, a System.map or the text of /proc/kallsyms.",
)
def debug(
    restore_path: Path | None,
    script: Path | None,
    gdb_port: int | None,
    symbols_path: Path | None,
    **parameters: Any,
) -> None:
    """Stop GUEST, and the VMM under it, at any VM exit or instruction, look at it, step on or go back.

    `help` lists the commands. With a pipe for standard input its lines are the commands. With --script and --gdb the
    script comes first.
    """
    debugger = _debugger(parameters, restore_path, symbols_path)
    from vmm.session.debugger.console import Console, is_terminal

    screen = _Screen()
    console = Console(debugger, screen.write, screen.write_guest)
    try:
        if script is not None:
            console.follow(_lines(script))
        if gdb_port is not None:
            from vmm.session.debugger.gdb.server import serve

            serve(debugger, gdb_port, run_line=console.answer, tell=screen.write)
        elif script is None and is_terminal():
            screen.write(console.answer("where"))
            console.talk()
        elif script is None:
            console.follow(sys.stdin)
    finally:
        debugger.close()


def _debugger(parameters: dict[str, Any], restore_path: Path | None, symbols_path: Path | None) -> "Debugger":
    given = read_specs(parameters)
    if restore_path is not None and given:
        raise ConfigError(f"--restore has {', '.join(given)} from the snapshot; leave it out")
    host_spec, guest_spec, _, _ = specs_of(given)
    from vmm.session.debugger.debugger import Debugger
    from vmm.session.world.world import World

    if restore_path is not None:
        return Debugger(World.restore(restore_path), symbols=_symbols(symbols_path))
    world = World()
    host = world.add_host(host_spec)
    host.add_guest(guest_spec)
    world.build()
    assert host.plan is not None
    return Debugger(world, symbols=_symbols(symbols_path, host.plan.guests[0].spec.kernel))


def _symbols(wanted: Path | None, kernel: Path | None = None) -> "list[Symbols]":
    from vmm.session.symbols import symbols_of

    symbols = symbols_of(wanted or kernel)
    if wanted is not None and not len(symbols):
        raise ConfigError(f"--symbols {str(wanted)!r}: there are no symbols in it")
    return [symbols]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None


class _Screen:
    """Standard output, which the guest's serial line and the debugger share."""

    def __init__(self) -> None:
        self._is_in_line = False  # the guest has begun one

    def write(self, text: str) -> None:
        """What the debugger says."""
        if self._is_in_line:
            click.echo()
            self._is_in_line = False
        click.echo(text)

    def write_guest(self, data: bytes) -> None:
        """What the guest prints."""
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        self._is_in_line = not data.endswith(b"\n")
