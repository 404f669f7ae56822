"""The management domain gives out VIFs; nobody else does, and a domain that ends has none."""

import re

import pytest

from devices.nic import vif_page
from guest_images.kernels import LIBRARY
from tests.vmm.nic.rig import ATTACH, END, PAGE, PS_PER_MS, Rig, frame_to, mac_of, make_rig, receiver
from vmm.nic.hypercalls import CALL_VIF_CREATE, CALL_VIF_DESTROY
from vmm.outcome import End, EndKind


def call(number: int, first: int, second: int = 0) -> str:
    """The low byte of what a hypercall answers, as the value of the guest's end."""
    return f"""
    mov eax, {number}
    mov edi, {first}
    mov rsi, {second}
    vmcall
    out 0xf4, al
    jmp .
    7: iretq
    """


def answer(program: str, *, is_manager: bool) -> tuple[int, Rig]:
    """What the second guest's hypercall answers; the first has a VIF."""
    rig = make_rig("ept", guests=2, cores=2)
    rig.add(receiver(1))
    domain = rig.add(program, is_manager=is_manager)
    rig.run(PS_PER_MS)
    assert domain.end is not None
    assert domain.end.kind is EndKind.DEBUG_EXIT
    return (domain.end.value ^ 0x80) - 0x80, rig


def as_number(mac: bytes) -> int:
    return int.from_bytes(mac, "little")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (call(CALL_VIF_DESTROY, 0), 0),
        (call(CALL_VIF_DESTROY, 7), -2),
        (call(CALL_VIF_DESTROY, 0xFFFF_FFFF), -2),
        (call(CALL_VIF_CREATE, 0, as_number(mac_of(9))), -17),
        (call(CALL_VIF_CREATE, 7, as_number(mac_of(9))), -2),
    ],
)
def test_a_manager_gets_an_answer_to_whatever_it_asks(program: str, expected: int) -> None:
    assert answer(program, is_manager=True)[0] == expected


def test_a_vif_can_be_made_again_with_another_address_but_not_with_one_that_is_taken_or_none() -> None:
    again = f"""
    mov eax, {CALL_VIF_DESTROY}
    mov edi, 0
    vmcall
    {{taken}}
    """
    group, taken = 1, as_number(mac_of(1))
    for mac, expected in ((as_number(mac_of(9)), 0), (group, -22), (taken, -22)):
        value, rig = answer(again.format(taken="") + call(CALL_VIF_CREATE, 0, mac), is_manager=True)
        assert value == expected
        assert (0 in rig.nic.vifs) == (expected == 0)


@pytest.mark.parametrize("number", [CALL_VIF_CREATE, CALL_VIF_DESTROY])
def test_any_other_domain_is_refused(number: int) -> None:
    value, rig = answer(call(number, 0), is_manager=False)
    assert value == -1
    assert rig.nic.vifs[0].mac == mac_of(0)


def test_a_domain_that_ends_has_no_vif_and_its_frames_go_nowhere() -> None:
    rig = make_rig("ept", guests=2, cores=2)
    rig.add(receiver(1000))
    rig.add(END + "\n7: iretq")
    for number in range(2):
        rig.end.arrive(5 * PS_PER_MS, frame_to(number))
    rig.run(10 * PS_PER_MS)
    assert list(rig.nic.vifs) == [0]
    assert rig.counts(0)["upcalls"] == 1
    assert rig.domains[1].end == End(EndKind.DEBUG_EXIT, 0)


def test_a_guest_whose_vif_is_gone_finds_that_and_its_page_is_a_page_like_others() -> None:
    rig = make_rig("ept", guests=2, cores=2)
    waits = f"""
    {ATTACH}
    2: pause
    cmp dword ptr [rbx + 0x18], 3
    jne 2b
    mov dword ptr [{PAGE}], 5
    {END}
    7: iretq
    """
    domain = rig.add(waits)
    rig.add(f"mov ecx, 3000000\n 5: dec ecx\n jnz 5b\n {call(CALL_VIF_DESTROY, 0)}", is_manager=True)
    rig.run(20 * PS_PER_MS)
    assert rig.domains[1].end == End(EndKind.DEBUG_EXIT, 0)
    assert not any(rig.vcpu(0).shared.watched_hpas)
    assert domain.read(PAGE, 4) == (5).to_bytes(4, "little")


def test_the_numbers_are_those_of_the_guests_header() -> None:
    text = (LIBRARY / "vif.h").read_text()
    numbers = {name: int(value, 0) for name, value in re.findall(r"#define VIF_(CALL_\w+|\w+_AT) (\w+)", text)}
    assert (numbers["CALL_CREATE"], numbers["CALL_DESTROY"]) == (CALL_VIF_CREATE, CALL_VIF_DESTROY)
    assert (numbers["PENDING_AT"], numbers["MASKED_AT"]) == (vif_page.PENDING, vif_page.MASKED)
