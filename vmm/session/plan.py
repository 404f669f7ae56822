"""From what the user asked for to a plan that is possible: every mistake of the user's is found here, at once.

BootOptions --plan()--> BootPlan    the files read, the profile loaded, nothing written; boot.py runs it
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from devices.board import PCI_DEVICES, PCI_DEVICES_MAX
from emulator.errors import ConfigError, choices_text
from emulator.profiles.profile import Profile, load_profile
from emulator.timing.allowances import (
    DEFAULT_WORKLOAD,
    LINUX_WORKLOAD,
    NO_ALLOWANCE,
    WORKLOADS,
    Allowance,
    allowance_for,
)
from guest_images.cache import ignore_progress
from guest_images.images import resolve
from vmm.boot.loaders import BootImage, load
from vmm.session.observe.save_point import SavePoint
from vmm.session.options import BootOptions, BootPlan, parse_switches
from vmm.session.output_file import check_writable
from vmm.sidecore.policy import named_policy
from vmm.sidecore.service import POLLS

if TYPE_CHECKING:
    from vmm.session.observe.which_exit import Request
    from vmm.session.snapshot import Snapshot

DEFAULT_GUEST = "default"
PROCESSORS_MAX = 64


@dataclass(frozen=True, kw_only=True)
class RestoredPlan(BootPlan):
    """A guest that goes on from a snapshot."""

    snapshot: "Snapshot"


def plan(options: BootOptions, progress: Callable[[str], None] = ignore_progress) -> BootPlan:
    """Check everything the user gave and read the files. Raises ConfigError; leaves nothing behind."""
    _check_save(options)
    if options.restore_path is not None:
        return _plan_restored(options, options.restore_path)
    if options.image is not None and options.kernel is not None:
        raise ConfigError(f"both guest {options.image!r} and --kernel were given; leave one out")
    for option, value in (
        ("--initrd", options.initrd),
        ("--module", options.modules),
        ("--protocol", options.protocol),
    ):
        if value and options.kernel is None:
            raise ConfigError(f"{option} needs --kernel; name the kernel it belongs to")
    _check_limits(options)
    _check_sidecore(options)
    _check_devices(options)
    policy = None if options.sidecore_policy is None else named_policy(options.sidecore_policy)
    switches = parse_switches(options.switch_sidecore)
    options = replace(options, pcpu_count=_check_processors(options))
    if options.workload is not None and options.workload not in WORKLOADS:
        raise ConfigError(f"no workload class {options.workload!r}; {choices_text(options.workload, list(WORKLOADS))}")
    profile = load_profile(options.profile, options.overrides)
    _check_outputs(options)
    if options.timing == "detailed":
        from emulator.timing.hierarchy import prepare_kernels

        prepare_kernels(lambda: progress("compiling the models of caches and TLBs, once (half a minute)"))
    request = _explain_request(options)
    if options.kernel is None:
        named = resolve(options.image or DEFAULT_GUEST, progress)
        append = " ".join(filter(None, (named.append, options.append)))
        options = replace(options, kernel=named.kernel, initrd=named.initrd, append=append)
    assert options.kernel is not None
    image = load(
        options.kernel,
        initrd=options.initrd,
        modules=options.modules,
        append=options.append,
        memory_bytes=options.memory_bytes,
        protocol=options.protocol,
    )
    return BootPlan(options, image, profile, _allowance(options, image, profile), request, policy, switches)


def _check_save(options: BootOptions) -> None:
    if options.save is not None:
        save_point = SavePoint(options.save)
        check_writable(save_point.path)
        if options.save.exit is not None and options.paging == "native":
            raise ConfigError("--save-at-exit: --paging native has no VM exits; choose shadow or ept")
    if options.explain is not None and (options.save is not None or options.restore_path is not None):
        raise ConfigError("--explain goes with neither --save nor --restore; leave one out")


def _plan_restored(options: BootOptions, path: Path) -> RestoredPlan:
    """The snapshot says what the guest is."""
    from vmm.session.snapshot import read_snapshot

    for name, value in (("a guest", options.image), ("--kernel", options.kernel)):
        if value is not None:
            raise ConfigError(f"--restore has its guest in the snapshot; leave out {name}")
    _check_limits(options)
    _check_outputs(options)
    snapshot = read_snapshot(path)
    plan = snapshot.plan(options)
    return RestoredPlan(**vars(plan), snapshot=snapshot)


def _check_devices(options: BootOptions) -> None:
    for name in options.devices:
        if name not in PCI_DEVICES:
            raise ConfigError(f"no device {name!r}; {choices_text(name, list(PCI_DEVICES))}")
    if len(options.devices) > PCI_DEVICES_MAX:
        raise ConfigError(f"{len(options.devices)} devices are too many for the PCI bus; it takes {PCI_DEVICES_MAX}")


def _check_sidecore(options: BootOptions) -> None:
    if options.poll not in POLLS:
        raise ConfigError(f"no way to poll {options.poll!r}; {choices_text(options.poll, list(POLLS))}")
    if options.has_sidecore and options.paging == "native":
        raise ConfigError("--sidecore: --paging native has no VMM; choose shadow or ept")
    for option, value in (
        ("--sidecore-policy", options.sidecore_policy),
        ("--switch-sidecore", options.switch_sidecore),
    ):
        if value and not options.has_sidecore:
            raise ConfigError(f"{option} needs --sidecore")


def _explain_request(options: BootOptions) -> "Request | None":
    if options.explain is None:
        return None
    from vmm.session.observe.which_exit import parse_request

    request = parse_request(options.explain)
    if options.paging == "native":
        raise ConfigError(f"--explain {options.explain}: --paging native has no VM exits; choose shadow or ept")
    return request


def _allowance(options: BootOptions, image: BootImage, profile: Profile) -> Allowance:
    """What memory costs on average in a run like this, when `fast`; nothing where none was fitted."""
    if options.timing != "fast":
        return NO_ALLOWANCE
    workload = options.workload or (options.image if options.image in WORKLOADS else None)
    workload = workload or (LINUX_WORKLOAD if image.is_linux else DEFAULT_WORKLOAD)
    return allowance_for(profile.name, workload, options.paging) or NO_ALLOWANCE


def _check_limits(options: BootOptions) -> None:
    for name, value in (("--max-seconds", options.max_seconds), ("--max-cycles", options.max_cycles)):
        if value is not None and not value > 0:
            raise ConfigError(f"{name} {value:g} is not possible; give a number above 0")
    if options.until == "":
        raise ConfigError("--until needs a text that is not empty")


def _check_processors(options: BootOptions) -> int:
    """How many cores the machine has."""
    pcpu_count = options.vcpu_count if options.pcpu_count is None else options.pcpu_count
    for name, value in (("--vcpus", options.vcpu_count), ("--pcpus", pcpu_count)):
        if not 1 <= value <= PROCESSORS_MAX:
            raise ConfigError(f"{name} {value} is not possible; give a number from 1 to {PROCESSORS_MAX}")
    if options.paging == "native" and options.vcpu_count != pcpu_count:
        raise ConfigError("a native guest has all cores of the machine: --vcpus and --pcpus have to be the same")
    return pcpu_count


def _check_outputs(options: BootOptions) -> None:
    paths = [path for path in (options.stats_path, options.trace_path) if path is not None]
    for path in paths:
        check_writable(path)
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(f"--stats and --trace both name {str(paths[0])!r}; give each its own file")
