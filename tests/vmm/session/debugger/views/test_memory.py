"""Memory in all formats and sizes, and stores that everybody notices."""

import pytest

import sidecore
from emulator.errors import ConfigError
from tests.vmm.session.debugger.views.rig import MIB, stopped, subject_of, world_of
from vmm.session.debugger.views.memory import Format, Memory, examine, read_format, store
from vmm.session.debugger.views.page_walk import guest_walk, hardware_walk
from vmm.session.debugger.views.subject import Space, Subject

PAGINGS = ("shadow", "ept", "native")
FREE = 28 * MIB  # that the kernel does not use, mapped one to one
DATA = bytes([0x41, 0xFF, 0x80, 0, 0x12, 0x06, 0x10, 0]) + b"text\0\0more\0"


@pytest.fixture(scope="module")
def subject() -> Subject:
    subject = stopped("default", "shadow", 2_000_000)
    subject.memory.write(FREE, DATA)
    return subject


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("", Format()),
        ("8xg", Format(8, "x", 8)),
        ("4w", Format(4, "x", 4)),
        ("hu", Format(1, "u", 2)),
        ("3c", Format(3, "c", 1)),
    ],
)
def test_a_format_is_as_in_gdb(text: str, format: Format) -> None:
    assert read_format(text) == format


@pytest.mark.parametrize(
    "text", ["q", "xx", "8xgg", "-1x", "x8", "0x", "99999x", "8 x", "8xq", "\N{ARABIC-INDIC DIGIT ONE}x"]
)
def test_a_wrong_format_is_a_mistake_of_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no format|units cannot be shown") as caught:
        read_format(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("format", "words"),
    [
        ("4xb", ["41", "ff", "80", "00"]),
        ("1xw", ["0080ff41"]),
        ("2dh", ["-191", "128"]),
        ("2uh", ["65345", "128"]),
        ("1ob", ["0o101"]),
        ("1tb", ["01000001"]),
        ("2c", ["'A'", "0xff"]),
        ("1xg", ["001006120080ff41"]),
    ],
)
def test_units_are_read_in_little_endian_order(subject: Subject, format: str, words: list[str]) -> None:
    for space, address in ((Space.GVA, FREE), (Space.GPA, FREE), (Space.HPA, subject.place(Space.GVA, FREE))):
        assert address is not None
        shown = examine(subject, space, address, read_format(format))
        assert isinstance(shown, Memory)
        assert list(shown.words) == words


def test_texts_end_with_a_zero(subject: Subject) -> None:
    assert examine(subject, Space.GVA, FREE + 8, read_format("3s")).text().splitlines() == [
        f"{FREE + 8:x}: 'text'",
        f"{FREE + 13:x}: ''",
        f"{FREE + 14:x}: 'more'",
    ]


def test_an_address_has_its_symbol(subject: Subject) -> None:
    subject.memory.write(FREE + 64, (0x100611).to_bytes(8, "little"))
    assert examine(subject, Space.GVA, FREE + 64, read_format("a")).text().endswith("<print_list+0x41>")


def test_what_is_not_mapped_is_a_question_mark_and_the_rest_is_shown(subject: Subject) -> None:
    shown = examine(subject, Space.GPA, 32 * MIB - 8, read_format("2xg"))
    assert isinstance(shown, Memory)
    assert shown.units[0] is not None
    assert shown.units[1] is None
    assert shown.text().split() == ["1fffff8:", f"{shown.units[0]:016x}", "?"]
    assert examine(subject, Space.GVA, (1 << 64) - 8, read_format("2xw")).text().split()[1:] == ["?", "?"]


@pytest.mark.parametrize("space", [Space.GPA, Space.HPA])
def test_instructions_are_at_linear_addresses(subject: Subject, space: Space) -> None:
    with pytest.raises(ConfigError, match="instructions are shown by linear address only"):
        examine(subject, space, 0, read_format("4i"))


# --- stores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_store_over_pages_is_where_all_addresses_lead(paging: sidecore.Paging) -> None:
    subject = stopped("default", paging, 2_000_000)
    store(subject, Space.GVA, FREE + 4090, b"0123456789")
    assert subject.read_gpa(FREE + 4090, 10) == b"0123456789"
    store(subject, Space.GPA, FREE, b"x")
    hpa = subject.place(Space.GPA, FREE)
    assert hpa is not None
    store(subject, Space.HPA, hpa + 1, b"y")
    assert subject.read_gva(FREE, 2) == b"xy"


@pytest.mark.parametrize(
    ("space", "address", "data"),
    [
        (Space.GVA, 1 << 50, b"x"),
        (Space.GPA, 0xFEE0_0000, b"x"),
        (Space.GPA, 32 * MIB - 1, b"xy"),
        (Space.HPA, 1 << 40, b"x"),
        (Space.GPA, 0, b""),
        (Space.GPA, 0, bytes(2 << 20)),
    ],
)
def test_a_store_is_whole_or_none(subject: Subject, space: Space, address: int, data: bytes) -> None:
    before = bytes(subject.host_memory.bytes[: 40 * MIB])
    with pytest.raises(ConfigError, match="stored") as caught:
        store(subject, space, address, data)
    assert "\n" not in str(caught.value)
    assert bytes(subject.host_memory.bytes[: 40 * MIB]) == before


@pytest.mark.parametrize("paging", PAGINGS)
def test_code_that_is_stored_is_what_runs_next(paging: sidecore.Paging) -> None:
    world = world_of(paging=paging)
    world.run(sidecore.Limits(max_cycles=2_000_000))
    subject = subject_of(world)
    store(subject, Space.GVA, subject.rip, bytes.fromhex("b02ae6f4ebfe"))  # mov $42, %al; out %al, $0xf4; jmp $
    world.run(sidecore.Limits(max_cycles=3_000_000))
    end = world.guests[0].end
    assert end is not None
    assert (end.kind, end.value) == (sidecore.EndKind.DEBUG_EXIT, 42)


def test_shadow_tables_follow_a_store_into_the_guests() -> None:
    subject = stopped("default", "shadow", 2_000_000)
    stack = subject.gpr(4)
    entry = guest_walk(subject, stack).last
    assert entry is not None
    assert hardware_walk(subject, stack).target is not None
    store(subject, Space.GPA, entry.address, bytes(8))
    assert hardware_walk(subject, stack).target is None
    store(subject, Space.GPA, entry.address, int(entry.value).to_bytes(8, "little"))
    assert hardware_walk(subject, stack).target is not None


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_a_store_takes_no_time(paging: sidecore.Paging) -> None:
    subject = stopped("default", paging, 2_000_000)
    cycles, table = subject.cycles, subject.mode.cr3
    store(subject, Space.GPA, table + 8 * 300, bytes(8))
    assert subject.cycles == cycles
