"""The host as a whole: a machine and the board around it. Its first program is a VMM, or natively the guest's kernel.

    Machine: pCPU 0 .. n, memory, ports, mmio, events
       ^ INTR, NMI, INIT, SIPI              ^ ports, memory, time
       |                                    |
    LocalApic of each pCPU <-- InterruptBus -- I/O APIC, 8259s <-- devices       Board

What an interrupt controller sends to a core is on its way for `events.ipi_receive_cycles`: so cores can take turns
(emulator/interleave.py).
"""

from collections.abc import Callable, Sequence

from devices.board import Board, PciDeviceMaker
from devices.cpu_pins import CpuPins
from devices.interrupts.lapic_registers import DEFAULT_BASE
from emulator.dma import HostDma
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.x86 import PAGE_BYTES


def _ignore() -> None:
    """Nobody is there to act on it."""


def _drop(_byte: int) -> None:
    """The wire leads nowhere."""


class Pc:
    """`machine` with a board that has `devices` on its PCI bus; the other arguments are as Board has them."""

    def __init__(
        self,
        machine: Machine,
        *,
        transmit: Callable[[int], None] = _drop,
        on_exit: Callable[[int], None] = _drop,
        on_reset: Callable[[], None] = _ignore,
        on_power_off: Callable[[], None] = _ignore,
        devices: Sequence[PciDeviceMaker] = (),
    ) -> None:
        self.machine = machine
        self.board = Board(
            machine.ports,
            machine.mmio,
            machine.events,
            memory_bytes=machine.memory.size_bytes,
            memory=HostDma(machine.memory, machine.timing),
            transmit=transmit,
            on_exit=on_exit,
            on_reset=on_reset,
            on_power_off=on_power_off,
            cpus=[_pins(pcpu) for pcpu in machine.pcpus],
            apic_timer_hz=machine.profile.core.apic_timer_hz,
            pci_devices=devices,
        )
        if machine.pcpu_count > 1:
            self.board.interrupt_bus.carry = self._carry
        for pcpu, apic in zip(machine.pcpus, self.board.apics, strict=True):
            pcpu.platform.connect(apic)
            pcpu.platform.mmio.attach(DEFAULT_BASE, PAGE_BYTES, apic)

    def _carry(self, deliver: Callable[[], None]) -> None:
        """A message from now on is on its way."""
        machine = self.machine
        delay_ps = machine.timeline.cycles_to_ps(machine.profile.events.ipi_receive_cycles)
        machine.events.schedule(machine.events.now_ps + delay_ps, deliver)


def _pins(pcpu: PCpu) -> CpuPins:
    """What the local APIC of a core drives."""
    pins = pcpu.interrupts
    return CpuPins(
        on_intr=pins.set_interrupt,
        tsc_to_ps=pcpu.tsc_to_ps,
        on_nmi=pins.raise_nmi,
        on_init=pins.initialize,
        on_start_up=pins.start_up,
    )
