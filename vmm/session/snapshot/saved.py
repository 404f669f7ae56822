"""A snapshot: what hosts and their guests are made of, and what has become of them.

A clone is built like any host, of images that are empty, and then gets the contents.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from emulator.errors import ConfigError
from emulator.profiles.profile import Profile, load_profile
from emulator.timing.allowances import Allowance
from vmm.boot.loaders import BootImage, EntryMode
from vmm.session.additions import NOTHING_ADDED, Additions
from vmm.session.boot_plan import GuestPlan, HostPlan
from vmm.session.parameters import saved_values
from vmm.session.snapshot.contents import DAMAGED, Contents, damaged
from vmm.session.spec import GuestSpec, HostSpec

EMPTY_IMAGE = BootImage((), 0, {}, 0, 0, 0, "a snapshot")


@dataclass(frozen=True)
class Snapshot:
    """Hosts between two instructions. `document` says, as JSON has it, what they are made of and what was printed."""

    document: dict[str, Any]
    contents: Contents
    additions: tuple[Additions, ...] = ()  # to each host: code, which a file does not have

    @staticmethod
    def take(plans: Sequence[HostPlan], contents: Contents, **notes: Any) -> "Snapshot":
        """Of the hosts that are built from `plans`; `notes` are for whoever restores it, as JSON has it."""
        document = {"hosts": [_description(plan) for plan in plans], **notes}
        return Snapshot(document, contents, tuple(plan.additions for plan in plans))

    def plans(self) -> list[HostPlan]:
        """From which its hosts are built again. Raises ConfigError."""
        try:
            hosts = self.document["hosts"]
            additions = self.additions or (NOTHING_ADDED,) * len(hosts)
            return [_plan(host, added) for host, added in zip(hosts, additions, strict=True)]
        except DAMAGED as error:
            raise damaged(error) from None


def _description(plan: HostPlan) -> dict[str, Any]:
    """What a host is made of."""
    images = [guest.image for guest in plan.guests]
    return {
        "host": saved_values(plan.spec),
        "guests": [saved_values(guest.spec) for guest in plan.guests],
        "images": [{"mode": image.mode.name, "cr3_gpa": image.cr3_gpa} for image in images],
        "profile": profile_digest(plan.profile),
        "allowance": asdict(plan.allowance),
    }


def _plan(saved: dict[str, Any], additions: Additions) -> HostPlan:
    """The same again, with nothing to load."""
    spec = HostSpec.take(saved["host"])
    profile = load_profile(spec.profile, spec.overrides)
    if profile_digest(profile) != saved["profile"]:
        raise ConfigError(f"profile {profile.name} is not what it was when the snapshot was made")
    guests = tuple(
        GuestPlan(GuestSpec.take(guest), _empty_image(image))
        for guest, image in zip(saved["guests"], saved["images"], strict=True)
    )
    return HostPlan(spec, guests, profile, Allowance(**saved["allowance"]), additions)


def _empty_image(saved: dict[str, Any]) -> BootImage:
    return replace(EMPTY_IMAGE, mode=EntryMode[saved["mode"]], cr3_gpa=saved["cr3_gpa"])


def profile_digest(profile: Profile) -> str:
    """What two profiles have in common that time a machine alike."""
    return hashlib.sha256(repr(profile).encode()).hexdigest()
