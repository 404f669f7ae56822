"""A domain: a guest of a VMM, its memory and its devices.

gpa 0 ............ memory_bytes ..... devices      the board: on the domain's own buses and timers
 |  guest_memory.py
 v
hpa base_hpa ..... in order
"""

from collections.abc import Callable, Sequence

from devices.board import Board, PciDeviceMaker
from devices.cpu_pins import CpuPins
from devices.interrupts.lapic_registers import DEFAULT_BASE
from devices.pci.dma import DmaPort
from emulator.bus import MmioBus, PortBus
from emulator.events import EventQueue
from emulator.machine import Machine
from emulator.x86 import PAGE_BYTES
from vmm.boot.boot_state import boot_memory
from vmm.boot.loaders import BootImage
from vmm.guest_memory import GuestMemory
from vmm.outcome import Ending


class Domain(Ending):
    """Guest memory `memory` of `machine`, and a board, whose devices reach memory by `dma`.

    `transmit` gets each byte of the serial console; `cpus` are the pins of its CPUs, the boot CPU first.
    `devices` are made for its PCI bus.
    """

    WIRED = ("on_end",)

    def __init__(
        self,
        machine: Machine,
        *,
        memory: GuestMemory,
        dma: DmaPort,
        transmit: Callable[[int], None],
        cpus: Sequence[CpuPins],
        number: int = 0,
        devices: Sequence[PciDeviceMaker] = (),
    ) -> None:
        super().__init__()
        self.machine = machine
        self.number = number
        self.memory = memory
        self.base_hpa = memory.base_hpa
        self.memory_bytes = memory.size_bytes
        self.page_count = memory.runs[0].end_gpa // PAGE_BYTES  # from 0 on in one piece: all, of most guests
        self.state_hpa = 0  # the page of the domain's structure in the VMM's memory
        self.ports = PortBus()
        self.mmio = MmioBus()
        self.timers = EventQueue()
        self.board = Board(
            self.ports,
            self.mmio,
            self.timers,
            memory_bytes=memory.size_bytes,
            memory=dma,
            transmit=transmit,
            on_exit=self.debug_exit,
            on_reset=self.reset,
            on_power_off=self.power_off,
            cpus=cpus,
            apic_timer_hz=machine.profile.core.apic_timer_hz,
            pci_devices=devices,
        )
        self.cpu_mmio = [MmioBus(behind=self.mmio) for _ in cpus]  # what each CPU sees
        for bus, apic in zip(self.cpu_mmio, self.board.apics, strict=True):
            bus.attach(DEFAULT_BASE, PAGE_BYTES, apic)

    def is_ram(self, gpa: int, length_bytes: int = 1) -> bool:
        """See GuestMemory, as the next three."""
        return self.memory.is_ram(gpa, length_bytes)

    def hpa_of(self, gpa: int) -> int:
        """Host-physical address of guest-physical `gpa`."""
        return self.memory.hpa_of(gpa)

    def read(self, gpa: int, length_bytes: int) -> bytes:
        """Bytes at `gpa`; all ones where the guest has no RAM."""
        return self.memory.read(gpa, length_bytes)

    def write(self, gpa: int, data: bytes) -> None:
        """Store `data` at `gpa`; what does not fall on the guest's RAM is dropped."""
        self.memory.write(gpa, data)

    def mmio_covers(self, gpa: int, length_bytes: int) -> bool:
        """Whether a device answers anywhere in [gpa, gpa + length_bytes)."""
        return self.cpu_mmio[0].covers(gpa, length_bytes)

    def mmio_fills(self, gpa: int, length_bytes: int) -> bool:
        """Whether one device has all of [gpa, gpa + length_bytes)."""
        return self.cpu_mmio[0].is_filled(gpa, length_bytes)

    def is_device_page(self, gfn: int) -> bool:
        """Whether a device answers in page `gfn`, so that an access there is the VMM's to carry out."""
        is_ram = gfn < self.page_count or self.memory.is_ram(gfn * PAGE_BYTES)
        return not is_ram and self.mmio_covers(gfn * PAGE_BYTES, PAGE_BYTES)

    def load(self, image: BootImage) -> None:
        """Copy firmware's tables and a loader's segments into guest memory."""
        for gpa, data in boot_memory(image, len(self.cpu_mmio), has_messages=self.board.pci.has_messages):
            self.write(gpa, data)
