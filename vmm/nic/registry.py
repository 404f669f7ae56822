"""Who has which virtual interface: created and destroyed by the management domain, attached by the guest's driver."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

from devices.board import Board
from devices.interrupts.lapic_registers import EOI
from devices.nic.nic import Nic
from devices.pc import Pc
from devices.pci.function import COMMAND, DECODES_MEMORY, IS_MASTER
from emulator.dma import HostDma
from emulator.errors import ConfigError
from emulator.timing.shared_lines import SharedLines
from vmm.cost.meter import Unpaid
from vmm.guest_memory import GuestMemory
from vmm.host_interrupts import HostInterrupts
from vmm.nic.backend import Backend
from vmm.nic.dma import Sharer, VifPort
from vmm.nic.event_channel import Kicker
from vmm.nic.hops import Hops
from vmm.nic.interface import Interface
from vmm.nic.interrupt import MasterInterrupt, PostedInterrupts, VifInterrupts
from vmm.nic.page import VifPage
from vmm.nic.polling import ReceiveQueue
from vmm.nic.registers import Registers
from vmm.shared_pages import SharedPages
from vmm.sidecore.registry import Sidecores
from vmm.sidecore.service import Sidecore
from vmm.vcpu import VCpu

ABSENT, EXISTS, INVALID, FULL = -2, -17, -22, -28  # -ENOENT, -EEXIST, -EINVAL, -ENOSPC
Signal = Literal["interrupt", "sidecore", "msix", "posted"]


class Vifs:
    """The interfaces on `nic` of `pc`, by number of their domain. `signal` is how the VMM hears of their frames.

    `core` takes the NIC's interrupt; None: one after the other. `jumps` False: guests' polling is executed.
    """

    def __init__(
        self,
        pc: Pc,
        nic: Nic,
        kicker: Kicker,
        *,
        interrupts: HostInterrupts,
        core_count: int,
        shared_pages: SharedPages,
        sidecores: Sidecores | None,
        signal: Signal,
        core: int | None,
        jumps: bool = True,
    ) -> None:
        self.kicker = kicker
        machine = pc.machine
        self.lines = SharedLines(machine.profile, machine.pcpu_count) if sidecores is None else sidecores.lines
        self.shared_pages = shared_pages
        self.hops = Hops(nic.observers)
        self.signal = signal
        self.jumps = jumps
        self._nic = nic
        self._events = machine.events
        self._host_dma = HostDma(machine.memory, machine.timing)
        self._unpaid = Unpaid(machine.pcpus[0])
        self._sharers: list[Sharer] = [] if sidecores is None else [sidecores]  # beside the interface itself
        self.managers: set[int] = set()  # domains that may give out VIFs
        self.backend: Backend | None = None  # a driver domain, which has the NIC's only VIF
        self._interfaces: dict[int, Interface] = {}
        self._sidecores = sidecores if signal == "sidecore" else None
        self._queues: dict[int, ReceiveQueue] = {}  # by number of the domain
        nic.function.write(COMMAND, 2, nic.function.command | DECODES_MEMORY | IS_MASTER)
        self._registers = Registers(pc, nic)
        self._master: MasterInterrupt | None = None
        self._by_vector: VifInterrupts | None = None
        if signal == "sidecore" and sidecores is None:
            raise ConfigError("a NIC whose queues a sidecore polls needs a sidecore")
        is_dynamic = self._sidecores is not None and not self._sidecores.is_served
        if signal == "interrupt" or is_dynamic:
            self._master = MasterInterrupt(self._registers, self, interrupts, core=core, core_count=core_count)
        if is_dynamic and self._sidecores is not None:
            self._sidecores.on_served = self._serve
        if signal in ("msix", "posted"):
            assert nic.msix is not None
            nic.msix.enable()
            if signal == "posted" and machine.profile.vmx.has_posted_interrupts:
                self._by_vector = PostedInterrupts(interrupts, nic.msix, partial(_end_interrupt, pc.board))
            else:
                self._by_vector = VifInterrupts(interrupts, nic.msix)

    # --- for the management domain -----------------------------------------------------------------------------------

    def add(self, domain_number: int, memory: GuestMemory, vcpus: Sequence[VCpu]) -> Interface:
        """A place for a VIF in the domain that is being made; `vcpus` will be its."""
        interface = self._interfaces[domain_number] = Interface(self, domain_number, memory, vcpus)
        return interface

    def is_manager(self, domain_number: int) -> bool:
        """Whether a domain may give out VIFs."""
        return domain_number in self.managers

    def create(self, domain_number: int, mac: bytes) -> int:
        """Give a domain a VIF; its number, or one of the errors below."""
        interface = self._interfaces.get(domain_number)
        if interface is None or not interface.is_alive:
            return ABSENT
        if interface.has_vif:
            return EXISTS
        port = VifPort(
            interface.memory,
            self._host_dma,
            interface.vcpus,
            [interface, *self._sharers],
            self._unpaid,
            fills_caches=self._nic.fills_caches,
        )
        try:
            if self._is_carried(interface):
                assert self.backend is not None
                vif = self.backend.create(interface, mac, port)
            else:
                vif = self._nic.create_vif(mac, port, is_promiscuous=self.backend is not None)
        except ValueError:  # of a group, or another's
            return INVALID
        if vif is None:
            return FULL
        interface.connect(vif, needs_notice=self._is_carried(interface))
        if self._by_vector is not None and not self._is_carried(interface):
            self._by_vector.add(interface)
        return vif.number

    def destroy(self, domain_number: int) -> bool:
        """Take a domain's VIF away; whether it had one."""
        interface = self._interfaces.get(domain_number)
        if interface is None or not interface.has_vif:
            return False
        if self._is_carried(interface):
            assert self.backend is not None
            self.backend.destroy(interface.vif)
            return True
        if self._by_vector is not None:
            self._by_vector.remove(interface)
        self._nic.destroy_vif(interface.vif)
        return True

    def set_backend(self, domain_number: int) -> Backend:
        """Let a domain that has a place for a VIF carry the frames of all others; before any has a VIF."""
        assert not any(interface.was_connected for interface in self._interfaces.values())
        self.backend = Backend(self._interfaces[domain_number], self.kicker, self.hops)
        return self.backend

    def _is_carried(self, interface: Interface) -> bool:
        """Whether a driver domain carries its frames."""
        return self.backend is not None and interface is not self.backend.own

    def end(self, domain_number: int) -> None:
        """The domain has ended, at any time: its VIF goes when nothing is half done."""
        if domain_number in self._interfaces:
            self._events.schedule(0, partial(self._bury, domain_number))

    def _bury(self, domain_number: int) -> None:
        self.destroy(domain_number)

    def of_domain(self, domain_number: int) -> Interface | None:
        """The interface of a domain."""
        return self._interfaces.get(domain_number)

    # --- for interrupts ----------------------------------------------------------------------------------------------

    def attached(self) -> Iterator[Interface]:
        """The interfaces on the NIC that are attached, by number of their domain."""
        on_nic = self._interfaces.values() if self.backend is None else (self.backend.own,)
        return (interface for interface in on_nic if interface.page is not None)

    # --- see interface.Host ------------------------------------------------------------------------------------------

    def attached_to(self, interface: Interface, page: VifPage) -> None:
        """See Host."""
        if self._is_carried(interface):
            return
        if self._by_vector is not None:
            self._by_vector.attached(interface)
        if self._sidecores is None:
            return
        sidecore = self._sidecores.core_of(interface.domain_number)
        queue = ReceiveQueue(interface, page, sidecore, self.lines)
        self._queues[interface.domain_number] = queue
        sidecore.add(queue, self._now_cycles(sidecore))

    def detached_from(self, interface: Interface, page: VifPage) -> None:
        """See Host."""
        queue = self._queues.pop(interface.domain_number, None)
        if queue is not None:
            queue.sidecore.remove(queue, self._now_cycles(queue.sidecore))

    def signalled(self, interface: Interface) -> None:
        """See Host."""
        queue = self._queues.get(interface.domain_number)
        if queue is not None:
            queue.catch_up()

    def _serve(self, is_served: bool) -> None:
        """A dynamic sidecore polls from now on, or leaves; meanwhile nothing interrupts."""
        self._registers.mask(self._registers.all_bits if is_served else 0)

    def counted(self, interface: Interface, visible_cycles: int) -> None:
        """See Host."""
        queue = self._queues.get(interface.domain_number)
        if queue is not None:
            queue.notice(visible_cycles)
            running = self.kicker.running
            if running is not None and queue.sidecore.is_on_duty:
                running.pcpu.bound_by(queue.sidecore.pcpu)

    def _now_cycles(self, sidecore: Sidecore) -> int:
        running = self.kicker.running
        return sidecore.pcpu.timeline.event_cycles if running is None else running.pcpu.clock.cycles

    # --- for reports -------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Plain numbers."""
        master, by_vector = self._master, self._by_vector
        return {
            "signal": self.signal,
            "interrupts": master.count if master is not None else by_vector.count if by_vector is not None else 0,
            "interrupts_without_bits": 0 if master is None else master.empty_count,
            "carried": {} if self.backend is None else self.backend.stats(),
            "domains": {number: asdict(i.counts) for number, i in self._interfaces.items() if i.was_connected},
        }


def _end_interrupt(board: Board, core: int) -> None:
    board.apics[core].write(EOI, 4, 0)
