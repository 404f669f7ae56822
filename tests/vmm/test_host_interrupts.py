"""Claims about interrupts of the host under the VMM: each reaches its handler; what nobody handles does no harm."""

from collections.abc import Callable
from functools import partial

import pytest

from devices.board import PIRQ_PIN
from devices.interrupts.interrupt_bus import InterruptMessage
from devices.interrupts.ioapic import REMOTE_IRR
from devices.pc import Pc
from devices.pci.bus import pirq_of
from devices.pci.edu import ACKNOWLEDGE, RAISE, Edu
from emulator.errors import ConfigError
from emulator.ledger import HOST, IDLING, Category
from emulator.machine import Machine
from emulator.profiles.profile import load_profile
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.exit_reasons import ExitReason as R
from tests.guest.hostile_guest import MEMORY_BYTES, make_image
from tests.vmm.exits.running_guest import Diary
from vmm.core import INTERRUPTS, Core
from vmm.host_apic import SPURIOUS, TIMER
from vmm.hypervisor import Hypervisor, host_memory_bytes
from vmm.outcome import End, EndKind

PROFILE = load_profile("netburst-2006")
SPIN, SLEEP = "1: jmp 1b", "sti\n 1: hlt\n jmp 1b"
PIN, VECTOR = PIRQ_PIN + pirq_of(2, 1), 0x41  # the first PCI card's slot, and INTA#
CYCLES_PER_MS = PROFILE.frequency_hz // 1000
RAISED_CYCLES = CYCLES_PER_MS // 2


class Host:
    """A PC with a card, a domain that runs `program`, and a handler that notes interrupts and quiets the card."""

    def __init__(self, program: str = SPIN, *, cores: int = 1, sidecores: int = 0) -> None:
        machine = Machine(PROFILE, memory_bytes=host_memory_bytes([MEMORY_BYTES]), pcpu_count=cores)
        self.pc = Pc(machine, devices=[Edu])
        self.pages: list[tuple[object, ...]] = []
        self.hypervisor = Hypervisor(self.pc, paging="ept", sidecore_count=sidecores, observers=[Diary(self.pages)])
        self.domain = self.hypervisor.create_domain(
            make_image(program), memory_bytes=MEMORY_BYTES, transmit=lambda _byte: None
        )
        self.cores = self.hypervisor.cores
        self.handled: list[tuple[int, int]] = []  # core, its clock
        card = self.pc.board.pci_devices[0]
        assert isinstance(card, Edu)
        self.card = card

    def handle(self, core: Core) -> None:
        """The handler of the card's interrupt."""
        self.handled.append((core.pcpu.number, core.pcpu.clock.cycles))
        self.card.write(ACKNOWLEDGE, 4, 1)

    def at(self, when_cycles: int, action: Callable[[], None]) -> None:
        timeline = self.pc.machine.timeline
        timeline.events.schedule(timeline.cycles_to_ps(when_cycles), action)

    def raise_card(self) -> None:
        self.card.write(RAISE, 4, 1)

    @property
    def exits(self) -> int:
        """For interrupts of the host."""
        return sum(page[1:3] == ("began", R.EXTERNAL_INTERRUPT) for page in self.pages)

    def run(self, cycles: int = CYCLES_PER_MS) -> None:
        self.hypervisor.advance(cycles)


def test_a_cards_interrupt_makes_the_guest_exit_and_reaches_its_handler() -> None:
    host = Host()
    host.hypervisor.interrupts.route(PIN, VECTOR, host.handle)
    host.at(RAISED_CYCLES, host.raise_card)
    host.run()
    assert [core for core, _ in host.handled] == [0]
    assert 0 <= host.handled[0][1] - RAISED_CYCLES < 5000
    assert host.exits == 1
    chip = host.pc.board.apics[0]
    assert (chip.vectors.isr, chip.vectors.irr) == (0, 0)
    assert not host.pc.board.ioapic.entries[PIN] & REMOTE_IRR


def test_a_card_that_asks_again_interrupts_again() -> None:
    host = Host()
    host.hypervisor.interrupts.route(PIN, VECTOR, host.handle)
    for number in (1, 2, 3):
        host.at(number * CYCLES_PER_MS, host.raise_card)
    host.run(4 * CYCLES_PER_MS)
    assert len(host.handled) == 3


def test_an_idle_core_takes_it_in_root_operation_and_books_it() -> None:
    host = Host(SLEEP)
    host.hypervisor.interrupts.route(PIN, VECTOR, host.handle)
    host.at(RAISED_CYCLES, host.raise_card)
    host.run(RAISED_CYCLES)
    ledger = host.pc.machine.pcpus[0].clock.ledger
    before = ledger.account(HOST, INTERRUPTS)[Category.EVENTS]
    host.run()
    wake_cycles = PROFILE.events.mwait_wake_ns * PROFILE.frequency_hz // 10**9
    assert host.handled == [(0, RAISED_CYCLES + wake_cycles)]
    assert host.exits == 0
    assert ledger.account(HOST, INTERRUPTS)[Category.EVENTS] - before == PROFILE.events.apic_access_cycles
    assert ledger.account(HOST, IDLING)[Category.IDLE] > 0


def test_it_is_on_its_way_to_a_core_as_long_as_an_interrupt_between_cores() -> None:
    host = Host(cores=2)
    host.hypervisor.interrupts.route(PIN, VECTOR, host.handle, core=1)
    host.at(RAISED_CYCLES, host.raise_card)
    host.run()
    wake_cycles = PROFILE.events.mwait_wake_ns * PROFILE.frequency_hz // 10**9
    assert host.handled == [(1, RAISED_CYCLES + PROFILE.events.ipi_receive_cycles + wake_cycles)]


@pytest.mark.parametrize("program", [SPIN, SLEEP])
def test_a_vector_without_a_handler_is_counted_and_ended(program: str) -> None:
    host = Host(program)
    chip = host.pc.board.apics[0]
    host.at(RAISED_CYCLES, partial(chip.accept, InterruptMessage(0x77)))
    host.at(RAISED_CYCLES + 20_000, partial(chip.accept, InterruptMessage(0x77)))
    host.run()
    assert host.cores[0].spurious_count == 2
    assert (chip.vectors.isr, chip.vectors.irr) == (0, 0)
    assert host.domain.end is None


def test_a_spurious_interrupt_is_counted_and_not_ended() -> None:
    host = Host()
    host.run(1)
    chip, core = host.pc.board.apics[0], host.cores[0]
    chip.accept(InterruptMessage(TIMER))
    assert chip.acknowledge() == TIMER
    before = core.pcpu.clock.cycles
    core.take_interrupt(SPURIOUS)
    core.meter.commit()
    assert (core.spurious_count, core.pcpu.clock.cycles) == (1, before)
    assert chip.vectors.isr == 1 << TIMER  # an end would have been another interrupt's


@pytest.mark.parametrize("program", [SPIN, SLEEP])
def test_a_card_that_never_is_quiet_slows_the_host_and_does_not_stop_it(program: str) -> None:
    host = Host(program)
    host.hypervisor.interrupts.route(PIN, VECTOR, _leave_it)
    host.at(1000, host.raise_card)
    host.run(CYCLES_PER_MS // 10)
    assert host.pc.machine.pcpus[0].clock.cycles >= CYCLES_PER_MS // 10


def _leave_it(_core: Core) -> None:
    """A handler that forgets its card."""


def test_an_interrupt_that_the_last_exit_of_a_guest_acknowledged_is_not_lost() -> None:
    host = Host()
    host.run(CYCLES_PER_MS // 10)
    core, chip = host.cores[0], host.pc.board.apics[0]
    assert core.loaded is not None
    host.hypervisor.interrupts.route(PIN, VECTOR, host.handle)
    chip.accept(InterruptMessage(VECTOR))
    core.loaded.vmcs.save(f.EXIT_REASON, R.EXTERNAL_INTERRUPT)
    core.loaded.vmcs.save(f.VM_EXIT_INTERRUPTION_INFORMATION, i.VALID | chip.acknowledge())
    core._loop.exit_waits = True  # another core was behind, and has ended the guest
    host.domain.finish(End(EndKind.RESET))
    core.run(2 * CYCLES_PER_MS)
    assert [number for number, _ in host.handled] == [0]
    assert chip.vectors.isr == 0


def test_a_sidecore_takes_no_interrupts() -> None:
    host = Host(cores=2, sidecores=1)
    with pytest.raises(ConfigError, match="no core 1"):
        host.hypervisor.interrupts.route(PIN, VECTOR, host.handle, core=1)


def test_what_cannot_be_routed_is_refused_in_words() -> None:
    host = Host()
    table = host.hypervisor.interrupts
    for pin, vector, core in ((24, VECTOR, 0), (-1, VECTOR, 0), (PIN, 0x1F, 0), (PIN, TIMER, 0), (PIN, VECTOR, 1)):
        with pytest.raises(ConfigError):
            table.route(pin, vector, host.handle, core=core)
    table.route(PIN, VECTOR, host.handle)
    with pytest.raises(ConfigError, match="not free"):
        table.route(PIN + 1, VECTOR, host.handle)
