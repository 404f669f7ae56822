"""From what the user asked for to a plan that is possible: what no single field of a spec shows is found here, at once.

specs --plan()--> BootPlan    the files read, the profile loaded, nothing written; run.py runs it
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from devices.board import PCI_DEVICES_MAX
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
from guest_images.images import find_entry, resolve
from vmm.boot.loaders import BootProtocol, load
from vmm.session.additions import NOTHING_ADDED, Additions
from vmm.session.boot_plan import BootPlan, GuestPlan, HostPlan
from vmm.session.combinations import check_effects
from vmm.session.nic import check_nic, with_macs
from vmm.session.observe.save_point import SavePoint
from vmm.session.output_file import check_output, check_writable
from vmm.session.spec import PROCESSORS_MAX, GuestSpec, HostSpec, Limits, Outside
from vmm.session.unused_parameters import unused_parameters
from vmm.sidecore.policy import named_policy

if TYPE_CHECKING:
    from vmm.session.observe.which_exit import Request
    from vmm.session.snapshot import Snapshot

DEFAULT_GUEST = "default"
CPUS_LEAST = 2  # of a test kernel that is made for several


@dataclass(frozen=True, kw_only=True)
class RestoredPlan(BootPlan):
    """A guest that goes on from a snapshot."""

    snapshot: "Snapshot"


def plan(
    host: HostSpec | None = None,
    guest: GuestSpec | None = None,
    limits: Limits | None = None,
    outside: Outside | None = None,
    *,
    additions: Additions = NOTHING_ADDED,
    progress: Callable[[str], None] = ignore_progress,
) -> BootPlan:
    """A run of one guest: check everything the user gave, read the files. Raises ConfigError; leaves nothing behind."""
    host, guest, limits, outside = host or HostSpec(), guest or GuestSpec(), limits or Limits(), outside or Outside()
    check_effects(host, guest, limits, outside)
    _check_save(outside)
    _check_until(limits)
    if outside.restore_path is not None:
        return _plan_restored(guest, limits, outside, outside.restore_path)
    _check_outputs(outside)
    request = _explain_request(outside)
    return BootPlan(plan_host(host, [guest], additions=additions, progress=progress), limits, outside, request)


def plan_host(
    host: HostSpec,
    guests: Sequence[GuestSpec],
    *,
    number: int = 0,
    additions: Additions = NOTHING_ADDED,
    progress: Callable[[str], None] = ignore_progress,
) -> HostPlan:
    """Host `number` of a world, with its guests. Raises ConfigError; leaves nothing behind."""
    _check_sidecore(host, additions)
    for guest in guests:
        _check_kernel(guest)
        _check_devices(guest, list(additions.pci_devices))
        if guest.workload is not None and guest.workload not in WORKLOADS:
            choices = choices_text(guest.workload, list(WORKLOADS))
            raise ConfigError(f"no workload class {guest.workload!r}; {choices}")
    if host.sidecore_policy is not None:
        named_policy(host.sidecore_policy)
    host = replace(host, pcpu_count=_check_processors(host, guests))
    core_count = guest_core_count(host, has_policy=bool(host.sidecore_policy or additions.sidecore_policy))
    _check_cores(host, guests, core_count)
    for guest in guests:
        _check_image(guest, host)
    check_nic(host, guests, core_count)
    guests = with_macs(guests, number)
    profile = load_profile(host.profile, host.overrides)
    if host.timing == "detailed":
        from emulator.timing.hierarchy import prepare_kernels

        prepare_kernels(lambda: progress("compiling the models of caches and TLBs, once (half a minute)"))
    for line in unused_parameters(host, profile):
        progress(line)
    plans = tuple(_plan_guest(guest, progress) for guest in guests)
    return HostPlan(host, plans, profile, _allowance(host, plans[0], profile), additions)


def _plan_guest(guest: GuestSpec, progress: Callable[[str], None]) -> GuestPlan:
    guest = _with_kernel(guest, progress)
    assert guest.kernel is not None
    image = load(
        guest.kernel,
        initrd=guest.initrd,
        modules=guest.modules,
        append=guest.append,
        memory_bytes=guest.memory_bytes,
        protocol=None if guest.protocol is None else BootProtocol(guest.protocol),
    )
    return GuestPlan(guest, image)


def _check_image(guest: GuestSpec, host: HostSpec) -> None:
    """A test kernel for several processors has them, and not all of them can share a core."""
    entry = find_entry(guest.image or "")
    if guest.kernel is not None or entry is None:
        return
    made = f"{entry.name} is made for {entry.cpus} processors"
    if guest.vcpu_count < min(entry.cpus, CPUS_LEAST):
        raise ConfigError(f"{made}; give it --vcpus {entry.cpus}")
    if entry.has_own_cores and (host.pcpu_count or 1) < guest.vcpu_count:
        raise ConfigError(f"{made} that each have a core; leave out --pcpus")


def _with_kernel(guest: GuestSpec, progress: Callable[[str], None]) -> GuestSpec:
    """With the files of a named image."""
    if guest.kernel is not None:
        return guest
    named = resolve(guest.image or DEFAULT_GUEST, progress)
    append = " ".join(filter(None, (named.append, guest.append)))
    return replace(guest, kernel=named.kernel, initrd=named.initrd, append=append)


def _check_save(outside: Outside) -> None:
    if outside.is_saved:
        check_writable(SavePoint(outside).path)


def _plan_restored(guest: GuestSpec, limits: Limits, outside: Outside, path: Path) -> RestoredPlan:
    """The snapshot says what the guest is."""
    from vmm.session.snapshot import plan_of, read_snapshot

    for name, value in (("a guest", guest.image), ("--kernel", guest.kernel)):
        if value is not None:
            raise ConfigError(f"--restore has its guest in the snapshot; leave out {name}")
    _check_outputs(outside)
    snapshot = read_snapshot(path)
    restored = plan_of(snapshot, limits, outside)
    check_effects(restored.host.spec, restored.guest.spec, limits, outside)
    return RestoredPlan(**vars(restored), snapshot=snapshot)


def _check_kernel(guest: GuestSpec) -> None:
    if guest.image is not None and guest.kernel is not None:
        raise ConfigError(f"both guest {guest.image!r} and --kernel were given; leave one out")
    for option, value in (("--initrd", guest.initrd), ("--module", guest.modules), ("--protocol", guest.protocol)):
        if value and guest.kernel is None:
            raise ConfigError(f"{option} needs --kernel; name the kernel it belongs to")


def _check_devices(guest: GuestSpec, known: Sequence[str]) -> None:
    for name in guest.devices:
        if name not in known:
            raise ConfigError(f"no device {name!r}; {choices_text(name, known)}")
    if len(guest.devices) > PCI_DEVICES_MAX:
        raise ConfigError(f"{len(guest.devices)} devices are too many for the PCI bus; it takes {PCI_DEVICES_MAX}")


def _check_sidecore(host: HostSpec, additions: Additions) -> None:
    if host.sidecore_count and host.paging == "native":
        raise ConfigError("--sidecore: --paging native has no VMM; choose shadow or ept")
    for option, value in (
        ("--sidecore-policy", host.sidecore_policy or additions.sidecore_policy),
        ("--switch-sidecore", host.sidecore_switches),
    ):
        if value and not host.sidecore_count:
            raise ConfigError(f"{option} needs --sidecore")


def _explain_request(outside: Outside) -> "Request | None":
    if outside.explain is None:
        return None
    from vmm.session.observe.which_exit import parse_request

    return parse_request(outside.explain)


def _allowance(host: HostSpec, first: GuestPlan, profile: Profile) -> Allowance:
    """What memory costs on average in a run like this, when `fast`; nothing where none was fitted.

    MODEL: all guests of a host have that of the first.
    """
    guest = first.spec
    if host.timing != "fast":
        return NO_ALLOWANCE
    workload = guest.workload or (guest.image if guest.image in WORKLOADS else None)
    workload = workload or (LINUX_WORKLOAD if first.image.is_linux else DEFAULT_WORKLOAD)
    return allowance_for(profile.machine, workload, host.paging) or NO_ALLOWANCE


def _check_until(limits: Limits) -> None:
    if limits.until == "":
        raise ConfigError("--until needs a text that is not empty")


def _check_processors(host: HostSpec, guests: Sequence[GuestSpec]) -> int:
    """How many cores the machine has, without sidecores."""
    vcpu_count = sum(guest.vcpu_count for guest in guests)
    pcpu_count = min(vcpu_count, PROCESSORS_MAX) if host.pcpu_count is None else host.pcpu_count
    if host.paging == "native":
        if len(guests) != 1:
            raise ConfigError(f"--paging native has no VMM: it takes one guest, not {len(guests)}")
        if vcpu_count != pcpu_count:
            raise ConfigError("a native guest has all cores of the machine: --vcpus and --pcpus have to be the same")
    if not guests:
        raise ConfigError("the host has no guest; add one")
    return pcpu_count


def guest_core_count(host: HostSpec, *, has_policy: bool) -> int:
    """Cores that guests can run on, from 0 on: a sidecore with a policy is one of them."""
    return (host.pcpu_count or 1) + (host.sidecore_count if has_policy else 0)


def _check_cores(host: HostSpec, guests: Sequence[GuestSpec], core_count: int) -> None:
    """Each guest has cores that are there."""
    for guest in guests:
        if guest.cores is None:
            continue
        text = ",".join(map(str, guest.cores))
        if host.paging == "native":
            raise ConfigError("--cores: a native guest has all cores of the machine; choose shadow or ept")
        if not guest.cores or not all(type(core) is int and 0 <= core < core_count for core in guest.cores):
            raise ConfigError(f"--cores {text}: the machine has cores 0 to {core_count - 1} for guests; see --pcpus")


def _check_outputs(outside: Outside) -> None:
    named = {"--stats": outside.stats_path, "--trace": outside.trace_path, "--pcap": outside.pcap_path}
    options: dict[Path, str] = {}
    for option, path in named.items():
        if path is None:
            continue
        check_output(path)
        other = options.setdefault(path.resolve(), option)
        if other != option:
            raise ConfigError(f"{other} and {option} both name {str(path)!r}; give each its own file")
