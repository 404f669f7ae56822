"""Which core and package a pCPU is.

pCPUs are numbered as the ACPI specification asks firmware to list processors: first one thread of every core, package
by package, then the second threads. So two pCPUs are two cores wherever there are two.

    2 packages x 2 cores x 2 threads    package      0     1
                                        core       0   1  2   3
                                        thread 0   0   1  2   3
                                        thread 1   4   5  6   7
"""

from typing import NamedTuple

from emulator.errors import ConfigError
from emulator.profiles.profile import Profile


class Place(NamedTuple):
    """Where a pCPU is; `core` counts through the whole machine."""

    package: int
    core: int
    thread: int


def places_of(profile: Profile, pcpu_count: int) -> list[Place]:
    """The places of the first `pcpu_count` pCPUs. Raises ConfigError when the machine has fewer."""
    core_count = profile.core.package_count * profile.core.core_count
    if pcpu_count > core_count * profile.core.thread_count:
        most = core_count * profile.core.thread_count
        raise ConfigError(f"{pcpu_count} pCPUs are more than the {most} of profile {profile.name}")
    return [
        Place(number % core_count // profile.core.core_count, number % core_count, number // core_count)
        for number in range(pcpu_count)
    ]
