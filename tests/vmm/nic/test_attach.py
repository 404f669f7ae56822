"""A guest may ask for any page: it gets what is its RAM and shared with nobody else, and everything else is refused."""

import pytest

from tests.vmm.nic.rig import END, PAGE, PS_PER_MS, REGISTERS, Rig, frame_to, make_rig, receiver
from vmm.outcome import EndKind
from vmm.sidecore import abi

DETACHED, ATTACHED, REFUSED = 0, 1, 2
SHARED_WITH_SIDECORE = f"mov eax, {abi.CALL_REGISTER}\n mov edi, {PAGE}\n mov esi, 4\n vmcall"


def attach(gpa: int) -> str:
    return f"""
    mov rbx, {REGISTERS:#x}
    mov rax, {gpa}
    mov [rbx + 0x10], rax
    mov dword ptr [rbx + 0x18], 1
    """


def status(program: str, until_ms: int = 5) -> tuple[int, Rig]:
    """What the guest reads of its interface after all that; it ends with it."""
    rig = make_rig("ept", cores=2, sidecores=1, signal="sidecore")
    domain = rig.add(f"{program}\n mov eax, [rbx + 0x18]\n out 0xf4, al\n jmp .\n7: iretq")
    rig.run(until_ms * PS_PER_MS)
    assert domain.end is not None
    assert domain.end.kind is EndKind.DEBUG_EXIT
    return domain.end.value, rig


@pytest.mark.parametrize("gpa", [PAGE, 0, 0x3FF000])
def test_a_page_of_ram_is_attached(gpa: int) -> None:
    assert status(attach(gpa))[0] == ATTACHED


@pytest.mark.parametrize("gpa", [PAGE + 8, PAGE + 1, 0x400000, 0xFEE00000, REGISTERS, (1 << 64) - 4096, 1 << 63])
def test_what_is_no_page_of_ram_is_refused(gpa: int) -> None:
    value, rig = status(attach(gpa))
    assert value == REFUSED
    assert not any(rig.vcpu(0).shared.watched_hpas)


def test_a_page_of_sidecalls_cannot_be_a_vifs_but_the_next_one_can() -> None:
    assert status(SHARED_WITH_SIDECORE + attach(PAGE))[0] == DETACHED
    assert status(SHARED_WITH_SIDECORE + attach(PAGE + 4096))[0] == ATTACHED


def test_a_vifs_page_cannot_be_one_of_sidecalls() -> None:
    program = attach(PAGE) + SHARED_WITH_SIDECORE + "\n cmp eax, -17\n jne .\n"
    assert status(program)[0] == ATTACHED


def test_who_attaches_again_has_the_new_page_only_and_who_detaches_has_none() -> None:
    detach = "mov dword ptr [rbx + 0x18], 0"
    rig = make_rig("ept")
    domain = rig.add(f"{attach(PAGE)}\n {attach(0x12000)}\n {END}\n7: iretq")
    rig.run(5 * PS_PER_MS)
    assert domain.end is not None
    value, after = status(f"{attach(PAGE)}\n {detach}")
    assert value == DETACHED
    assert not any(after.vcpu(0).shared.watched_hpas)


def test_a_thousand_attachments_leave_nothing_behind() -> None:
    loop = f"mov ebp, 1000\n 4: {attach(PAGE)}\n mov dword ptr [{PAGE + 1036}], 1\n dec ebp\n jnz 4b"
    value, rig = status(loop, 100)
    assert value == ATTACHED
    assert rig.hypervisor.sidecores is not None
    assert len(rig.hypervisor.sidecores.cores[0].pages) == 1


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_every_processor_of_the_guest_accesses_the_page_in_order_of_time(paging: str) -> None:
    rig = make_rig(paging, cores=2)
    domain = rig.add(receiver(1), vcpus=2)
    rig.end.arrive(5 * PS_PER_MS, frame_to(0))
    rig.run(4 * PS_PER_MS)
    hpas = [vcpu.shared.watched_hpas[0] for vcpu in rig.hypervisor.vcpus_of(domain)]
    assert hpas == [domain.hpa_of(PAGE)] * 2
    rig.run(10 * PS_PER_MS)
    assert domain.end is not None
    assert domain.end.kind is EndKind.DEBUG_EXIT
