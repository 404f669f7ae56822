"""Taking a snapshot, and guests that begin with one.

A clone is built like any guest, of an image that is empty, then filled: memory is the snapshot's file of pages, mapped
copy-on-write; CPUs and the model of caches from their bytes; objects by `objects.Applied`.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from emulator.errors import ConfigError
from emulator.profiles.profile import Profile, load_profile
from emulator.timing.allowances import Allowance
from vmm.boot.loaders import BootImage, EntryMode
from vmm.exits.observer import ExitObserver
from vmm.session.additions import NOTHING_ADDED, Additions
from vmm.session.boot_plan import BootPlan, GuestPlan, HostPlan
from vmm.session.build import build_guest
from vmm.session.guest import Guest
from vmm.session.parameters import saved_values
from vmm.session.snapshot.contents import DAMAGED, Contents, damaged
from vmm.session.snapshot.objects import Skeleton
from vmm.session.spec import GuestSpec, HostSpec, Limits, Outside

EMPTY_IMAGE = BootImage((), 0, {}, 0, 0, 0, "a snapshot")


@dataclass(frozen=True)
class Snapshot:
    """A guest and its machine between two instructions. `document` says, as JSON has it, what they are made of."""

    document: dict[str, Any]
    contents: Contents
    additions: Additions = NOTHING_ADDED  # code, which a file does not have

    def clone(
        self,
        transmit: Callable[[int], None],
        *,
        observers: Sequence[ExitObserver] = (),
        limits: Limits | None = None,
        outside: Outside | None = None,
    ) -> "SaveableGuest":
        """A guest that goes on from here. `limits`, `outside`: how it is run. Raises ConfigError."""
        try:
            plan = self.plan(limits or Limits(), outside or Outside())
        except DAMAGED as error:
            raise damaged(error) from None
        saveable = SaveableGuest.build(plan, transmit, observers=observers)
        self.contents.put(saveable.skeleton)
        return saveable

    @property
    def console_tail(self) -> bytes:
        """What the guest sent last. Raises ConfigError when the snapshot is damaged."""
        try:
            return base64.b64decode(self.document["console_tail"], validate=True)
        except DAMAGED as error:
            raise damaged(error) from None

    def plan(self, limits: Limits, outside: Outside) -> BootPlan:
        """What the guest is made of, from the snapshot, and how it is run. Raises ConfigError."""
        guest = GuestSpec.take(self.document["guest"])
        saved: dict[str, Any] = self.document["image"]
        image = replace(EMPTY_IMAGE, mode=EntryMode[saved["mode"]], cr3_gpa=saved["cr3_gpa"])
        allowance = Allowance(**self.document["allowance"])
        host = HostPlan(self._host, (GuestPlan(guest, image),), self._profile, allowance, self.additions)
        return BootPlan(host, limits, outside)

    @cached_property
    def _host(self) -> HostSpec:
        return HostSpec.take(self.document["host"])

    @cached_property
    def _profile(self) -> Profile:
        profile = load_profile(self._host.profile, self._host.overrides)
        if profile_digest(profile) != self.document["profile"]:
            raise ConfigError(f"profile {profile.name} is not what it was when the snapshot was made")
        return profile


@dataclass(frozen=True)
class SaveableGuest:
    """A guest of which snapshots can be taken."""

    plan: BootPlan
    guest: Guest
    skeleton: Skeleton

    @staticmethod
    def build(
        plan: BootPlan, transmit: Callable[[int], None], *, observers: Sequence[ExitObserver] = ()
    ) -> "SaveableGuest":
        """The plan's guest. Raises ConfigError."""
        guest = build_guest(plan, transmit, observers=observers)
        return SaveableGuest(plan, guest, Skeleton(guest))

    def snapshot(self, *, console_tail: bytes = b"") -> Snapshot:
        """The state now; not while the guest runs. Raises ConfigError when it has something that has no form."""
        guest = self.guest
        if guest.end is not None:
            raise ConfigError(f"there is nothing to save: the guest has ended ({guest.end})")
        image = self.plan.guest.image
        document = {
            "host": saved_values(self.plan.host.spec),
            "guest": saved_values(self.plan.guest.spec),
            "image": {"mode": image.mode.name, "cr3_gpa": image.cr3_gpa},
            "profile": profile_digest(self.plan.host.profile),
            "allowance": asdict(self.plan.host.allowance),
            "console_tail": base64.b64encode(console_tail).decode(),
        }
        return Snapshot(document, Contents.take(self.skeleton), self.plan.host.additions)


def profile_digest(profile: Profile) -> str:
    """What two profiles have in common that time a machine alike."""
    return hashlib.sha256(repr(profile).encode()).hexdigest()
