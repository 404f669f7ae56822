"""A guest of an image that no file has."""

from emulator.machine import Machine
from emulator.profiles.profile import load_profile
from emulator.timing.allowances import NO_ALLOWANCE
from vmm.boot.loaders import BootImage
from vmm.session.boot_plan import GuestPlan, HostPlan
from vmm.session.build import build_host
from vmm.session.guest import Guest
from vmm.session.spec import GuestSpec, HostSpec
from vmm.session.virtual_guest import VirtualGuest


def bare_guest(image: BootImage, paging: str, *, memory_bytes: int, cpus: int = 1) -> Guest:
    """A guest about to run `image`, whose output nobody reads."""
    guest = GuestPlan(GuestSpec(memory_bytes=memory_bytes, vcpu_count=cpus), image)
    host = HostSpec.take({"paging": paging, "pcpu_count": cpus})
    return build_host(HostPlan(host, (guest,), load_profile(host.profile), NO_ALLOWANCE), [lambda _byte: None])[0]


def bare_virtual_guest(
    image: BootImage, paging: str, *, memory_bytes: int, cpus: int = 1
) -> tuple[Machine, VirtualGuest]:
    """The same under the VMM, and its machine."""
    guest = bare_guest(image, paging, memory_bytes=memory_bytes, cpus=cpus)
    assert isinstance(guest, VirtualGuest)
    return guest.machine, guest
