"""A host with a NIC and guests whose driver is a few lines of assembly.

0x1000 PML4 | 0x2000 PDPT | 0x3000 PD | 0x4000 PT: identity below 2 MiB | 0x5000 PD of the VIF function's registers
0x6000 GDT | 0x7000 IDT | 0x9000 top of the stack | 0x10000 the VIF page | 0x100000 the program | 0x300000 buffers
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from devices.nic.board import load_board
from devices.nic.nic import Nic
from devices.pc import Pc
from emulator.events import EventQueue
from emulator.machine import Machine
from emulator.profiles.profile import load_profile
from emulator.timing.fidelity import Fidelity
from tests.emulator.engine.rig import assemble
from tests.guest.hostile_guest import GDT, entries
from vmm.boot.loaders import BootImage
from vmm.domain import Domain
from vmm.hypervisor import Hypervisor, host_memory_bytes
from vmm.nic.registry import Signal
from vmm.scheduler import Scheduler
from vmm.scheduler.credit import DEFAULT_WEIGHT
from vmm.session.observe.statistics import ExitStatistics
from vmm.sidecore.policy import Policy
from vmm.sidecore.poll import Poll
from vmm.vcpu import VCpu

MEMORY_BYTES = 4 << 20
PAGE, PROGRAM, BUFFERS, REGISTERS = 0x10000, 0x100000, 0x300000, 0xE000_0000
VECTOR = 0x60
PS_PER_US = 10**6
PS_PER_MS = 10**9
END = "xor eax, eax\n out 0xf4, al\n jmp ."

ATTACH = f"""
    mov rbx, {REGISTERS:#x}
    mov dword ptr [rbx + 0x10], {PAGE}
    mov dword ptr [rbx + 0x1c], {VECTOR}
    mov edi, {PAGE + 2048}
    mov eax, {BUFFERS}
    mov ecx, 64
1:  mov [rdi], rax
    mov dword ptr [rdi + 8], 2048
    mov dword ptr [rdi + 12], 1
    add rdi, 16
    add eax, 2048
    dec ecx
    jnz 1b
    mov dword ptr [rbx + 0x18], 1
    xor r12d, r12d
    xor r13d, r13d
"""
# The descriptor at RAX is given back, and the next one is looked at. R13 counts frames.
GIVE_BACK = f"""
    mov dword ptr [rax + {PAGE + 2048 + 8}], 2048
    mov dword ptr [rax + {PAGE + 2048 + 12}], 1
    inc r12d
    and r12d, 63
    inc r13d
"""
# The upcall: masked, take what is DONE and give it back, unmask, look once more. R13 counts frames.
HANDLER = f"""
7:  mov dword ptr [{PAGE + 4}], 1
8:  mov eax, r12d
    shl eax, 4
    cmp dword ptr [rax + {PAGE + 2048 + 12}], 2
    jne 9f
    {GIVE_BACK}
    jmp 8b
9:  mov dword ptr [{PAGE}], 0
    mov dword ptr [{PAGE + 4}], 0
    cmp dword ptr [rax + {PAGE + 2048 + 12}], 2
    je 7b
    iretq
"""


def receiver(frames: int, *, waits: str = "sti\n hlt\n cli") -> str:
    """A guest that ends when it has taken so many frames."""
    return f"{ATTACH}\n2: {waits}\n cmp r13d, {frames}\n jb 2b\n {END}\n {HANDLER}"


def sender(frames: int, destination: bytes) -> str:
    """A guest that sends so many frames of 64 bytes, and then ends when the last is DONE."""
    head = int.from_bytes(destination + b"\x02\x00", "little")
    return f"""
    {ATTACH}
    mov rax, {head:#x}
    mov [0x40000], rax
    mov edi, {PAGE + 1024}
    mov ecx, {frames}
3:  mov qword ptr [rdi], 0x40000
    mov dword ptr [rdi + 8], 64
    mov dword ptr [rdi + 12], 1
    add rdi, 16
    dec ecx
    jnz 3b
4:  pause
    cmp dword ptr [rdi - 4], 2
    jne 4b
    {END}
    {HANDLER}
    """


def image(program: str) -> BootImage:
    """An image that runs `program`, whose label 7 is the handler of VECTOR."""
    idt = f"""
    mov esp, 0x9000
    lea rdi, [rip + 7f]
    mov word ptr [{0x7000 + 16 * VECTOR}], di
    mov word ptr [{0x7000 + 16 * VECTOR + 2}], 0x10
    mov word ptr [{0x7000 + 16 * VECTOR + 4}], 0x8e00
    shr rdi, 16
    mov word ptr [{0x7000 + 16 * VECTOR + 6}], di
    mov word ptr [0x8000], 0xfff
    mov qword ptr [0x8002], 0x7000
    lidt [0x8000]
    """
    return BootImage(
        segments=(
            (0x1000, entries(0x2067)),
            (0x2000, entries(0x3067, 0, 0, 0x5067)),
            (0x3000, entries(0x4067)),
            (0x4000, entries(*(page << 12 | 0x67 for page in range(512)))),
            (0x5000 + 8 * 256, entries(REGISTERS | 0xE7)),
            (0x5000 + 8 * 503, entries(0xFEE000E7)),
            (0x6000, entries(*GDT)),
            (PROGRAM, assemble(idt + program, 64, PROGRAM)),
        ),
        entry_gpa=PROGRAM,
        registers={},
        cr3_gpa=0x1000,
        gdt_gpa=0x6000,
        gdt_limit=8 * len(GDT) - 1,
        description="a guest with a VIF",
    )


class End:
    """The end of the NIC's wire, with nobody at the other: what was sent is kept."""

    def __init__(self, events: EventQueue) -> None:
        self.on_receive: Callable[[bytes], None] | None = None
        self.sent: list[bytes] = []
        self._events = events

    def send(self, frame: bytes, _now_ps: int) -> bool:
        self.sent.append(frame)
        return True

    def arrive(self, when_ps: int, frame: bytes) -> None:
        """Let a frame come."""
        self._events.schedule(when_ps, partial(self._arrive, frame))

    def _arrive(self, frame: bytes) -> None:
        assert self.on_receive is not None
        self.on_receive(frame)


def mac_of(number: int) -> bytes:
    """The address of the guest with this number."""
    return bytes((2, 0x5C, 0, 0, 0, number))


def frame_to(number: int, text: bytes = b"") -> bytes:
    """A frame for the guest with this number."""
    return (mac_of(number) + mac_of(99) + b"\x88\xb5" + text).ljust(60, b"\0")


@dataclass
class Rig:
    """The host, its NIC and its domains."""

    hypervisor: Hypervisor
    nic: Nic
    end: End
    statistics: ExitStatistics
    domains: list[Domain] = field(default_factory=list)

    @property
    def machine(self) -> Machine:
        return self.hypervisor.machine

    def add(
        self,
        program: str,
        *,
        vcpus: int = 1,
        cores: Sequence[int] | None = None,
        weight: int = DEFAULT_WEIGHT,
        is_manager: bool = False,
    ) -> Domain:
        """A guest with a VIF."""
        domain = self.hypervisor.create_domain(
            image(program),
            memory_bytes=MEMORY_BYTES,
            transmit=_drop,
            vcpu_count=vcpus,
            cores=cores,
            weight=weight,
            vif_mac=mac_of(len(self.domains)),
            is_manager=is_manager,
        )
        self.domains.append(domain)
        return domain

    def vcpu(self, number: int) -> VCpu:
        return self.hypervisor.vcpus_of(self.domains[number])[0]

    def run(self, until_ps: int) -> None:
        self.hypervisor.advance(self.machine.timeline.ps_to_cycles(until_ps))

    def exits(self, number: int) -> dict[str, int]:
        """How many VM exits a guest has had, by reason."""
        return {name: stats["count"] for name, stats in self.statistics.table(self.domains[number]).items()}

    def counts(self, number: int) -> dict[str, int]:
        """What the event channel of a guest has counted."""
        assert self.hypervisor.vifs is not None
        counts: dict[str, int] = self.hypervisor.vifs.stats()["domains"][number]
        return counts


def _drop(_byte: int) -> None:
    pass


def make_rig(
    paging: str = "ept",
    *,
    guests: int = 1,
    cores: int = 1,
    sidecores: int = 0,
    profile: str = "netburst-2006",
    signal: Signal = "interrupt",
    identifier_bits: int = 8,
    interrupt_core: int | None = 0,
    scheduler: Scheduler[VCpu] | None = None,
    poll: Poll = "spin",
    policy: Policy | None = None,
    jumps_spins: bool = True,
    fills_caches: bool = False,
    timing: Fidelity = "fast",
    overrides: Sequence[str] = (),
) -> Rig:
    """A host of `cores` cores, the sidecores among them, with room for `guests`."""
    machine = Machine(
        load_profile(profile, (f"core.core_count={cores}", *overrides)),
        memory_bytes=host_memory_bytes([MEMORY_BYTES] * guests),
        pcpu_count=cores,
        timing=timing,
    )
    signals = {"sidecore": "none" if policy is None else "interrupt", "posted": "msix"}.get(signal, signal)
    make_nic = partial(
        Nic, board=load_board(), identifier_bits=identifier_bits, signals=signals, fills_caches=fills_caches
    )
    pc = Pc(machine, devices=[make_nic])
    statistics = ExitStatistics()
    hypervisor = Hypervisor(
        pc,
        observers=[statistics],
        paging=paging,
        scheduler=scheduler,
        sidecore_count=sidecores,
        poll=poll,
        policy=policy,
        jumps_spins=jumps_spins,
    )
    nic = pc.board.pci_devices[0]
    assert isinstance(nic, Nic)
    hypervisor.attach_nic(nic, signal=signal, interrupt_core=interrupt_core)
    end = End(machine.events)
    nic.connect(end)
    return Rig(hypervisor, nic, end, statistics)
