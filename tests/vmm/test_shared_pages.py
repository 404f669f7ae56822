"""Several pages of a guest are watched at once: each access asks whose page it is, and nothing else changes."""

import pytest

from emulator.engine.abi import WATCHED_MAX
from tests.guest.hostile_guest import LIMIT_CYCLES, make_guest
from vmm.outcome import End, EndKind
from vmm.session.virtual_guest import VirtualGuest

PAGES = (0x20000, 0x21000, 0x30000, 0x200000)
END = "xor eax, eax\n out 0xf4, al\n jmp ."


class Recorder:
    """Notes the accesses to its page."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.answers: list[bool] = []  # to the next accesses; then: yes

    def begin(self, hpa: int, is_store: bool) -> bool:
        self.asked.append(("store" if is_store else "load", hpa & 0xFFF))
        return self.answers.pop(0) if self.answers else True

    def finish_store(self) -> None:
        self.asked.append(("stored", 0))


def guest_sharing(paging: str, program: str, *gpas: int) -> tuple[VirtualGuest, list[Recorder]]:
    guest = make_guest(paging, program + "\n" + END)
    assert isinstance(guest, VirtualGuest)
    recorders = [Recorder() for _ in gpas]
    vcpus = guest.hypervisor.vcpus_of(guest.domain)
    for gpa, recorder in zip(gpas, recorders, strict=True):
        assert guest.hypervisor.shared_pages.share(vcpus, guest.domain.hpa_of(gpa), [recorder])
    return guest, recorders


def run(guest: VirtualGuest) -> None:
    guest.advance(LIMIT_CYCLES)
    assert guest.end == End(EndKind.DEBUG_EXIT, 0)


@pytest.fixture(params=["shadow", "ept"])
def paging(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_each_access_asks_who_has_the_page(paging: str) -> None:
    guest, (first, second) = guest_sharing(paging, "mov eax, [0x20008]\n mov [0x21010], eax", *PAGES[:2])
    run(guest)
    assert (first.asked, second.asked) == ([("load", 8)], [("store", 0x10), ("stored", 0)])


def test_an_instruction_that_accesses_two_of_the_pages_is_run(paging: str) -> None:
    guest, (first, second) = guest_sharing(
        paging, "mov qword ptr [0x20000], 77\n mov esi, 0x20000\n mov edi, 0x21000\n movsq", *PAGES[:2]
    )
    run(guest)
    assert first.asked[-1:] == [("load", 0)]
    assert second.asked[0] == ("store", 0)
    assert second.asked[-1] == ("stored", 0)
    assert guest.domain.read(0x21000, 8) == (77).to_bytes(8, "little")


@pytest.mark.parametrize(
    "text",
    ["lock or dword ptr [0x20008], 1", "or dword ptr [0x20008], 1", "inc byte ptr [0x20008]", "xadd [0x20008], ecx"],
)
def test_an_instruction_that_loads_and_stores_is_seen_to_store(paging: str, text: str) -> None:
    guest, (first,) = guest_sharing(paging, f"mov ecx, 1\n {text}", PAGES[0])
    run(guest)
    assert first.asked[-2:] == [("store", 8), ("stored", 0)]
    assert guest.domain.read(0x20008, 1) == b"\1"


def test_one_that_does_so_across_two_of_the_pages_is_run(paging: str) -> None:
    guest, recorders = guest_sharing(paging, "mov eax, -1\n or [0x20ffe], eax", *PAGES[:2])
    run(guest)
    assert all(("stored", 0) in recorder.asked for recorder in recorders)
    assert guest.domain.read(0x20FFE, 4) == b"\xff" * 4


def test_an_access_across_two_of_the_pages_is_run(paging: str) -> None:
    guest, recorders = guest_sharing(paging, "mov rax, -2\n mov [0x20ffd], rax", *PAGES[:2])
    run(guest)
    assert all(recorder.asked for recorder in recorders)
    assert guest.domain.read(0x20FFD, 8) == (-2).to_bytes(8, "little", signed=True)


def test_a_page_reached_by_two_addresses_in_one_instruction_is_run() -> None:
    alias = f"mov qword ptr [{0x4000 + 8 * 0x60}], {PAGES[0] | 0x67}\n invlpg [0x60000]"
    program = f"{alias}\n mov qword ptr [0x20000], 78\n mov esi, 0x20000\n mov edi, 0x60100\n movsq"
    guest, (recorder,) = guest_sharing("shadow", program, PAGES[0])
    run(guest)
    assert ("store", 0x100) in recorder.asked
    assert guest.domain.read(0x20100, 8) == (78).to_bytes(8, "little")


def test_an_access_that_may_not_take_place_now_begins_anew(paging: str) -> None:
    guest, (first, second) = guest_sharing(paging, "mov esi, 0x20000\n mov edi, 0x21000\n movsq", *PAGES[:2])
    first.answers, second.answers = [False, True, True, False], [False, True]
    run(guest)
    assert second.asked[-1] == ("stored", 0)


def test_as_many_pages_as_there_are_places_can_be_shared_each_once(paging: str) -> None:
    guest, _ = guest_sharing(paging, "", *PAGES)
    vcpus, share = guest.hypervisor.vcpus_of(guest.domain), guest.hypervisor.shared_pages.share
    assert len(PAGES) == WATCHED_MAX
    assert not share(vcpus, guest.domain.hpa_of(0x40000), [Recorder()])
    guest.hypervisor.shared_pages.give_up(vcpus, guest.domain.hpa_of(PAGES[1]))
    assert not share(vcpus, guest.domain.hpa_of(PAGES[0]), [Recorder()])
    assert share(vcpus, guest.domain.hpa_of(0x40000), [Recorder()])


def test_a_page_that_was_given_up_asks_nobody_and_the_others_do(paging: str) -> None:
    guest, recorders = guest_sharing(paging, "mov eax, [0x20000]\n mov eax, [0x21000]\n mov eax, [0x30000]", *PAGES[:3])
    guest.hypervisor.shared_pages.give_up(guest.hypervisor.vcpus_of(guest.domain), guest.domain.hpa_of(PAGES[1]))
    run(guest)
    assert [len(recorder.asked) for recorder in recorders] == [1, 0, 1]


def test_every_page_inside_a_large_one_is_watched(paging: str) -> None:
    large = "mov qword ptr [0x3008], 0x2000e7\n mov rax, cr3\n mov cr3, rax"
    accesses = "mov eax, [0x200004]\n mov eax, [0x201004]\n mov eax, [0x203000]\n mov eax, [0x200004]"
    guest, (first, second) = guest_sharing(paging, f"{large}\n mov eax, [0x3ff000]\n {accesses}", 0x200000, 0x203000)
    run(guest)
    assert (first.asked, second.asked) == ([("load", 4)] * 2, [("load", 0)])
