"""Guests that begin later, or as copies of one that has booted: its memory, its processor, its board, at the same time.

    hold_back(guest)            it is there, and nothing of it runs
    begin(guest)                it boots, as it would have at power-on
    begin_as(guest, booted)     it goes on behind the HLT in which `booted` sleeps, as if an interrupt had come

Of its own a copy keeps what the VMM has for it, page tables above all, and its VIF: it may be on another host of the
same kind. A snapshot is the state of whole hosts, to the last cycle (snapshot/); a copy has cold caches and TLBs.
"""

from collections.abc import Sequence
from dataclasses import replace

from devices.nic.vif_function import VifFunction
from emulator.errors import ConfigError
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason
from emulator.x86 import PAGE_BYTES, RFLAGS_IF
from vmm.boot.loaders import BootImage, EntryMode
from vmm.session.boot_plan import GuestPlan
from vmm.session.transplant import Transplant
from vmm.session.virtual_guest import VirtualGuest
from vmm.vcpu import VCpu

GUEST_STATE = [row.encoding for row in f.FIELDS if row.name.startswith("GUEST_") and not row.is_read_only]
CHUNK_BYTES = 16 * PAGE_BYTES
NO_IMAGE = BootImage((), 0, {}, 0, 0, 0, "held back", EntryMode.PROTECTED)  # no paging: the VMM has no tables of it


def without_image(plan: GuestPlan, is_held_back: bool) -> GuestPlan:
    """What a guest is built from, which has nothing to boot if it is held back."""
    return replace(plan, image=NO_IMAGE) if is_held_back else plan


def hold_back(guest: VirtualGuest) -> None:
    """A guest that has not run is not going to, before `begin` or `begin_as`."""
    vcpu = guest.vcpu
    vcpu.is_blocked = vcpu.waits_for_start_up = True
    guest.hypervisor.scheduler.sleep(vcpu)


def begin(guest: VirtualGuest) -> None:
    """A guest that was held back, with its image, boots now. Raises ConfigError."""
    _check_held_back(guest, "begin")
    guest.vcpu.waits_for_start_up = False
    guest.hypervisor.kick(guest.vcpu)


def begin_as(guest: VirtualGuest, booted: VirtualGuest) -> None:
    """A guest that was held back becomes as `booted` is, which sleeps. Raises ConfigError."""
    _check(guest, booted)
    for gpa in range(0, booted.domain.memory.size_bytes, CHUNK_BYTES):
        data = booted.domain.read(gpa, CHUNK_BYTES)
        if any(data):
            guest.domain.write(gpa, data)
    _copy_cpu(guest.vcpu, booted.vcpu)
    one, other = booted.domain, guest.domain
    Transplant([(one.board, other.board), (one.timers, other.timers), (booted.vcpu.timers, guest.vcpu.timers)])
    guest.vcpu.waits_for_start_up = False
    guest.hypervisor.kick(guest.vcpu)


def _check(guest: VirtualGuest, booted: VirtualGuest) -> None:
    vcpu = booted.vcpu
    is_asleep = vcpu.is_blocked and vcpu.exit is not None and vcpu.exit.reason == ExitReason.HLT
    if booted.end is not None or not is_asleep or not vcpu.vmcs.read(f.GUEST_RFLAGS) & RFLAGS_IF:
        raise ConfigError("a guest can be copied while it is halted and waits for an interrupt; let it run on")
    if any(isinstance(device, VifFunction) and device.vif and device.vif.is_attached for device in _devices(booted)):
        raise ConfigError("a guest whose VIF works has no copies; copy it before its driver attaches a page")
    _check_held_back(guest, "become a copy")
    memories = [each.domain.memory.size_bytes for each in (guest, booted)]
    if memories[0] != memories[1] or max(len(each.vcpu.siblings) for each in (guest, booted)) > 1:
        raise ConfigError("a copy and its original have the same memory, and one processor each")


def _check_held_back(guest: VirtualGuest, what: str) -> None:
    if not guest.vcpu.waits_for_start_up or guest.vcpu.has_run:
        raise ConfigError(f"only a guest that is held back can {what}")


def _devices(guest: VirtualGuest) -> Sequence[object]:
    return guest.board.pci_devices


def _copy_cpu(to: VCpu, of: VCpu) -> None:
    """Registers as the guest sees them; controls and the host's state are the VMM's own."""
    own, watched = list(to.vmcs.storage), list(to.shared.watched_hpas)
    to.engine.restore(of.engine.save())
    for number, hpa in enumerate(watched):
        to.shared.watched_hpas[number] = hpa
    for row in f.FIELDS:
        if row.encoding not in GUEST_STATE:
            to.vmcs.storage[f.SLOT[row.encoding]] = own[f.SLOT[row.encoding]]
    read = of.vmcs.read
    for register, mask, shadow in (
        (f.GUEST_CR0, f.CR0_GUEST_HOST_MASK, f.CR0_READ_SHADOW),
        (f.GUEST_CR4, f.CR4_GUEST_HOST_MASK, f.CR4_READ_SHADOW),
    ):
        to.vmcs.write(register, read(register) & ~read(mask) | read(shadow) & read(mask))
    for field, value in (
        (f.GUEST_CR3, of.paging.guest_cr3(of)),
        (f.GUEST_IA32_EFER, of.paging.guest_efer(of)),
        (f.GUEST_ACTIVITY_STATE, 0),
        (f.GUEST_INTERRUPTIBILITY_STATE, 0),
    ):
        to.vmcs.write(field, value)
    to.msrs.update(of.msrs)
    to.interrupt_request, to.nmi_request = of.interrupt_request, of.nmi_request
    to.paging.start(to)
