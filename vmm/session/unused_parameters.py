"""What of a profile does not matter at the fidelity chosen: said in a line each, because nothing else shows it."""

from emulator.profiles.file import parse_override
from emulator.profiles.profile import Profile
from emulator.profiles.sections import PARAMETERS, Use
from emulator.timing.allowances import DEFAULT_WORKLOAD, allowance_for
from vmm.session.spec import HostSpec


def unused_parameters(host: HostSpec, profile: Profile) -> list[str]:
    """Lines for people."""
    if host.timing == "detailed":
        return []
    shares_lines = bool(host.sidecore_count or host.sidecore_policy or host.has_nic)
    lines = []
    for key in dict.fromkeys(parse_override(text)[0] for text in host.overrides):
        use = PARAMETERS[key].use
        if use is Use.CACHES:
            lines.append(f"{key} changes nothing at --timing {host.timing}: only detailed has caches and TLBs")
        elif use is Use.LINES and not shares_lines:
            lines.append(f"{key} changes nothing at --timing {host.timing} without sidecore and NIC; detailed has it")
    if host.timing == "fast" and allowance_for(profile.machine, DEFAULT_WORKLOAD, host.paging) is None:
        lines.append(
            f"profile {profile.name} has no allowance for memory: every access hits at --timing fast;"
            " `sidecore bench fit --write` makes one, --timing detailed needs none"
        )
    return lines
