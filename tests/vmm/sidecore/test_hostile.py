"""A guest may put anything into its slots: it gets an answer or ends, and nobody else notices."""

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from devices.pc import Pc
from emulator.machine import Machine
from emulator.profiles.profile import load_profile
from tests.guest.hostile_guest import MEMORY_BYTES, make_image
from vmm.boot.loaders import BootImage
from vmm.hypervisor import Hypervisor, host_memory_bytes
from vmm.sidecore import abi
from vmm.sidecore.operations import OPERATIONS, Operation

PAGE, REQUESTS_GPA, SLOTS = 0x10000, 0x20000, 4
REQUESTS = 200
UNUSED_GPA, UNUSED_ENTRY_GPA = 0x200000, 0x4000 + 8 * 400
SPIN = "1: jmp 1b"
POST_ALL = f"""
    mov eax, {abi.CALL_REGISTER}
    mov edi, {PAGE}
    mov esi, {SLOTS}
    vmcall
    xor ebx, ebx
2:  mov esi, ebx
    shl esi, 6
    add esi, {REQUESTS_GPA}
    mov edi, ebx
    and edi, {2 * SLOTS - 1}
    shl edi, 6
    add edi, {PAGE}
    mov edx, edi
    mov ecx, 8
    rep movsq
    mov ecx, 100
3:  mov eax, [rdx]
    cmp eax, {abi.POSTED}
    jne 4f
    pause
    dec ecx
    jnz 3b
4:  inc ebx
    cmp ebx, {REQUESTS}
    jne 2b
    mov al, 0
    out 0xf4, al
    jmp .
"""


def random_request(dice: random.Random) -> bytes:
    """64 bytes: noise, or something that looks like a request."""
    if dice.random() < 0.2:
        return dice.randbytes(abi.SLOT_BYTES)
    state = dice.choice((abi.POSTED, abi.POSTED, abi.POSTED | abi.CLOSED, abi.DONE, dice.getrandbits(32)))
    operation = dice.choice((0, 1, 2, 3, 2, 3, dice.getrandbits(32)))
    gpas = (dice.randrange(UNUSED_GPA, MEMORY_BYTES, 8), dice.randrange(1, MEMORY_BYTES, 8), 1 << 63, UNUSED_ENTRY_GPA)
    entries = (dice.randrange(0, MEMORY_BYTES, 4096) | 0x67, dice.getrandbits(64), MEMORY_BYTES | 0x67, 0)
    words = [dice.choice(gpas), dice.choice(entries), dice.getrandbits(64)]
    header = b"".join(word.to_bytes(4, "little") for word in (state, dice.getrandbits(32), operation, 0))
    return header + b"".join(word.to_bytes(8, "little") for word in words) + bytes(24)


def two_domains(image: BootImage, paging: str, operations: Mapping[int, Operation] = OPERATIONS) -> Hypervisor:
    profile = load_profile("netburst-2006", ("core.core_count=3",))
    machine = Machine(profile, memory_bytes=host_memory_bytes([MEMORY_BYTES] * 2), pcpu_count=3)
    hypervisor = Hypervisor(Pc(machine), paging=paging, sidecore_count=1, operations=operations)
    for boot_image in (image, make_image(SPIN)):
        hypervisor.create_domain(boot_image, memory_bytes=MEMORY_BYTES, transmit=lambda _byte: None)
    return hypervisor


@pytest.mark.parametrize("paging", ["shadow", "ept"])
@pytest.mark.parametrize("seed", range(6))
def test_any_request_is_answered_and_reaches_nobody_else(seed: int, paging: str) -> None:
    dice = random.Random(seed)
    image = make_image(POST_ALL)
    requests = b"".join(random_request(dice) for _ in range(REQUESTS))
    hypervisor = two_domains(replace(image, segments=(*image.segments, (REQUESTS_GPA, requests))), paging)
    first, second = hypervisor.domains
    before = second.read(0, MEMORY_BYTES)
    hypervisor.advance(5_000_000, lambda: first.end is not None)
    assert hypervisor.sidecores is not None
    page = hypervisor.sidecores.page_of(first)
    assert page is not None
    assert page.counts.requests > 20
    assert page.counts.errors > 10
    assert second.end is None
    assert second.read(0, MEMORY_BYTES) == before
    for pcpu in hypervisor.machine.pcpus:
        pcpu.clock.check_ledger()
    view = hypervisor.vcpus_of(first)[0].paging
    if paging == "shadow":
        low, high = first.base_hpa, first.base_hpa + MEMORY_BYTES
        for table in view.mmu.tables.all_tables():  # type: ignore[attr-defined]
            if table.level == 1:
                words = hypervisor.machine.memory.words[table.base : table.base + 512].tolist()
                assert all(low <= word & 0xFF_FFFF_F000 < high or word >> 36 & 1 for word in words if word & 1)


def test_a_guest_that_ends_in_mid_request_leaves_the_sidecore_to_others() -> None:
    post = f"""
        mov eax, {abi.CALL_REGISTER}
        mov edi, {PAGE}
        mov esi, 1
        vmcall
        mov dword ptr [{PAGE + 4}], 1
        mov dword ptr [{PAGE}], {abi.POSTED}
    """
    ends = make_image(f"{post}\n mov al, 3\n out 0xf4, al\n jmp .")
    waits = make_image(
        f"{post}\n 2: pause\n cmp dword ptr [{PAGE}], {abi.POSTED}\n je 2b\n mov al, 0\n out 0xf4, al\n jmp ."
    )
    profile = load_profile("netburst-2006", ("core.core_count=3",))
    machine = Machine(profile, memory_bytes=host_memory_bytes([MEMORY_BYTES] * 2), pcpu_count=3)
    hypervisor = Hypervisor(Pc(machine), sidecore_count=1)
    for image in (ends, waits):
        hypervisor.create_domain(image, memory_bytes=MEMORY_BYTES, transmit=lambda _byte: None)
    hypervisor.advance(1_000_000)
    ended = [domain.end for domain in hypervisor.domains]
    assert [end and end.value for end in ended] == [3, 0]


REGISTER = f"mov eax, {abi.CALL_REGISTER}\n mov edi, {PAGE}\n mov esi, 1\n vmcall\n"
POST_CHANGE = f"""
    mov dword ptr [{PAGE + 4}], ebx
    mov dword ptr [{PAGE + 8}], {abi.OP_PTE_CHANGE}
    mov dword ptr [{PAGE + 16}], {UNUSED_ENTRY_GPA}
    mov dword ptr [{PAGE + 24}], {UNUSED_GPA | 0x67}
    mov dword ptr [{PAGE}], {abi.POSTED}
"""
MARK = 0x11223344
SUCCEED = "mov al, 0\n out 0xf4, al\n jmp ."
# Entries changed by sidecalls one after the other; 0 when each was answered with 0.
CHANGE_EIGHT = f"""
    {REGISTER} mov ebx, 8
3:  {POST_CHANGE}
2:  pause
    cmp dword ptr [{PAGE}], {abi.POSTED}
    je 2b
    cmp dword ptr [{PAGE + 12}], 0
    jne 4f
    dec ebx
    jnz 3b
    {SUCCEED}
4:  mov al, 1
    out 0xf4, al
"""
END_OF_WAY = {
    "dies": SUCCEED,
    "unregisters": f"""
    mov eax, {abi.CALL_UNREGISTER}
    vmcall
    mov dword ptr [{PAGE}], {MARK}
    mov dword ptr [{PAGE + 12}], {MARK}
    mov dword ptr [{PAGE + 40}], {MARK}
    mov ecx, 20000
1:  dec ecx
    jnz 1b
    {SUCCEED}
""",
}


@pytest.mark.parametrize("way", END_OF_WAY)
def test_a_page_that_goes_at_any_moment_of_a_request_harms_nobody(way: str) -> None:
    """Before the request is seen, in service, while the interrupt for its flush is on its way, after the answer."""
    states = set()
    for rounds in range(1, 6000, 400):  # of a loop of about two cycles
        program = f"{REGISTER} mov ebx, 1\n {POST_CHANGE} mov ecx, {rounds}\n 5: dec ecx\n jnz 5b\n {END_OF_WAY[way]}"
        profile = load_profile("netburst-2006", ("core.core_count=3",))
        machine = Machine(profile, memory_bytes=host_memory_bytes([MEMORY_BYTES] * 2), pcpu_count=3)
        hypervisor = Hypervisor(Pc(machine), sidecore_count=1)
        for text in (program, CHANGE_EIGHT):
            hypervisor.create_domain(make_image(text), memory_bytes=MEMORY_BYTES, transmit=lambda _byte: None)
        hypervisor.advance(3_000_000)
        first, second = hypervisor.domains
        assert (first.end and first.end.value, second.end and second.end.value) == (0, 0), rounds
        for pcpu in machine.pcpus:
            pcpu.clock.check_ledger()
        slot = first.read(PAGE, abi.SLOT_BYTES)
        words = [int.from_bytes(slot[at : at + 4], "little") for at in (0, 12, 40)]
        if way == "unregisters":
            assert words == [MARK] * 3, rounds  # nobody has touched it since
        entry = int.from_bytes(first.read(UNUSED_ENTRY_GPA, 8), "little")
        states.add((words[0], entry == UNUSED_GPA | 0x67))
    if way == "dies":
        assert states == {(abi.POSTED, False), (abi.POSTED, True), (abi.DONE, True)}
    else:
        assert states == {(MARK, False), (MARK, True)}
