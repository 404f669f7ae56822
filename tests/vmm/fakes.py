"""Stand-ins for parts of the VMM, where a test needs no machine that runs.

    Bench: a real VCpu, its VMCS, VMX operation, domain (buses, board, memory) and core's clock
           on a FakeEngine (nothing runs), a FakeCore (notes what is asked of it), FakePaging (the same)
           and a NotingMeter (charges, and notes for what)

A bench takes a millisecond. Costs are distinct primes: a wrong sum names the part that is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

from devices.cpu_pins import CpuPins
from devices.pci.dma import Nowhere
from emulator.clock import ENGINE_COUNTERS
from emulator.engine import Engine
from emulator.events import EventQueue
from emulator.machine import Machine
from emulator.pcpu import PCpu
from emulator.profiles.profile import load_profile
from emulator.vmx import fields as f
from emulator.vmx import interruption as i
from emulator.vmx.capabilities import VmxCapabilities, with_ept
from emulator.vmx.operation import VmxOperation
from emulator.vmx.vmcs import Vmcs
from emulator.x86 import EFER_LMA, EFER_LME
from tests.emulator.vmx.examples import FLAT_64
from vmm.cost.meter import Meter
from vmm.cost.paths import Path, Route
from vmm.domain import Domain
from vmm.exits.loop import ExitLoop
from vmm.exits.observer import ExitObserver, Observers
from vmm.guest_memory import GuestMemory
from vmm.outcome import AGAIN, Outcome
from vmm.vcpu import Extensions, VCpu

READ, WRITE, L1, EXIT, ENTRY = 3, 7, 11, 1009, 1201  # cycles
PROFILE = load_profile(
    "netburst-2006",
    [
        f"vmx.vmread_cycles={READ}", f"vmx.vmwrite_cycles={WRITE}", f"caches.l1d_latency_cycles={L1}",
        f"vmx.exit_cycles={EXIT}", f"vmx.entry_cycles={ENTRY}", "core.path_cycles_per_100_instructions=100",
    ],
)  # fmt: skip
BASE_HPA, MEMORY_BYTES = 1 << 20, 1 << 20
DOMAIN_HPA, VCPU_HPA = 0x1000, 0x2000


def exited_vcpu(domain: int = 0, vcpu: int = 0, pcpu: int = 0, **exit_fields: int) -> VCpu:
    """A vCPU as observers see it: where it is, and what the exit has left in its VMCS."""
    vmcs = Vmcs()
    for name, value in exit_fields.items():
        vmcs.save(getattr(f, name), value)
    parts: Any = {"domain": SimpleNamespace(number=domain), "pcpu": SimpleNamespace(number=pcpu)}
    return cast(VCpu, SimpleNamespace(number=vcpu, vmcs=vmcs, **parts))


class FakeShared(SimpleNamespace):
    """Fields of `sc_cpu_shared`; the clock is in `clock`, too."""

    clock: memoryview

    @property
    def clock_cycles(self) -> int:
        return self.clock[0]

    @clock_cycles.setter
    def clock_cycles(self, cycles: int) -> None:
        self.clock[0] = cycles


class FakeEngine:
    """The registers of an engine that never runs, and MSRs that a test sets."""

    def __init__(self, owner: str = "guest") -> None:
        self.owner = owner
        self.gpr = memoryview(bytearray(16 * 8)).cast("Q")
        self.vmcs = memoryview(bytearray(f.SLOT_COUNT * 8)).cast("Q")
        self.clock = memoryview(bytearray(8)).cast("Q")
        self.shared = FakeShared(
            clock=self.clock, horizon_cycles=0, deadline_cycles=0, instructions=0, tsc_base=0, dr6=0, cr2=0,
            interrupt_pending=0, nmi_pending=0, **{counter: 0 for counter, _ in ENGINE_COUNTERS},
        )  # fmt: skip
        self.msrs: dict[int, int] = {}
        self.refused_msrs: set[int] = set()
        self.on_exit: Callable[[], object] | None = None
        self.platform: object = None

    def rdmsr(self, index: int) -> int | None:
        return self.msrs.get(index)

    def wrmsr(self, index: int, value: int) -> bool:
        if index in self.refused_msrs:
            return False
        self.msrs[index] = value
        return True

    def set_timing(self, timing: object, core: int) -> None:
        """Nothing runs."""


class NotingMeter(Meter):
    """A meter that notes what was charged, too."""

    def __init__(self, pcpu: PCpu) -> None:
        super().__init__(pcpu)
        self.followed: list[Path] = []
        self.executed: list[str] = []
        self.touched: list[tuple[int, int, bool]] = []
        self.touch = self._note_and_touch

    def follow(self, path: Path | Route, times: int = 1) -> None:
        self.followed.extend(path.parts * times)
        super().follow(path, times)

    def touch_words(self, hpas: Sequence[int], size_bytes: int, is_write: bool) -> None:
        for hpa in hpas:
            self.touch(hpa, size_bytes, is_write)

    def execute(self, instruction: str) -> None:
        self.executed.append(instruction)
        super().execute(instruction)

    def _note_and_touch(self, hpa: int, size_bytes: int, is_write: bool) -> int:
        self.touched.append((hpa, size_bytes, is_write))
        return self.pcpu.clock.touch(hpa, size_bytes, is_write)


class FakeCore:
    """A core that notes what is asked of it, by name."""

    def __init__(self, pcpu: PCpu, capabilities: VmxCapabilities) -> None:
        self.pcpu = pcpu
        self.notes = NotingMeter(pcpu)
        self.meter: Meter = self.notes
        self.operation = VmxOperation(capabilities, pcpu.profile, self.meter)
        self.operation.vmxon()
        self.needs_scheduling = False
        self.loaded: VCpu | None = None
        self.current: VCpu | None = None
        self.asked: list[str] = []

    def take_interrupt(self, vector: int) -> None:
        self.asked.append(f"take_interrupt {vector:#x}")

    def take_interrupts(self) -> None:
        self.asked.append("take_interrupts")

    def serve(self, *_queues: EventQueue) -> None:
        self.asked.append("serve")

    def give_up(self, _vcpu: VCpu) -> None:
        self.asked.append("give_up")

    def shoot_down(self, _vcpu: VCpu) -> None:
        self.asked.append("shoot_down")

    def sleep(self, _vcpu: VCpu) -> None:
        self.asked.append("sleep")
        self.needs_scheduling = True  # as the real one does


class FakePaging:
    """Paging that notes what is asked of it, and changes nothing: `asked` has (name, arguments ...)."""

    name = "fake"

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.cr3 = 0
        self.efer = EFER_LMA | EFER_LME
        self.outcome: Outcome = AGAIN  # of faults and violations

    def sibling(self, _vcpu: VCpu) -> "FakePaging":
        return self

    def start(self, _vcpu: VCpu) -> None:
        self.asked.append(("start",))

    def guest_cr3(self, _vcpu: VCpu) -> int:
        return self.cr3

    def guest_efer(self, _vcpu: VCpu) -> int:
        return self.efer

    def write_cr0(self, _vcpu: VCpu, value: int) -> None:
        self.asked.append(("write_cr0", value))

    def write_cr3(self, _vcpu: VCpu, value: int) -> None:
        self.asked.append(("write_cr3", value))

    def write_cr4(self, _vcpu: VCpu, value: int) -> None:
        self.asked.append(("write_cr4", value))

    def write_efer(self, _vcpu: VCpu, value: int) -> None:
        self.asked.append(("write_efer", value))

    def invlpg(self, _vcpu: VCpu, gva: int) -> None:
        self.asked.append(("invlpg", gva))

    def handle_page_fault(self, _vcpu: VCpu, gva: int, error_code: int) -> Outcome:
        self.asked.append(("handle_page_fault", gva, error_code))
        return self.outcome

    def handle_ept_violation(self, _vcpu: VCpu) -> Outcome:
        self.asked.append(("handle_ept_violation",))
        return self.outcome

    def store_entry(self, _meter: Meter, gpa: int, entry: int) -> None:
        self.asked.append(("store_entry", gpa, entry))

    def watch(self, hpas: Sequence[int]) -> None:
        self.asked.append(("watch", *hpas))

    def guest_memory_written(self, _meter: Meter, gpa: int, length_bytes: int) -> None:
        self.asked.append(("guest_memory_written", gpa, length_bytes))


class Latch:
    """A device at ports or addresses: reads take what `answers` has next, writes are noted."""

    widths_bytes: tuple[int, ...] = (1, 2, 4)

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.written: list[tuple[int, int, int]] = []  # offset, size in bytes, value

    def read(self, _offset: int, _size_bytes: int) -> int:
        return self.answers.pop(0)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        self.written.append((offset, size_bytes, value))


class Bench:
    """A vCPU that has exited from 64-bit code in ring 0, for a handler to be tried on; see the top of the file."""

    def __init__(self, *, number: int = 0) -> None:
        machine = Machine(PROFILE, memory_bytes=BASE_HPA + MEMORY_BYTES)
        pins = CpuPins(on_intr=lambda _level: None, tsc_to_ps=lambda tsc: tsc)
        self.domain = Domain(
            machine, memory=GuestMemory(machine.memory, base_hpa=BASE_HPA, size_bytes=MEMORY_BYTES), dma=Nowhere(),
            transmit=lambda _byte: None,
            cpus=[pins] * (number + 1),
        )  # fmt: skip
        self.domain.state_hpa = DOMAIN_HPA
        self.paging = FakePaging()
        self.extensions = Extensions()
        self.engine = FakeEngine()
        self.core = FakeCore(machine.pcpus[0], with_ept())
        self.meter = self.core.notes
        engine = cast(Engine, self.engine)
        siblings: list[VCpu] = []
        self.vcpu = VCpu(
            self.domain, engine, number, core=self.core, capabilities=with_ept(), paging=lambda _vcpu: self.paging,
            siblings=siblings, state_hpa=VCPU_HPA, extensions=self.extensions,
        )  # fmt: skip
        siblings.append(self.vcpu)
        self.siblings = siblings
        for field, value in FLAT_64.items():
            assert self.vcpu.vmcs.write(field, value) is None
        machine.pcpus[0].load(engine)
        self.core.operation.make_current(self.vcpu.vmcs)
        self.core.loaded = self.core.current = self.vcpu
        self.vcpu.load(self.core)
        self.gpr = self.vcpu.gpr

    def set(self, fields: Mapping[int, int]) -> None:
        """Let the VMCS have these values, as the hardware would save them."""
        for field, value in fields.items():
            self.vcpu.vmcs.save(field, value)

    def loop(
        self, handlers: Mapping[int, Callable[[VCpu], Outcome]], observers: Sequence[ExitObserver] = ()
    ) -> ExitLoop:
        """The loop of the bench's core."""
        return ExitLoop(self.core, handlers, Observers(observers))

    @property
    def injected(self) -> i.Interruption | None:
        """The event of the next entry."""
        event = i.unpack(self.vcpu.vmcs.read(f.VM_ENTRY_INTERRUPTION_INFORMATION))
        return event if event.is_valid else None

    @property
    def injected_error_code(self) -> int:
        return self.vcpu.vmcs.read(f.VM_ENTRY_EXCEPTION_ERROR_CODE)


def exception(vector: int, *, has_error_code: bool = False) -> i.Interruption:
    """A hardware exception to be injected."""
    return i.Interruption(vector, i.HARDWARE_EXCEPTION, has_error_code)
