"""What stands behind options of the command line, as the values that specs have."""

from typing import NamedTuple

from emulator.errors import ConfigError

NUMBER_DIGITS_MAX = 18


class Switch(NamedTuple):
    """From `cycle` on sidecalls are on, or off."""

    cycle: int
    is_on: bool


class TraceStart(NamedTuple):
    """Where a trace begins: at this cycle of a core's clock, and with this exit of the run, the first being 1."""

    cycle: int = 0
    exit: int = 1


def read_trace_start(text: str) -> TraceStart:
    """What `1000000` or `exit 300` says. Raises ConfigError."""
    word, _, number = text.replace(":", " ").rpartition(" ")
    if word not in ("", "exit") or not number.isdecimal() or not number.isascii() or len(number) > NUMBER_DIGITS_MAX:
        raise ConfigError(f"--trace-from {text!r}: give a cycle, as in 1000000, or an exit, as in 'exit 300'")
    return TraceStart(exit=max(1, int(number))) if word else TraceStart(int(number))


def read_memory_bytes(text: str) -> int:
    """`256M` as a number. Raises ConfigError."""
    from vmm.boot.loaders.memory_size import parse_memory_size

    return parse_memory_size(text)


def read_cores(text: str) -> tuple[int, ...]:
    """`2,3` as numbers. Raises ConfigError."""
    parts = text.split(",")
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise ConfigError(f"--cores {text!r}: give numbers of cores, as in 2,3")
    return tuple(map(int, parts))


def read_switch(text: str) -> Switch:
    """What CYCLE:on says. Raises ConfigError."""
    cycle, _, state = text.partition(":")
    if not cycle.isdecimal() or not cycle.isascii() or state not in ("on", "off"):
        raise ConfigError(f"--switch-sidecore {text!r}: give CYCLE:on or CYCLE:off, as in 1000000:off")
    return Switch(int(cycle), state == "on")
