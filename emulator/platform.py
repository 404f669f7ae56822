"""The host as the engine of one of its cores sees it: what is answered where no VMCS control intercepts.

    IN, OUT --------------------> PortBus of the machine
    load, store beside the RAM -> MmioBus of the core, and behind it that of the machine
    CPUID, RDMSR, WRMSR --------> the host's tables, and the core's local APIC if it has one
    CR8, interrupt acknowledge -> the same

What reaches a device happens in its time: events up to the core's clock come first, and an event that the access has
scheduled bounds how far the core runs.
"""

from typing import Protocol

from emulator import cpuid
from emulator.bus import MmioBus, PortBus
from emulator.clock import Clock
from emulator.ledger import Category
from emulator.profiles.profile import Profile
from emulator.timeline import Timeline
from emulator.x86 import IA32_BIOS_SIGN_ID, IA32_MISC_ENABLE, IA32_PLATFORM_ID, MISC_ENABLE_MONITOR

# MSRs of the host that software may read; the rest raise #GP, as hardware does for an address it does not implement.
# MODEL: writes to all but the last are dropped, those to IA32_PLATFORM_ID too.
HOST_MSRS = {
    IA32_PLATFORM_ID: 0,
    IA32_BIOS_SIGN_ID: 0,  # no microcode update loaded
    IA32_MISC_ENABLE: 1 | MISC_ENABLE_MONITOR,  # fast strings; MODEL: no bit changes anything
}

SPURIOUS_VECTOR = 0xFF  # what nobody answers at an interrupt acknowledge reads as


class InterruptController(Protocol):
    """What stands between a core and the interrupts of its machine: a local APIC."""

    cr8: int  # the task priority as MOV from and to CR8 sees it, 0 to 15

    @property
    def is_enabled(self) -> bool:
        """Whether there is one, as CPUID tells."""
        ...

    def acknowledge(self) -> int:
        """Take the pending interrupt into service; its vector."""
        ...

    def read_msr(self, index: int) -> int | None:
        """RDMSR; None: not its own."""
        ...

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR; False: not its own, or #GP."""
        ...


class HostPlatform:
    """The `Platform` of the engines that the core of `clock` runs. `cpuid_leaves`: see cpuid.py."""

    def __init__(
        self,
        clock: Clock,
        timeline: Timeline,
        profile: Profile,
        *,
        ports: PortBus,
        mmio: MmioBus,
        cpuid_leaves: dict[tuple[int, int], cpuid.Registers],
    ) -> None:
        self.mmio = MmioBus(behind=mmio)  # devices in memory, and in front those that only this core sees
        self._controller: InterruptController | None = None
        self.cpuid_leaves = cpuid_leaves
        self._clock = clock
        self._events = timeline.events
        self._ports = ports
        self._port_cycles = profile.port_access_cycles
        self._apic_cycles = profile.events.apic_access_cycles
        self._mmio_cycles = profile.core.mmio_access_cycles
        self._msrs = dict(HOST_MSRS)
        self._cr8 = 0  # of a core without a local APIC

    def connect(self, controller: InterruptController) -> None:
        """The core has a local APIC, `controller`; its registers are for `mmio`."""
        self._controller = controller

    def _reach(self, cycles: int) -> None:
        """An access gets to its device after `cycles`."""
        self._clock.charge(Category.PORT, cycles)
        self._clock.commit()
        self._events.run_until(self._clock.now_ps)

    # --- ports and memory --------------------------------------------------------------------------------------------

    def port_read(self, port: int, size_bytes: int) -> int:
        """IN from the host's bus."""
        self._reach(self._port_cycles)
        value = self._ports.read(port, size_bytes)
        self._clock.bound_by_events()
        return value

    def port_write(self, port: int, size_bytes: int, value: int) -> None:
        """OUT to the host's bus."""
        self._reach(self._port_cycles)
        self._ports.write(port, size_bytes, value)
        self._clock.bound_by_events()

    def _cycles_to(self, hpa: int) -> int:
        """What an access without RAM takes: the core's local APIC is on its own bus, and near."""
        return self._apic_cycles if self.mmio.is_own(hpa) else self._mmio_cycles

    def mmio_read(self, hpa: int, size_bytes: int) -> int:
        """A load from where there is no RAM. MODEL: the time is that at the end of the basic block."""
        self._reach(self._cycles_to(hpa))
        value = self.mmio.read(hpa, size_bytes)
        self._clock.bound_by_events()
        return value

    def mmio_write(self, hpa: int, size_bytes: int, value: int) -> None:
        """A store to where there is no RAM."""
        self._reach(self._cycles_to(hpa))
        self.mmio.write(hpa, size_bytes, value)
        self._clock.bound_by_events()

    # --- registers ---------------------------------------------------------------------------------------------------

    def cr8_read(self) -> int:
        """MOV from CR8."""
        return self._cr8 if self._controller is None else self._controller.cr8

    def cr8_write(self, value: int) -> None:
        """MOV to CR8 of a value from 0 to 15."""
        if self._controller is None:
            self._cr8 = value
        else:
            self._controller.cr8 = value

    def cpuid(self, leaf: int, subleaf: int) -> cpuid.Registers:
        """CPUID of this core."""
        registers = cpuid.look_up(self.cpuid_leaves, leaf, subleaf)
        if leaf != 1:
            return registers
        controller = self._controller
        is_enabled = controller is not None and controller.is_enabled
        return cpuid.with_apic(registers, self._clock.number, is_enabled=is_enabled)

    def msr_read(self, index: int) -> int | None:
        """RDMSR of an MSR the engine does not keep."""
        if index in self._msrs:
            return self._msrs[index]
        self._events.run_until(self._clock.now_ps)
        return None if self._controller is None else self._controller.read_msr(index)

    def msr_write(self, index: int, value: int) -> bool:
        """WRMSR of an MSR the engine does not keep: the few that exist can be written."""
        if index in self._msrs:
            self._msrs[index] = value if index == IA32_MISC_ENABLE else self._msrs[index]
            return True
        if self._controller is None:
            return False
        self._events.run_until(self._clock.now_ps)
        is_valid = self._controller.write_msr(index, value)
        self._clock.bound_by_events()
        return is_valid

    def interrupt_vector(self) -> int:
        """Interrupt acknowledge cycle."""
        return SPURIOUS_VECTOR if self._controller is None else self._controller.acknowledge()
