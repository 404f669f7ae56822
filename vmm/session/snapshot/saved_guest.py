"""One guest on its host: snapshots of it, and guests that begin with one. What `--save` and `--restore` use."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emulator.errors import ConfigError
from vmm.exits.observer import ExitObserver
from vmm.session.boot_plan import BootPlan
from vmm.session.build import build_guest
from vmm.session.guest import Guest
from vmm.session.snapshot.contents import DAMAGED, Contents, damaged
from vmm.session.snapshot.objects import Skeleton
from vmm.session.snapshot.saved import Snapshot
from vmm.session.spec import Limits, Outside


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

    @staticmethod
    def clone(
        snapshot: Snapshot,
        transmit: Callable[[int], None],
        *,
        observers: Sequence[ExitObserver] = (),
        limits: Limits | None = None,
        outside: Outside | None = None,
    ) -> "SaveableGuest":
        """A guest that goes on from `snapshot`. `limits`, `outside`: how it is run. Raises ConfigError."""
        saveable = SaveableGuest.build(plan_of(snapshot, limits, outside), transmit, observers=observers)
        snapshot.contents.put(saveable.skeleton)
        return saveable

    def snapshot(self, *, console_tail: bytes = b"") -> Snapshot:
        """The state now; not while the guest runs. Raises ConfigError when it has something that has no form."""
        if self.guest.end is not None:
            raise ConfigError(f"there is nothing to save: the guest has ended ({self.guest.end})")
        tail = base64.b64encode(console_tail).decode()
        return Snapshot.take([self.plan.host], Contents.take(self.skeleton), console_tail=tail)


def plan_of(snapshot: Snapshot, limits: Limits | None = None, outside: Outside | None = None) -> BootPlan:
    """What the one guest is made of, and how it is run. Raises ConfigError."""
    plans = snapshot.plans()
    if len(plans) != 1 or len(plans[0].guests) != 1:
        raise ConfigError("the snapshot is of a world with several guests; restore it from Python")
    return BootPlan(plans[0], limits or Limits(), outside or Outside())


def console_tail(snapshot: Snapshot) -> bytes:
    """What the guest sent last. Raises ConfigError when the snapshot is damaged."""
    try:
        return base64.b64decode(snapshot.document["console_tail"], validate=True)
    except DAMAGED as error:
        raise damaged(error) from None
