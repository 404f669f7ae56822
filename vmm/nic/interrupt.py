"""The NIC's interrupts, and what the VMM does with them while no sidecore polls.

    INTA# --> host's I/O APIC --> a core --> VM exit, if a guest runs there --> MasterInterrupt
       read the identifier across PCI: the core waits a round trip; clear the bits that were set: a posted write
       every attached VIF that has one of the bits --> its event channel: some are told for nothing

    MSI-X --> a vector for each VIF --> the core where its guest was last --> its event channel      VifInterrupts
                                                    if it runs there: posted, without a VM exit      PostedInterrupts

MODEL: the VMM handles an interrupt as it does everything, at the time when it begins (emulator/interleave.py): what the
NIC does during the round trip interrupts again. To move an interrupt to another core takes no time.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from devices.board import PIRQ_PIN
from devices.pci.msix import MsixTable
from vmm.core import Core
from vmm.cost import paths
from vmm.host_interrupts import HostInterrupts
from vmm.nic.interface import Interface
from vmm.nic.registers import Registers

MASTER_VECTOR, FIRST_VIF_VECTOR = 0x30, 0x31
MESSAGE_BASE = 0xFEE0_0000  # of a local APIC with number n: n << 12


class Interfaces(Protocol):
    """The VIFs of the host."""

    def attached(self) -> Iterator[Interface]:
        """Those that are attached, by number."""
        ...


class MasterInterrupt:
    """The NIC's one interrupt, taken by `core`; None: by one of `core_count` cores after the other."""

    def __init__(
        self,
        registers: Registers,
        interfaces: Interfaces,
        interrupts: HostInterrupts,
        *,
        core: int | None,
        core_count: int,
    ) -> None:
        self.count = 0
        self.empty_count = 0  # the bits had been cleared
        self._registers = registers
        self._interfaces = interfaces
        self._interrupts = interrupts
        self._pin = PIRQ_PIN + registers.pirq
        self._next_core = 0 if core is None else core
        self._core_count = core_count
        self._moves = core is None
        interrupts.route(self._pin, MASTER_VECTOR, self.take, core=self._next_core)

    def take(self, core: Core) -> None:
        """The interrupt, in time with `core`."""
        self.count += 1
        core.meter.follow(paths.DEVICE_INTERRUPT)
        core.meter.commit()
        began_ps = core.pcpu.clock.now_ps
        bits = self._registers.read_identifier(core)
        if bits:
            self._registers.clear_identifier(core, bits)
        else:
            self.empty_count += 1
        for interface in self._interfaces.attached():
            if bits >> interface.vif.bit & 1:
                interface.signal(core, began_ps)
        if self._moves:
            self._next_core = (self._next_core + 1) % self._core_count
            self._interrupts.move(self._pin, self._next_core)


class VifInterrupts:
    """A vector for each VIF: its number beyond FIRST_VIF_VECTOR. `table` has where the NIC sends them."""

    def __init__(self, interrupts: HostInterrupts, table: MsixTable) -> None:
        self._interrupts = interrupts
        self._table = table
        self.count = 0

    def add(self, interface: Interface) -> None:
        """Let an interface interrupt, at the first core until its guest has run."""
        vector = FIRST_VIF_VECTOR + interface.vif.number
        self._interrupts.handle(vector, partial(self.take, interface))
        self._aim(interface, vector)

    def remove(self, interface: Interface) -> None:
        """Its vector is free again."""
        self._table.mask(interface.vif.number)
        self._interrupts.forget(FIRST_VIF_VECTOR + interface.vif.number)

    def take(self, interface: Interface, core: Core) -> None:
        """The interrupt of one VIF."""
        self.count += 1
        core.meter.follow(paths.DEVICE_INTERRUPT)
        core.meter.commit()
        if interface.vif.is_attached:
            interface.signal(core, core.pcpu.clock.now_ps)
        self._aim(interface, FIRST_VIF_VECTOR + interface.vif.number)

    def attached(self, interface: Interface) -> None:
        """The interface has a page: where there is such a thing, a guest that runs is called without a VM exit."""

    def _aim(self, interface: Interface, vector: int) -> None:
        """The next one goes where the guest is."""
        self._table.aim(interface.vif.number, MESSAGE_BASE | interface.core_number << 12, vector)


class PostedInterrupts(VifInterrupts):
    """The same for a processor that posts interrupts: a guest that runs, and can be called, is called without the VMM.

    MODEL: the processor knows whose vector it is as the VMM would have told it, in a descriptor in memory that takes no
    time; an interrupt that the guest cannot take at once exits, where a processor would keep it.
    """

    def __init__(self, interrupts: HostInterrupts, table: MsixTable, end_interrupt: Callable[[int], None]) -> None:
        super().__init__(interrupts, table)
        self.posted_count = 0
        self._end_interrupt = end_interrupt  # at a core: what the processor does by itself

    def attached(self, interface: Interface) -> None:
        """See VifInterrupts."""
        interface.vcpus[0].engine.on_notification = partial(self.post, interface)

    def post(self, interface: Interface, vector: int) -> int:
        """An interrupt has come while the guest runs: what it gets; 0: the VMM has to see to it."""
        if vector != FIRST_VIF_VECTOR + interface.vif.number or not interface.can_be_called:
            return 0
        self.posted_count += 1
        self._end_interrupt(interface.core_number)
        return interface.post()
