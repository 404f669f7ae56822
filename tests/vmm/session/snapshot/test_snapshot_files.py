"""The file of a snapshot: whole, or refused in one line."""

import copy
import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import ConfigError
from tests.vmm.session.snapshot.saved_runs import cut, plan_of
from vmm.session.build import build_guest
from vmm.session.snapshot import SaveableGuest, read_snapshot, write_snapshot

HEAD_BYTES, LENGTH_BYTES, SUM_BYTES = 12, 8, 32


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a good file."""
    folder = tmp_path_factory.mktemp("saved")
    snapshot, _, _ = cut(plan_of("fpu_sse", "shadow"), 3_000_000, folder)
    write_snapshot(snapshot, folder / "file")
    return (folder / "file").read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place") / "file"


def refusal(data: bytes, place: Path) -> str:
    """What is said when `data` is restored, which must not work."""
    place.write_bytes(data)
    with pytest.raises(ConfigError) as refused:
        SaveableGuest.clone(read_snapshot(place), bytearray().append)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_bit_that_changed_is_noticed(data: st.DataObject, saved: bytes, place: Path) -> None:
    at = data.draw(st.integers(0, len(saved) - 1))
    damaged = bytearray(saved)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    refusal(bytes(damaged), place)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_piece_is_refused(data: st.DataObject, saved: bytes, place: Path) -> None:
    refusal(saved[: data.draw(st.integers(0, len(saved) - 1))], place)


@settings(max_examples=50, deadline=None)
@given(text=st.binary(max_size=200))
def test_any_other_file_is_refused(text: bytes, place: Path) -> None:
    said = refusal(text, place)
    assert "is no snapshot of sidecore" in said or text.startswith(b"SCSNAP\r\n")


def test_another_version_is_named(saved: bytes, place: Path) -> None:
    assert "has version 7 of the format" in refusal(saved[:8] + struct.pack("<I", 7) + saved[12:], place)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the snapshot .*nothing.*: No such file"):
        read_snapshot(tmp_path / "nothing")


def test_a_folder_that_is_not_there_is_named(saved: bytes, place: Path, tmp_path: Path) -> None:
    place.write_bytes(saved)
    with pytest.raises(ConfigError, match="cannot write the snapshot"):
        write_snapshot(read_snapshot(place), tmp_path / "none" / "file")


# --- files that somebody made up: the sum is right --------------------------------------------------------------------


def split(saved: bytes) -> tuple[dict[str, Any], bytes]:
    """The document, and the memory with its length."""
    length = int.from_bytes(saved[HEAD_BYTES : HEAD_BYTES + LENGTH_BYTES], "little")
    start = HEAD_BYTES + LENGTH_BYTES
    return json.loads(zlib.decompress(saved[start : start + length])), saved[start + length : -SUM_BYTES]


def joined(saved: bytes, document: object, memory: bytes) -> bytes:
    packed = zlib.compress(json.dumps(document).encode(), 1)
    data = saved[:HEAD_BYTES] + len(packed).to_bytes(LENGTH_BYTES, "little") + packed + memory
    return data + hashlib.sha256(data).digest()


def test_a_made_up_file_with_nothing_changed_is_restored(saved: bytes, place: Path) -> None:
    place.write_bytes(joined(saved, *split(saved)))
    assert (
        3_000_000 <= SaveableGuest.clone(read_snapshot(place), bytearray().append).guest.pcpu.clock.cycles < 3_100_000
    )


JSON = st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3))


PARTS = [
    ("made_of",), ("contents",), ("memories",), ("made_of", "hosts"), ("made_of", "hosts", 0, "host"),
    ("made_of", "hosts", 0, "guests"), ("made_of", "hosts", 0, "images"), ("made_of", "hosts", 0, "profile"),
    ("made_of", "hosts", 0, "allowance"), ("contents", "skeleton"), ("contents", "objects"),
    ("contents", "cpus"), ("contents", "hierarchies"), ("memories", 0), ("memories", 0, "pages"),
    ("memories", 0, "size_bytes"),
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_a_document_that_lacks_a_part_is_refused(part: tuple[str | int, ...], saved: bytes, place: Path) -> None:
    document, memory = split(saved)
    inner: Any = document
    for step in part[:-1]:
        inner = inner[step]
    del inner[part[-1]]
    refusal(joined(saved, document, memory), place)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_part_of_another_kind_ends_in_one_line_or_a_guest(data: st.DataObject, saved: bytes, place: Path) -> None:
    document, memory = split(saved)
    changed = copy.deepcopy(document)
    part = data.draw(st.sampled_from(PARTS))
    inner: Any = changed
    for step in part[:-1]:
        inner = inner[step]
    inner[part[-1]] = data.draw(JSON)
    place.write_bytes(joined(saved, changed, memory))
    said = ""
    try:
        SaveableGuest.clone(read_snapshot(place), bytearray().append)
    except ConfigError as refused:
        said = str(refused)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (["m", 0, "__class__"], "is no method"),
        (["r", -1], "is no value"),
        (["r", 10**9], "out of range"),
        (["e", "os", "name"], "KeyError"),
        (["n", "Popen", "sh"], "KeyError"),
        (["x"], "is no value"),
    ],
)
def test_a_value_that_nobody_writes_is_refused(value: object, reason: str, saved: bytes, place: Path) -> None:
    document, memory = split(saved)
    document["contents"]["objects"][0][1]["made_up"] = value
    assert reason in refusal(joined(saved, document, memory), place)


def test_a_class_that_is_not_in_the_table_is_not_made(saved: bytes, place: Path) -> None:
    document, memory = split(saved)
    document["contents"]["objects"].append(["Popen", {}])
    assert "KeyError: 'Popen'" in refusal(joined(saved, document, memory), place)


def test_pages_outside_memory_are_refused(saved: bytes, place: Path) -> None:
    document, memory = split(saved)
    document["memories"][0]["pages"] = [[1 << 40, 1]]
    assert "outside its memory" in refusal(joined(saved, document, memory), place)


def test_the_bytes_of_a_cpu_are_whole_or_refused() -> None:
    engine = build_guest(plan_of("fpu_sse", "shadow"), bytearray().append).engine
    cpu = engine.save()
    for length in (0, 1, len(cpu) // 2, len(cpu) - 4096, len(cpu) - 1):
        with pytest.raises(ValueError, match="not the bytes of a CPU"):
            engine.restore(cpu[:length])
    with pytest.raises(ValueError, match="not the bytes of a CPU"):
        engine.restore(cpu + bytes(4096))
