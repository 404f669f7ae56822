"""Where the guest is when its signal comes: asleep, on the core that took the interrupt, on another, behind others."""

import pytest

from devices.pci.msi import ADDRESS, CONTROL, DATA, ENABLE
from tests.vmm.nic.rig import PAGE, PS_PER_MS, REGISTERS, Rig, frame_to, make_rig, receiver
from vmm.nic.registry import Signal
from vmm.outcome import End, EndKind
from vmm.scheduler.credit import CreditScheduler

DONE = End(EndKind.DEBUG_EXIT, 0)
BUSY = "sti\n nop\n nop"  # a guest that computes, interrupts on
COMPUTES = "nop\n nop"  # interrupts are on already
SPINS = "1: jmp 1b\n7: iretq"
FRAMES = 3


def feed(rig: Rig, frames: int = FRAMES, number: int = 0, from_ms: int = 20) -> None:
    for frame in range(frames):
        rig.end.arrive((from_ms + frame) * PS_PER_MS, frame_to(number))


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_a_guest_that_runs_where_the_interrupt_comes_is_called_on_the_way_back(paging: str) -> None:
    rig = make_rig(paging)
    domain = rig.add(receiver(FRAMES, waits=BUSY))
    feed(rig)
    rig.run(40 * PS_PER_MS)
    assert domain.end == DONE
    counts = rig.counts(0)
    assert (counts["upcalls"], counts["schedulings"]) == (FRAMES, 0)
    assert rig.machine.pcpus[0].interrupts.is_asserted is False


@pytest.mark.parametrize("waits", ["sti\n hlt\n cli", BUSY])
@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_a_guest_on_another_core_gets_it_by_an_ipi(paging: str, waits: str) -> None:
    rig = make_rig(paging, guests=2, cores=2)
    other = rig.add(SPINS)
    domain = rig.add(receiver(FRAMES, waits=waits))
    feed(rig, number=1)
    rig.run(40 * PS_PER_MS)
    assert (domain.end, other.end) == (DONE, None)
    assert rig.counts(1)["upcalls"] == FRAMES


def test_a_guest_with_interrupts_off_is_called_when_they_are_on() -> None:
    rig = make_rig("ept")
    work = f"cli\n mov ecx, 60000000\n 5: dec ecx\n jnz 5b\n cmp dword ptr [{PAGE}], 1\n jne .\n sti\n nop\n cli"
    domain = rig.add(receiver(1, waits=work))
    feed(rig, 1)
    rig.run(60 * PS_PER_MS)
    assert domain.end == DONE


def test_a_guest_behind_another_is_called_when_it_gets_the_core() -> None:
    rig = make_rig("ept", guests=2, scheduler=CreditScheduler(1))
    rig.add(SPINS)
    domain = rig.add(receiver(FRAMES, waits=BUSY))
    feed(rig, number=1, from_ms=62)  # slices have 30 ms, the first is the other's
    rig.run(95 * PS_PER_MS)
    assert domain.end == DONE


def test_frames_that_come_while_the_guest_looks_are_no_upcalls() -> None:
    """Masked all the time: the guest polls `pending` itself."""
    polls = f"""
    mov dword ptr [{PAGE + 4}], 1
    3: mov ecx, 20000
    5: dec ecx
    jnz 5b
    mov eax, r12d
    shl eax, 4
    cmp dword ptr [rax + {PAGE + 2048 + 12}], 2
    jne 3b
    inc r12d
    inc r13d
    mov dword ptr [{PAGE}], 0
    """
    rig = make_rig("ept")
    domain = rig.add(receiver(FRAMES, waits=polls))
    feed(rig)
    rig.run(40 * PS_PER_MS)
    assert domain.end == DONE
    counts = rig.counts(0)
    assert (counts["signals"], counts["masked"], counts["upcalls"]) == (FRAMES, FRAMES, 0)


def test_a_guest_that_never_looks_has_one_upcall_and_the_rest_is_merged() -> None:
    rig = make_rig("ept")
    rig.add(receiver(1).replace("7:  mov", "7: jmp 7b\n mov"))
    feed(rig, 4)
    rig.run(40 * PS_PER_MS)
    counts = rig.counts(0)
    assert (counts["signals"], counts["upcalls"], counts["merged"]) == (4, 1, 3)


def test_the_interrupt_goes_round_the_cores() -> None:
    rig = make_rig("ept", guests=3, cores=3, interrupt_core=None)
    for _ in range(3):
        rig.add(SPINS if rig.domains else receiver(6))
    feed(rig, 6)
    rig.run(40 * PS_PER_MS)
    assert rig.domains[0].end == DONE
    assert [rig.exits(number)["EXTERNAL_INTERRUPT"] > 0 for number in (1, 2)] == [True, True]


MSI_SET_UP = f"""
    mov dx, 0xcf8
    mov eax, {0x8000_0000 | 2 << 11 | 4:#x}
    out dx, eax
    mov dx, 0xcfc
    mov eax, 6
    out dx, eax
    mov dx, 0xcf8
    mov eax, {0x8000_0000 | 2 << 11 | 0x40 + ADDRESS:#x}
    out dx, eax
    mov dx, 0xcfc
    mov eax, 0xfee00000
    out dx, eax
    mov dx, 0xcf8
    mov eax, {0x8000_0000 | 2 << 11 | 0x40 + DATA:#x}
    out dx, eax
    mov dx, 0xcfc
    mov eax, 0x60
    out dx, eax
    mov dx, 0xcf8
    mov eax, {0x8000_0000 | 2 << 11 | 0x40:#x}
    out dx, eax
    mov dx, {0xCFC + CONTROL:#x}
    mov ax, {ENABLE}
    out dx, ax
    mov dword ptr [{REGISTERS + 0x1C:#x}], 0
"""


@pytest.mark.parametrize("signal", ["interrupt", "sidecore", "msix"])
def test_without_an_upcall_vector_the_guest_gets_an_msi(signal: Signal) -> None:
    sidecores = int(signal == "sidecore")
    rig = make_rig("ept", cores=1 + sidecores, sidecores=sidecores, signal=signal)
    set_up = MSI_SET_UP.replace(f"[{REGISTERS + 0x1C:#x}]", "[rbx + 0x1c]")
    program = receiver(FRAMES).replace("2: sti", "mov rbp, 0xfee00000\n mov dword ptr [rbp + 0xf0], 0x1ff\n 2: sti", 1)
    program = program.replace("xor r12d", set_up + "\n xor r12d", 1)
    program = program.replace("iretq", "mov dword ptr [rbp + 0xb0], 0\n iretq")
    domain = rig.add(program)
    feed(rig)
    rig.run(40 * PS_PER_MS)
    assert domain.end == DONE
    counts = rig.counts(0)
    assert (counts["signals"], counts["upcalls"], counts["schedulings"]) == (FRAMES, FRAMES, FRAMES)


@pytest.mark.parametrize(("profile", "is_posted"), [("haswell", True), ("netburst-2006", False)])
@pytest.mark.parametrize("waits", ["sti\n hlt\n cli", COMPUTES])
@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_a_posted_interrupt_exits_where_the_guest_does_not_run_or_the_processor_has_none(
    paging: str, waits: str, profile: str, is_posted: bool
) -> None:
    rig = make_rig(paging, profile=profile, signal="posted")
    domain = rig.add(receiver(FRAMES, waits=waits).replace("2: ", "sti\n 2: ", 1))
    feed(rig)
    rig.run(40 * PS_PER_MS)
    assert domain.end == DONE
    counts = rig.counts(0)
    assert (counts["signals"], counts["upcalls"], counts["redundant"]) == (FRAMES, FRAMES, 0)
    assert rig.exits(0).get("EXTERNAL_INTERRUPT", 0) == (FRAMES if waits == COMPUTES and not is_posted else 0)


def test_a_posted_interrupt_with_interrupts_off_waits_until_they_are_on() -> None:
    rig = make_rig("ept", profile="haswell", signal="posted")
    work = f"cli\n mov ecx, 60000000\n 5: dec ecx\n jnz 5b\n cmp dword ptr [{PAGE}], 1\n jne .\n sti\n nop\n cli"
    domain = rig.add(receiver(1, waits=work))
    feed(rig, 1, from_ms=5)
    rig.run(60 * PS_PER_MS)
    assert domain.end == DONE
