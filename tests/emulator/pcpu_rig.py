"""An engine for a core under test: flat 32-bit code, without paging and devices; interrupts without local APICs."""

from functools import partial

from emulator.engine import Engine
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.profiles.profile import load_profile
from emulator.vmx import fields as f
from tests.emulator.engine.rig import assemble

PROFILE = load_profile("netburst-2006")


def make_engine(machine: Machine, code: str = "1: jmp 1b") -> Engine:
    """An engine that runs flat 32-bit code at 0x1000."""
    engine = Engine(machine.memory, machine.pcpus[0].platform)
    machine.memory.write(0x1000, assemble(code, 32, 0x1000))
    for field, value in {
        f.GUEST_CR0: 0x31, f.GUEST_CS_SELECTOR: 8, f.GUEST_CS_LIMIT: 0xFFFFFFFF, f.GUEST_CS_ACCESS_RIGHTS: 0xC09B,
        f.GUEST_SS_SELECTOR: 16, f.GUEST_SS_LIMIT: 0xFFFFFFFF, f.GUEST_SS_ACCESS_RIGHTS: 0xC093, f.GUEST_RIP: 0x1000,
        f.GUEST_DS_LIMIT: 0xFFFFFFFF, f.GUEST_DS_ACCESS_RIGHTS: 0xC093, f.GUEST_RSP: 0x8000,
    }.items():  # fmt: skip
        engine.vmcs[f.SLOT[field]] = value
    return engine


def send_interrupt(sender: PCpu, receiver: PCpu) -> None:
    """What an interprocessor interrupt does: it takes the sender's store, and its way."""
    timeline = sender.timeline
    sender.clock.charge(Category.EVENTS, PROFILE.events.ipi_send_cycles)
    sender.clock.commit()
    arrival_ps = timeline.cycles_to_ps(sender.clock.cycles + PROFILE.events.ipi_receive_cycles)
    timeline.events.schedule(arrival_ps, partial(receiver.interrupts.set_interrupt, True))
    sender.clock.bound_by_events()
