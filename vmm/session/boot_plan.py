"""What of a user's wishes is possible: what everything in a session is made from.

specs --plan.py: every mistake is found--> BootPlan --build.py--> Guest --run.py--> RunResult
"""

from dataclasses import dataclass

from emulator.profiles.profile import Profile
from emulator.timing.allowances import Allowance
from vmm.boot.loaders import BootImage
from vmm.session.additions import NOTHING_ADDED, Additions
from vmm.session.observe.which_exit import Request
from vmm.session.spec import GuestSpec, HostSpec, Limits, Outside


@dataclass(frozen=True)
class GuestPlan:
    """A guest that is possible, with the files it names."""

    spec: GuestSpec
    image: BootImage


@dataclass(frozen=True)
class HostPlan:
    """A host that is possible, with the profile it names, and its guests: all that `build.py` needs."""

    spec: HostSpec
    guests: tuple[GuestPlan, ...]
    profile: Profile
    allowance: Allowance
    additions: Additions = NOTHING_ADDED


@dataclass(frozen=True)
class BootPlan:
    """A run of a host with one guest."""

    host: HostPlan
    limits: Limits
    outside: Outside
    explain: Request | None = None

    @property
    def guest(self) -> GuestPlan:
        """The one guest."""
        (guest,) = self.host.guests
        return guest
