"""What a user asks for, and what of it is possible: the two values that everything in a session is made from.

BootOptions --plan.py: every mistake is found--> BootPlan --build.py--> Guest --run.py--> RunResult
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emulator.errors import ConfigError
from emulator.profiles.profile import DEFAULT_PROFILE, Profile
from emulator.timing.allowances import Allowance
from emulator.timing.core_timing import DEFAULT_FIDELITY, Fidelity
from vmm.boot.loaders import BootImage, BootProtocol
from vmm.session.observe.save_point import SaveOptions
from vmm.session.observe.which_exit import Request
from vmm.sidecore.policy import Policy
from vmm.sidecore.service import Poll

Paging = Literal["shadow", "ept", "native"]
PAGING_MODES: tuple[Paging, ...] = ("shadow", "ept", "native")
DEFAULT_MEMORY_BYTES = 256 << 20
SLICE_CYCLES = 50_000_000  # natively about 0.3 s of a workstation, at most: how late a key or a limit is seen


@dataclass(frozen=True)
class BootOptions:
    """What the user asked for; nothing is checked yet. Either `image` or `kernel` names the guest."""

    image: str | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    modules: tuple[str, ...] = ()  # each a file and its arguments
    protocol: BootProtocol | None = None  # for kernels that know several
    append: str = ""  # behind a named image's own command line
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    paging: Paging = "shadow"
    has_sidecore: bool = False  # on a core of its own
    poll: Poll = "spin"  # how the sidecore waits
    sidecore_policy: str | None = None  # its core runs guests too, by this policy: see vmm/sidecore/policy.py
    switch_sidecore: tuple[str, ...] = ()  # CYCLE:on or CYCLE:off
    jumps_spins: bool = True
    vcpu_count: int = 1
    pcpu_count: int | None = None  # None: one for each vCPU
    devices: tuple[str, ...] = ()  # on the PCI bus, beside what the board has: names from devices.board.PCI_DEVICES
    profile: str = DEFAULT_PROFILE
    overrides: tuple[str, ...] = ()  # of the profile's values: section.key=value
    timing: Fidelity = DEFAULT_FIDELITY
    workload: str | None = None  # whose allowance `fast` takes; None: by the kind of kernel
    until: str | None = None  # end when the guest has printed this
    max_seconds: float | None = None  # of the workstation
    max_cycles: int | None = None  # of the emulated core
    stats_path: Path | None = None
    trace_path: Path | None = None
    explain: str | None = None  # REASON or REASON:n, the VM exit of which the account is wanted
    save: SaveOptions | None = None
    restore_path: Path | None = None  # go on from this snapshot, which says what the guest is
    allow_input: bool = True
    slice_cycles: int = SLICE_CYCLES


@dataclass(frozen=True)
class BootPlan:
    """Options that are possible, with the files and the profile they name."""

    options: BootOptions
    image: BootImage
    profile: Profile
    allowance: Allowance
    explain: Request | None = None
    policy: Policy | None = None
    switches: tuple[tuple[int, bool], ...] = ()


def parse_switches(texts: Sequence[str]) -> tuple[tuple[int, bool], ...]:
    """Each (clock in cycles, whether sidecalls are on from then on). Raises ConfigError."""
    return tuple(map(_switch, texts))


def _switch(text: str) -> tuple[int, bool]:
    """What CYCLE:on says. Raises ConfigError."""
    cycles, _, state = text.partition(":")
    if not cycles.isdecimal() or not cycles.isascii() or state not in ("on", "off"):
        raise ConfigError(f"--switch-sidecore {text!r}: give CYCLE:on or CYCLE:off, as in 1000000:off")
    return int(cycles), state == "on"
