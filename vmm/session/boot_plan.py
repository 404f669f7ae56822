"""What of a user's wishes is possible: what everything in a session is made from.

specs --plan.py: every mistake is found--> BootPlan --build.py--> Guest --run.py--> RunResult
"""

from dataclasses import dataclass

from emulator.profiles.profile import Profile
from emulator.timing.allowances import Allowance
from vmm.boot.loaders import BootImage
from vmm.session.observe.which_exit import Request
from vmm.session.spec import GuestSpec, HostSpec, Limits, Outside
from vmm.sidecore.policy import Policy


@dataclass(frozen=True)
class BootPlan:
    """Specs that are possible, with the files and the profile they name."""

    host: HostSpec
    guest: GuestSpec
    limits: Limits
    outside: Outside
    image: BootImage
    profile: Profile
    allowance: Allowance
    explain: Request | None = None
    policy: Policy | None = None
