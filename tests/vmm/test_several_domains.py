"""Claims about several domains on one machine: who gets the cores, how long a wake takes, that nobody disturbs others.

The machine has a slow clock, 100 MHz, so that a slice of 30 ms is 3 million cycles.
"""

import pytest

from devices.pc import Pc
from devices.pci.edu import Edu
from emulator.errors import ConfigError
from emulator.ledger import Category
from emulator.machine import Machine
from emulator.profiles.profile import load_profile
from guest_images.kernels import build_kernel
from tests.guest.hostile_guest import MEMORY_BYTES, make_image
from vmm.boot.loaders import load
from vmm.domain import Domain
from vmm.hypervisor import Hypervisor, host_memory_bytes
from vmm.outcome import End, EndKind
from vmm.scheduler.credit import CreditScheduler
from vmm.vcpu import VCpu

PROFILE = load_profile("netburst-2006", ("core.frequency_hz=100_000_000",))
CYCLES_PER_MS = 100_000
COUNT_GPA = 0x9000

SPIN = "1: .rept 100\n nop\n .endr\n jmp 1b"
COUNT_TICKS = f"""
    lea rax, [rip + handler]
    mov word ptr [0x7200], ax
    mov dword ptr [0x7202], 0x8e000010
    shr rax, 16
    mov word ptr [0x7206], ax
    mov qword ptr [0x7208], 0
    lidt [rip + idtr]
    mov al, 0x11
    out 0x20, al
    mov al, 0x20
    out 0x21, al
    mov al, 4
    out 0x21, al
    mov al, 1
    out 0x21, al
    mov al, 0xfe
    out 0x21, al
    mov al, 0x34
    out 0x43, al
    mov al, 0x9c
    out 0x40, al
    mov al, 0x2e
    out 0x40, al
    sti
2:  hlt
    jmp 2b
handler:
    push rax
    inc qword ptr [{COUNT_GPA}]
    mov al, 0x20
    out 0x20, al
    pop rax
    iretq
idtr: .word 0xfff
    .quad 0x7000
"""  # the PIT's period is 0x2e9c / 1193182 s = 10 ms
END = "mov al, 3\n out 0xf4, al\n 1: jmp 1b"


class Host:
    """A machine with domains."""

    def __init__(
        self,
        *programs: str,
        cores: int = 1,
        weights: tuple[int, ...] = (),
        has_boost: bool = False,
        paging: str = "ept",
    ) -> None:
        memory_bytes = host_memory_bytes([MEMORY_BYTES] * len(programs))
        self.machine = Machine(PROFILE, memory_bytes=memory_bytes, pcpu_count=cores)
        scheduler: CreditScheduler[VCpu] = CreditScheduler(cores, has_boost=has_boost)
        self.hypervisor = Hypervisor(Pc(self.machine), paging=paging, scheduler=scheduler)
        self.output = [bytearray() for _ in programs]
        self.domains: list[Domain] = []
        for number, program in enumerate(programs):
            domain = self.hypervisor.create_domain(
                make_image(program),
                memory_bytes=MEMORY_BYTES,
                transmit=self.output[number].append,
                weight=weights[number] if weights else 256,
            )
            self.domains.append(domain)

    def run(self, ms: int) -> "Host":
        self.hypervisor.advance(ms * CYCLES_PER_MS)
        for pcpu in self.machine.pcpus:
            pcpu.clock.check_ledger()
        return self

    def guest_ms(self, number: int) -> float:
        """Time that a domain's own instructions got."""
        cycles = 0
        for pcpu in self.machine.pcpus:
            accounts = pcpu.clock.book().accounts
            cycles += sum(sum(account) for (owner, _), account in accounts.items() if owner == f"d{number}v0")
        return cycles / CYCLES_PER_MS

    def ticks(self, number: int) -> int:
        return int.from_bytes(self.domains[number].read(COUNT_GPA, 8), "little")


def test_busy_domains_share_a_core_by_weight() -> None:
    host = Host(SPIN, SPIN, weights=(512, 256)).run(1800)
    assert host.guest_ms(0) / host.guest_ms(1) == pytest.approx(2, abs=0.1)
    idle = host.machine.pcpus[0].clock.ledger.cycles[Category.IDLE]
    assert idle == 0


def test_three_domains_on_two_cores_use_both_whole() -> None:
    host = Host(SPIN, SPIN, SPIN, cores=2).run(900)
    shares = [host.guest_ms(number) for number in range(3)]
    assert sum(shares) == pytest.approx(1800, rel=0.01)
    assert min(shares) > 500
    assert all(pcpu.clock.ledger.cycles[Category.IDLE] == 0 for pcpu in host.machine.pcpus)


def test_a_sleeping_domain_leaves_the_core_idle_and_loses_no_tick() -> None:
    host = Host(COUNT_TICKS, COUNT_TICKS).run(500)
    assert host.ticks(0) in (49, 50)
    assert host.ticks(1) in (49, 50)
    assert host.machine.pcpus[0].clock.ledger.cycles[Category.IDLE] > 450 * CYCLES_PER_MS


def test_with_boost_a_woken_domain_preempts_a_busy_one_at_once() -> None:
    plain = Host(SPIN, COUNT_TICKS).run(600)
    boosted = Host(SPIN, COUNT_TICKS, has_boost=True).run(600)
    assert boosted.ticks(1) in range(57, 61)
    assert plain.ticks(1) < boosted.ticks(1)  # it waits for the end of a slice as long as both are UNDER
    assert boosted.guest_ms(0) > 550


def test_the_end_of_one_domain_leaves_its_core_to_the_others() -> None:
    host = Host(END, SPIN).run(300)
    end = host.domains[0].end
    assert end is not None
    assert end.kind is EndKind.DEBUG_EXIT
    assert host.domains[1].end is None
    assert host.guest_ms(1) > 295


def test_a_domain_that_is_ended_while_it_sleeps_is_not_woken_by_its_devices() -> None:
    host = Host(COUNT_TICKS, COUNT_TICKS).run(55)
    host.domains[0].finish(End(EndKind.QUIT))
    host.hypervisor.forget_ended()  # as the next decision of a core does
    host.run(300)
    assert host.ticks(0) in (5, 6)
    assert host.ticks(1) in (29, 30)


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_what_a_domain_does_to_memory_it_has_not_reaches_nobody(paging: str) -> None:
    """The first domain stores beyond its memory, where on the host the second's lies."""
    stray = f"""
        mov qword ptr [0x4000], {0x67 | MEMORY_BYTES}
        mov rax, cr3
        mov cr3, rax
        mov rcx, 512
        xor edi, edi
        mov rax, -1
        rep stosq
        {END}
    """
    host = Host(stray, SPIN, paging=paging)
    second = host.domains[1]
    before = second.read(0, MEMORY_BYTES)
    host.run(100)
    assert host.domains[0].end is not None
    assert host.domains[0].end.kind is EndKind.DEBUG_EXIT
    assert second.base_hpa > host.domains[0].base_hpa + MEMORY_BYTES
    assert second.read(0, MEMORY_BYTES) == before
    assert second.end is None


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_domains_together_may_have_more_than_4_gib(paging: str) -> None:
    """The VMM's own pages for the third, page tables with their roots among them, lie above 4 GiB."""
    sizes = [2 << 30, 1 << 30, 5 << 30]
    machine = Machine(PROFILE, memory_bytes=host_memory_bytes(sizes), pcpu_count=1)
    hypervisor = Hypervisor(Pc(machine), paging=paging, scheduler=CreditScheduler(1))
    output = [bytearray() for _ in sizes]
    for size, name, sent in zip(sizes, ("paging_map_unmap", "paging_cr3_switch", "high_memory"), output, strict=True):
        image = load(build_kernel(name), memory_bytes=size)
        hypervisor.create_domain(image, memory_bytes=size, transmit=sent.append, devices=[Edu])
    assert hypervisor.domains[2].state_hpa > 1 << 32
    hypervisor.advance(3_000 * CYCLES_PER_MS)
    assert all(b"\nPASS: all" in sent for sent in output), output


def test_each_domain_has_its_own_console() -> None:
    def say(letter: str) -> str:
        return f"mov dx, 0x3f8\n mov al, '{letter}'\n out dx, al\n{END}"

    host = Host(say("a"), say("b")).run(100)
    assert [bytes(text) for text in host.output] == [b"a", b"b"]


def accounts(host: Host) -> list[dict[tuple[str, str], list[int]]]:
    return [pcpu.clock.book().accounts for pcpu in host.machine.pcpus]


def test_slices_change_nothing() -> None:
    programs = (SPIN, COUNT_TICKS, COUNT_TICKS, SPIN)
    whole = Host(*programs, cores=2).run(200)
    sliced = Host(*programs, cores=2)
    for limit in range(0, 200 * CYCLES_PER_MS, 777_777):
        sliced.hypervisor.advance(limit)
    sliced.run(200)
    assert accounts(sliced) == accounts(whole)
    assert [pcpu.clock.cycles for pcpu in sliced.machine.pcpus] == [pcpu.clock.cycles for pcpu in whole.machine.pcpus]
    assert [sliced.ticks(number) for number in (1, 2)] == [whole.ticks(number) for number in (1, 2)]


def test_without_a_scheduler_each_vcpu_needs_a_core() -> None:
    machine = Machine(PROFILE, memory_bytes=host_memory_bytes([MEMORY_BYTES] * 2))
    hypervisor = Hypervisor(Pc(machine))
    hypervisor.create_domain(make_image(SPIN), memory_bytes=MEMORY_BYTES, transmit=lambda _byte: None)
    with pytest.raises(ConfigError, match="more virtual CPUs than cores"):
        hypervisor.create_domain(make_image(SPIN), memory_bytes=MEMORY_BYTES, transmit=lambda _byte: None)


def test_a_machine_without_room_for_a_domain_says_so() -> None:
    hypervisor = Hypervisor(Pc(Machine(PROFILE, memory_bytes=host_memory_bytes([MEMORY_BYTES]) - 4096)))
    with pytest.raises(ConfigError, match="no room for a domain"):
        hypervisor.create_domain(make_image(SPIN), memory_bytes=MEMORY_BYTES, transmit=lambda _byte: None)
