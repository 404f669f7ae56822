"""Policies of a dynamic sidecore: shall the core serve sidecalls, or run guests like the others?

    every period_us of machine time:  what each core has done --> Sample --> policy.wants_sidecore() --> dynamic.py

To write one: a class with `period_us` and `wants_sidecore`, in any file; `sidecore boot --sidecore-policy FILE.py:NAME`
takes it. What it decides may depend on samples alone, or the run is not reproducible.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, cast

from emulator.errors import ConfigError, choices_text
from emulator.ledger import HOST, IDLING
from emulator.pcpu import PCpu

DEFAULT_PERIOD_US = 1000


@dataclass(frozen=True)
class CoreUse:
    """What a core has done since the last sample. `busy_cycles`: all but halting, and polling that found nothing."""

    busy_cycles: int
    cycles: int

    @property
    def utilisation(self) -> Fraction:
        """From 0 to 1, exactly."""
        return Fraction(self.busy_cycles, self.cycles) if self.cycles else Fraction(0)


@dataclass(frozen=True)
class Sample:
    """The machine over the last period."""

    now_ps: int
    cores: tuple[CoreUse, ...]  # by number
    candidate: int  # number of the core it is about
    is_sidecore: bool  # whether that serves sidecalls now
    waiting_vcpus: int  # that could run now, and have no core

    @property
    def others_are_busy_to(self) -> Fraction:
        """Utilisation of the least busy of the other cores."""
        return min(core.utilisation for number, core in enumerate(self.cores) if number != self.candidate)


class Policy(Protocol):
    """What decides, every `period_us`."""

    period_us: int

    def wants_sidecore(self, sample: Sample) -> bool:
        """Whether the core shall serve sidecalls until the next sample."""
        ...


class AlwaysOn:
    """A sidecore from the first sample on."""

    period_us = DEFAULT_PERIOD_US

    def wants_sidecore(self, sample: Sample) -> bool:
        """Yes."""
        return True


class Never:
    """No sidecore: guests have the core, and do all by VM exits."""

    period_us = DEFAULT_PERIOD_US

    def wants_sidecore(self, sample: Sample) -> bool:
        """No."""
        return False


class WhenIdle:
    """Take the core when it is busy for less than `threshold` of a period; give it back when guests lack it.

    They do when a vCPU waits for a core and every other core was busy for more than 1 - `threshold`.
    """

    def __init__(self, threshold: Fraction = Fraction(1, 5), period_us: int = DEFAULT_PERIOD_US) -> None:
        if not 0 < threshold <= 1:
            raise ConfigError(f"a threshold of {threshold} is not possible; give more than 0, and 1 at most")
        self.period_us = period_us
        self.threshold = threshold

    def wants_sidecore(self, sample: Sample) -> bool:
        """By the load."""
        if sample.is_sidecore:
            return not (sample.waiting_vcpus and sample.others_are_busy_to > 1 - self.threshold)
        return sample.cores[sample.candidate].utilisation < self.threshold


POLICIES: dict[str, Callable[[], Policy]] = {"always-on": AlwaysOn, "never": Never, "when-idle": WhenIdle}


def named_policy(name: str) -> Policy:
    """The policy of that name, or FILE.py:NAME's. Raises ConfigError."""
    path, separator, symbol = name.rpartition(":")
    if separator:
        make = _symbol_of(Path(path), symbol)
    elif name in POLICIES:
        make = POLICIES[name]
    else:
        raise ConfigError(f"no policy {name!r}; {choices_text(name, list(POLICIES))}, or FILE.py:NAME")
    try:
        policy = cast(Policy, make())
    except TypeError as error:
        raise ConfigError(f"policy {name!r} cannot be made without arguments: {error}") from None
    period_us = getattr(policy, "period_us", None)
    if not callable(getattr(policy, "wants_sidecore", None)) or not isinstance(period_us, int) or period_us < 1:
        raise ConfigError(f"{name!r} is no policy: it needs `period_us`, 1 or more, and `wants_sidecore`")
    return policy


def _symbol_of(path: Path, symbol: str) -> Callable[[], Any]:
    """What a user's file calls `symbol`."""
    specification = importlib.util.spec_from_file_location("sidecore_user_policy", path)
    if specification is None or specification.loader is None:
        raise ConfigError(f"{str(path)!r} is no Python file; name it FILE.py:NAME")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # a user's script may do anything
        raise ConfigError(f"{str(path)!r} cannot be run: {type(error).__name__}: {error}") from None
    make = getattr(module, symbol, None)
    if not callable(make):
        raise ConfigError(f"{str(path)!r} has no class or function {symbol!r}")
    return cast("Callable[[], Any]", make)


class UseMeter:
    """Takes what cores have done since it was last asked from their ledgers."""

    def __init__(self, pcpus: list[PCpu]) -> None:
        self._pcpus = pcpus
        self._before = [(0, 0)] * len(pcpus)

    def take(self) -> tuple[CoreUse, ...]:
        """Since the last time; each core up to its own clock."""
        now = [self._totals(pcpu) for pcpu in self._pcpus]
        pairs = zip(now, self._before, strict=True)
        uses = tuple(CoreUse(new[0] - old[0], new[1] - old[1]) for new, old in pairs)
        self._before = now
        return uses

    @staticmethod
    def _totals(pcpu: PCpu) -> tuple[int, int]:
        clock_cycles = pcpu.clock.cycles
        return clock_cycles - sum(pcpu.clock.ledger.account(HOST, IDLING)), clock_cycles
