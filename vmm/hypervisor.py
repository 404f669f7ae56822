"""The hypervisor: it has a PC to itself, and runs domains on its cores.

    Pc: pCPU 0 .. n               Hypervisor                      Domain 0 .. m: memory, board, timers
       |                             |                               |
    Interleaver: who is behind --> Core (one per pCPU), its loop --> VCpu: VMCS, registers, paging
                                     |
                                  Scheduler: which vCPU on which core

Host memory, from 0 on: for each domain the VMM's own pages for it (page tables, bitmaps), then the guest's memory. What
one domain makes the VMM need comes out of its own pages, and a guest's memory is reached only through its `Domain`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from devices.board import PciDeviceMaker
from devices.cpu_pins import CpuPins
from devices.nic.nic import Nic
from devices.pc import Pc
from emulator.engine import Engine
from emulator.errors import ConfigError
from emulator.events import EventQueue
from emulator.interleave import Interleaver
from emulator.memory import HIGH_START, LOW_END, end_of_ram
from emulator.vmx import fields as f
from emulator.vmx.guest_state import BLOCKING_BY_NMI
from vmm.boot.boot_state import write_boot_state
from vmm.boot.loaders import BootImage
from vmm.boot.start_up import write_init_state, write_start_address
from vmm.core import Core, Sender
from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.domain import Domain
from vmm.exits.observer import ExitObserver, Observers
from vmm.exits.table import EXIT_HANDLERS, Handler
from vmm.guest_memory import GuestMemory
from vmm.host_interrupts import HostInterrupts
from vmm.nic.hypercalls import hypercalls
from vmm.nic.registry import Signal, Vifs
from vmm.paging.ept import EptPaging
from vmm.paging.guest_dma import GuestDma
from vmm.paging.host_pages import HostPages
from vmm.paging.shadow_view import ShadowView
from vmm.scheduler import Scheduler
from vmm.scheduler.credit import DEFAULT_WEIGHT
from vmm.scheduler.pinned import PinnedScheduler
from vmm.shared_pages import SharedPages
from vmm.sidecore.dynamic import DynamicSidecore
from vmm.sidecore.hypercalls import add_hypercalls, extensions
from vmm.sidecore.operations import OPERATIONS, Operation
from vmm.sidecore.policy import Policy
from vmm.sidecore.poll import Poll
from vmm.sidecore.registry import Sidecores
from vmm.sidecore.service import Sidecore
from vmm.vcpu import UPCALL, Extensions, VCpu
from vmm.vmcs_setup import msr_bitmap, set_up_vmcs

GUEST_ALIGNMENT = 2 << 20  # large host pages can then back large guest pages
VMM_MEMORY_MAX_BYTES = 48 << 20  # of the VMM for one domain
VMM_MEMORY_MIN_BYTES = 4 << 20
VMM_MEMORY_PART = 4  # of a small domain's memory
PAGINGS: dict[str, type[ShadowView] | type[EptPaging]] = {"shadow": ShadowView, "ept": EptPaging}


def vmm_bytes(memory_bytes: int) -> int:
    """What the VMM keeps for a domain of that size."""
    part = -(-memory_bytes // VMM_MEMORY_PART // GUEST_ALIGNMENT) * GUEST_ALIGNMENT
    return min(VMM_MEMORY_MAX_BYTES, max(VMM_MEMORY_MIN_BYTES, part))


def host_memory_bytes(domains_bytes: Sequence[int]) -> int:
    """Host memory that domains of these sizes need, with the VMM's own."""
    end = 0
    for memory_bytes in domains_bytes:
        end = end_of_ram(end_of_ram(_aligned(end), vmm_bytes(memory_bytes)), memory_bytes)
    return end if end <= LOW_END else end - (HIGH_START - LOW_END)


def _aligned(hpa: int) -> int:
    return -(-hpa // GUEST_ALIGNMENT) * GUEST_ALIGNMENT


class Hypervisor:
    """The VMM on all cores of `pc`, the last of which are sidecores.

    Without a scheduler each vCPU gets a core of its own. `jumps_spins` False: polling and spinning are executed.
    With a `policy` the last core runs guests too, and serves as a sidecore when the policy says so. `handlers` are by
    exit reason, `operations` what sidecores do, by number; `added` is what guests find beside the VMM's own;
    `observers` hear of every exit.
    """

    def __init__(
        self,
        pc: Pc,
        *,
        paging: str = "shadow",
        scheduler: Scheduler[VCpu] | None = None,
        sidecore_count: int = 0,
        poll: Poll = "spin",
        policy: Policy | None = None,
        jumps_spins: bool = True,
        handlers: Mapping[int, Handler] = EXIT_HANDLERS,
        added: Extensions | None = None,
        operations: Mapping[int, Operation] = OPERATIONS,
        observers: Sequence[ExitObserver] = (),
    ) -> None:
        self.pc = pc
        self.machine = machine = pc.machine
        if policy is not None and (sidecore_count or machine.pcpu_count < 2):
            raise ConfigError("a sidecore with a policy is one of two cores or more, and the only sidecore")
        core_count = machine.pcpu_count - sidecore_count
        self.scheduler: Scheduler[VCpu] = scheduler or PinnedScheduler(core_count)
        self._paging = PAGINGS[paging]
        self._capabilities = self._paging.capabilities()
        seats = Observers(observers)
        self.exit_handlers = handlers
        self.interrupts = HostInterrupts(pc, core_count)
        self.cores = [
            Core(pcpu, chip, self, self._capabilities, handlers, self.interrupts.handlers, seats)
            for pcpu, chip in zip(machine.pcpus[:core_count], pc.board.apics[:core_count], strict=True)
        ]
        for observer in observers:
            observer.seated(seats)
        self.shared_pages = SharedPages()
        self._jumps_spins = jumps_spins
        self.sidecores: Sidecores | None = None
        if sidecore_count or policy is not None:
            self.sidecores = Sidecores(
                pc,
                max(sidecore_count, 1),
                self.shared_pages,
                poll=poll,
                jumps=jumps_spins,
                is_served=policy is None,
                operations=operations,
            )
            for sidecore in self.sidecores.cores:
                sidecore.requests.core_of = self._core_of
        self.dynamic_sidecore: DynamicSidecore | None = None
        if policy is not None and self.sidecores is not None:
            self.dynamic_sidecore = DynamicSidecore(machine, self.cores, self.scheduler, self.sidecores, policy)
        self.vifs: Vifs | None = None  # with a NIC
        self.domains: list[Domain] = []
        self._scheduled: list[Domain] = []  # whose vCPUs the scheduler knows
        self.timer_cores: dict[EventQueue, Core] = {}
        self.extensions = extensions(self.sidecores, added)
        self._end_hpa = 0  # of the memory in use
        self._vcpus: dict[Domain, list[VCpu]] = {}
        dedicated = self.sidecores.cores if self.sidecores is not None and policy is None else []
        turns: list[Core | Sidecore] = [*self.cores, *dedicated]
        self.interleaver: Interleaver[Core | Sidecore] = Interleaver(machine, turns)

    def attach_nic(self, nic: Nic, *, signal: Signal = "interrupt", interrupt_core: int | None = 0) -> None:
        """Give out the virtual interfaces of `nic`, which is on the PC's PCI bus; once, before there are domains.

        `signal`: how the VMM hears of frames; `interrupt_core` takes the NIC's interrupt, None: one after the other.
        Raises ConfigError.
        """
        self.vifs = Vifs(
            self.pc,
            nic,
            self,
            interrupts=self.interrupts,
            core_count=len(self.cores),
            shared_pages=self.shared_pages,
            sidecores=self.sidecores,
            signal=signal,
            core=interrupt_core,
            jumps=self._jumps_spins,
        )
        add_hypercalls(self.extensions, hypercalls(self.vifs))

    # --- domains -----------------------------------------------------------------------------------------------------

    def create_domain(
        self,
        image: BootImage,
        *,
        memory_bytes: int,
        transmit: Callable[[int], None],
        vcpu_count: int = 1,
        weight: int = DEFAULT_WEIGHT,
        cores: Sequence[int] | None = None,
        devices: Sequence[PciDeviceMaker] = (),
        vif_mac: bytes | None = None,
        is_manager: bool = False,
        is_backend: bool = False,
    ) -> Domain:
        """A domain that boots `image`, runnable at once, on `cores` (numbers; None: on all).

        `transmit` gets each byte of its serial console; `devices` are made for its PCI bus, and behind them
        a virtual interface with `vif_mac`. A manager may give out those of others. Raises ConfigError when the machine
        has no room for it.
        """
        base_hpa = end_of_ram(_aligned(self._end_hpa), vmm_bytes(memory_bytes))
        memory = GuestMemory(self.machine.memory, base_hpa=base_hpa, size_bytes=memory_bytes)
        if memory.end_hpa > self.machine.memory.end_hpa:
            raise ConfigError(f"the machine has no room for a domain of {memory_bytes} bytes; give it more memory")
        allowed = range(len(self.cores)) if cores is None else cores
        pages = HostPages(self.machine.memory, _aligned(self._end_hpa), base_hpa)
        self._end_hpa = memory.end_hpa
        vcpus: list[VCpu] = []
        number = len(self.domains)
        if vif_mac is not None:
            if self.vifs is None:
                raise ConfigError("a virtual interface needs a NIC")
            devices = [*devices, self.vifs.add(number, memory, vcpus).make_function]
        domain = Domain(
            self.machine,
            memory=memory,
            dma=GuestDma(memory, vcpus, self),
            transmit=transmit,
            cpus=[self._pins(vcpus, index) for index in range(vcpu_count)],
            number=number,
            devices=devices,
        )
        domain.state_hpa = pages.allocate()
        domain.load(image)
        self._vcpus[domain] = vcpus
        bitmap_hpa = msr_bitmap(self.machine.memory, pages)
        for _ in range(vcpu_count):
            vcpus.append(self._create_vcpu(domain, pages, vcpus, image, bitmap_hpa))
        if is_backend and self.vifs is not None:
            add_hypercalls(self.extensions, self.vifs.set_backend(number).hypercalls())
        if vif_mac is not None and self.vifs is not None:
            vif = self.vifs.create(number, vif_mac)
            if vif < 0:
                raise ConfigError(f"the NIC has no room for MAC address {vif_mac.hex(':')}, or has it already")
        if is_manager and self.vifs is not None:
            self.vifs.managers.add(number)
        domain.on_end = partial(self._stop, domain)
        self.domains.append(domain)
        self._scheduled.append(domain)
        self._resume_samples()
        for vcpu in vcpus:
            core = self.scheduler.add(vcpu, group=domain, weight=weight, cores=allowed)
            if vcpu.is_blocked:
                self.scheduler.sleep(vcpu)
            else:
                self.cores[core].ask(None)
        return domain

    def _create_vcpu(
        self, domain: Domain, pages: HostPages, siblings: Sequence[VCpu], image: BootImage, bitmap_hpa: int
    ) -> VCpu:
        """The next vCPU: number 0 is about to run the image, any other waits for a SIPI."""
        number, memory, core = len(siblings), self.machine.memory, self.cores[0]
        engine = Engine(memory, core.pcpu.platform, owner=f"d{domain.number}v{number}")
        engine.shared.non_root = 1
        state_hpa = pages.allocate()
        paging = siblings[0].paging.sibling if siblings else self._paging.of_domain(domain, pages)
        vcpu = VCpu(
            domain,
            engine,
            number,
            core=core,
            capabilities=self._capabilities,
            paging=paging,
            siblings=siblings,
            state_hpa=state_hpa,
            extensions=self.extensions,
        )
        if number:
            write_init_state(engine, vcpu.vmcs)
            vcpu.is_blocked = vcpu.waits_for_start_up = True
        else:
            write_boot_state(engine, vcpu.vmcs, image)
        set_up_vmcs(vcpu, self._capabilities, bitmap_hpa)
        return vcpu

    def _pins(self, vcpus: list[VCpu], number: int) -> CpuPins:
        """What the board drives at vCPU `number`, which `vcpus` will hold."""
        return CpuPins(
            on_intr=lambda is_asserted: self._on_intr(vcpus[number], is_asserted),
            tsc_to_ps=lambda tsc: vcpus[number].tsc_to_ps(tsc),
            timers=EventQueue(),
            on_nmi=lambda: self._on_nmi(vcpus[number]),
            on_init=lambda: self._on_init(vcpus[number]),
            on_start_up=lambda vector: self.start_up(vcpus[number], vector),
        )

    def _stop(self, domain: Domain) -> None:
        """Let the domain's vCPUs execute nothing more. Called at any time, by a signal handler too."""
        for vcpu in self._vcpus[domain]:
            vcpu.engine.stop()
            vcpu.pcpu.waiting.end_spin(0)
        if self.vifs is not None and domain.end is not None:
            self.vifs.end(domain.number)

    def forget_ended(self) -> None:
        """Take the vCPUs of domains that have ended from the scheduler."""
        for domain in [domain for domain in self._scheduled if domain.end is not None]:
            self._scheduled.remove(domain)
            for vcpu in self._vcpus[domain]:
                self.scheduler.remove(vcpu)

    def vcpus_of(self, domain: Domain) -> Sequence[VCpu]:
        """The vCPUs of a domain, by number."""
        return self._vcpus[domain]

    # --- running -----------------------------------------------------------------------------------------------------

    def advance(self, limit_cycles: int, is_over: Callable[[], bool] | None = None) -> None:
        """Run until all clocks are at `limit_cycles`, `is_over()`, or only the outside could wake a core.

        Without `is_over` it is over when every domain has ended.
        """
        self.interleaver.advance(limit_cycles, is_over or self.is_over)

    def pause(self, domain: Domain) -> None:
        """Return from `advance` soon; called while `domain` runs. Nothing is half done then, and another goes on."""
        self.interleaver.pause()
        self._stop(domain)

    def meter_for(self, vcpu: VCpu) -> Meter:
        """The core whose turn it is pays; without one, that where the vCPU is."""
        if self.running is not None:
            return self.running.meter
        vcpu.pcpu.waiting.tell()
        return vcpu.meter

    def guest_memory_written(self, vcpu: VCpu, gpa: int, length_bytes: int) -> None:
        """A device has stored into the memory of this vCPU's domain: a sidecore may have to know."""
        if self.sidecores is not None:
            pcpu = vcpu.pcpu if self.running is None else self.running.pcpu
            self.sidecores.device_wrote(vcpu.domain, gpa, length_bytes, pcpu)

    def is_over(self) -> bool:
        """Whether every domain has ended."""
        return all(domain.end is not None for domain in self.domains)

    def _on_intr(self, vcpu: VCpu, is_asserted: bool) -> None:
        """The level of a virtual interrupt controller's output has changed."""
        vcpu.interrupt_request = vcpu.interrupt_request & UPCALL | is_asserted
        if is_asserted:
            self.kick(vcpu)

    def _on_nmi(self, vcpu: VCpu) -> None:
        """An NMI arrives; it ends a HLT even with interrupts off, but not in the handler of another."""
        vcpu.nmi_request = True
        if not vcpu.is_blocked or not vcpu.vmcs.read(f.GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_NMI:
            vcpu.is_parked = False
            self.kick(vcpu)

    def _on_init(self, vcpu: VCpu) -> None:
        """An INIT arrives (SDM 3A 8.4.1): the core that runs the vCPU next carries it out; in wait for SIPI nobody."""
        if vcpu.waits_for_start_up:
            return
        vcpu.init_request, vcpu.start_up_vector, vcpu.is_parked = True, None, False
        core = self._core_of(vcpu)
        if core is not None:
            core.ask(self.running)
        else:
            self.kick(vcpu)

    def start_up(self, vcpu: VCpu, vector: int) -> None:
        """A SIPI arrives: real mode at vector << 12, if the vCPU waits for one."""
        if vcpu.waits_for_start_up:
            vcpu.waits_for_start_up, vcpu.start_up_vector = False, None
            write_start_address(vcpu.vmcs, vector)
            self.kick(vcpu)
        elif vcpu.init_request:
            vcpu.start_up_vector = vector

    def _resume_samples(self) -> None:
        if self.dynamic_sidecore is not None:
            self.dynamic_sidecore.resume()

    @property
    def running(self) -> Sender | None:
        """The core whose turn it is; None: devices', or the outside's."""
        return self.interleaver.running

    def _core_of(self, vcpu: VCpu) -> Core | None:
        """The core that runs the vCPU: its guest, or an exit of it."""
        core = self.cores[vcpu.pcpu.number]
        return core if core.current is vcpu else None

    def kick(self, vcpu: VCpu) -> None:
        """The vCPU has something to take: wake it if it sleeps, let it exit if it runs on another core."""
        running = self.running
        if vcpu.waits_for_start_up or vcpu.is_parked:
            return
        if vcpu.is_blocked:
            if vcpu.domain.end is not None:
                return  # its devices go on; the scheduler may have forgotten it
            vcpu.is_blocked = False
            self._resume_samples()
            if running is not None:
                running.meter.follow(paths.WAKE)
            for number in self.scheduler.wake(vcpu):
                self.cores[number].ask(running)
            return
        core = self._core_of(vcpu)
        if core is not None and core is not running:
            core.interrupt(running)
