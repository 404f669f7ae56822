"""A guest may put anything into its slots: it gets an answer or ends, and nobody else notices."""

import random
from dataclasses import replace

import pytest

from emulator.machine import Machine
from emulator.profile import load_profile
from tests.unit.hostile_guest import MEMORY_BYTES, make_image
from vmm.hypervisor import Hypervisor, host_memory_bytes
from vmm.loaders import BootImage
from vmm.sidecore import abi

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


def two_domains(image: BootImage, paging: str) -> Hypervisor:
    profile = load_profile("netburst-2006", ("core.core_count=3",))
    machine = Machine(profile, memory_bytes=host_memory_bytes([MEMORY_BYTES] * 2), pcpu_count=3)
    hypervisor = Hypervisor(machine, paging=paging, sidecore_count=1)
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
        pcpu.check_ledger()
    tables = first.vcpus[0].paging
    if paging == "shadow":
        low, high = first.base_hpa, first.base_hpa + MEMORY_BYTES
        for table in tables.tables.all_tables():  # type: ignore[attr-defined]
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
    hypervisor = Hypervisor(machine, sidecore_count=1)
    for image in (ends, waits):
        hypervisor.create_domain(image, memory_bytes=MEMORY_BYTES, transmit=lambda _byte: None)
    hypervisor.advance(1_000_000)
    ended = [domain.end for domain in hypervisor.domains]
    assert [end and end.value for end in ended] == [3, 0]
