"""What differs between two snapshots: what they are of, registers, memory, and the attributes of devices and the VMM.

    hosts, guests    as specs say                      Difference("host 0: paging", "shadow", "ept")
    CPUs             slots and registers by name       Difference("cpu 0: GUEST_RIP", ...)
    memory           pages, the first byte of each     Difference("memory 0: 0x3010", ...)
    objects          from the guest on, by attributes  Difference("guest.board.uart.divisor", ...)

Objects that were made while the guest ran have no numbers in common; they are the same where one gets there the same
way. What cannot be got to is compared by number.
"""

import base64
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from emulator.engine import saved_words
from emulator.x86 import PAGE_BYTES
from vmm.session.snapshot import Snapshot
from vmm.session.snapshot.contents import DAMAGED, damaged
from vmm.session.snapshot.memory_file import MemoryFile

CHUNK_PAGES = 256
SHOWN_BYTES = 8
TEXT_MAX = 60
ABSENT = "-"


class Difference(NamedTuple):
    """A place, and what is there."""

    place: str
    first: str
    second: str


def differences(first: Snapshot, second: Snapshot) -> Iterator[Difference]:
    """All of them: the machines first, then CPUs, memory, objects. Raises ConfigError for a damaged one."""
    try:
        yield from _described(first.document, second.document, "")
        yield from _cpus(first.contents.document["cpus"], second.contents.document["cpus"])
        for number, pair in enumerate(zip(first.contents.memories, second.contents.memories, strict=False)):
            yield from _memories(number, *pair)
        yield from _Objects(first.contents.document["objects"], second.contents.document["objects"]).compare()
        caches = [snapshot.contents.document["hierarchies"] for snapshot in (first, second)]
        yield from _described(caches[0], caches[1], "caches")
    except DAMAGED as error:
        raise damaged(error) from None


def _described(first: Any, second: Any, place: str) -> Iterator[Difference]:
    """Values as JSON has them."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in dict.fromkeys((*first, *second)):
            step = f"{place}.{name}" if place else str(name)
            yield from _described(first.get(name), second.get(name), step)
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for number, pair in enumerate(zip(first, second, strict=True)):
            yield from _described(*pair, f"{place}[{number}]")
    elif first != second:
        yield Difference(place, _text(first), _text(second))


def _cpus(first: Sequence[str], second: Sequence[str]) -> Iterator[Difference]:
    if len(first) != len(second):
        yield Difference("CPUs", str(len(first)), str(len(second)))
    for number, pair in enumerate(zip(first, second, strict=False)):
        one, other = (base64.b64decode(saved, validate=True) for saved in pair)
        if one == other:
            continue
        words = [saved_words(saved) for saved in (one, other)]
        names = [name for name in words[0] if words[0][name] != words[1][name]]
        for name in names:
            yield Difference(f"cpu {number}: {name}", *(f"{word[name]:#x}" for word in words))
        if not names:
            yield Difference(f"cpu {number}", "behind its registers", "another state")


def _memories(number: int, first: MemoryFile, second: MemoryFile) -> Iterator[Difference]:
    pages = sorted({page for memory in (first, second) for run in memory.runs for page in range(run[0], sum(run))})
    at = 0
    while at < len(pages):
        count = 1
        while at + count < len(pages) and pages[at + count] == pages[at] + count and count < CHUNK_PAGES:
            count += 1
        one, other = first.read(pages[at], count), second.read(pages[at], count)
        if one != other:
            for page in range(count):
                yield from _page(number, pages[at] + page, *(d[page * PAGE_BYTES :][:PAGE_BYTES] for d in (one, other)))
        at += count


def _page(number: int, page: int, first: bytes, second: bytes) -> Iterator[Difference]:
    """The first byte that differs, and those behind it."""
    first, second = first.ljust(PAGE_BYTES, b"\0"), second.ljust(PAGE_BYTES, b"\0")
    if first != second:
        at = next(i for i in range(PAGE_BYTES) if first[i] != second[i])
        shown = [data[at : at + SHOWN_BYTES].hex(" ") for data in (first, second)]
        yield Difference(f"memory {number}: {page * PAGE_BYTES + at:#x}", *shown)


class _Objects:
    """Two graphs of records (snapshot/objects.py), walked together from the first object on."""

    def __init__(self, first: Sequence[Any], second: Sequence[Any]) -> None:
        self._records = (first, second)
        self._seen: set[tuple[int, int]] = set()
        self._found: set[int] = set()  # of the first
        self._waiting: deque[tuple[int, int, str]] = deque()

    def compare(self) -> Iterator[Difference]:
        """All that differs, place by place."""
        for number, ((kind, _), (other_kind, _)) in enumerate(zip(*self._records, strict=False)):
            if kind != other_kind:
                return  # from here on numbers mean other objects: one guest has made one that the other has not
            if number not in self._found:
                place = f"{kind or 'object'} number {number}" if number else "guest"
                self._waiting.append((number, number, place))
            while self._waiting:
                yield from self._pair(*self._waiting.popleft())

    def _pair(self, one: int, other: int, place: str) -> Iterator[Difference]:
        if (one, other) in self._seen:
            return
        self._seen.add((one, other))
        self._found.add(one)
        (kind, state), (other_kind, other_state) = self._records[0][one], self._records[1][other]
        if kind != other_kind:
            yield Difference(place, f"a {kind}", f"a {other_kind}")
        elif isinstance(state, dict):
            yield from self._mappings(state, other_state, place, ".{}")
        elif kind == "dict":
            keyed, other_keyed = ({str(key): value for key, value in items} for items in (state, other_state))
            yield from self._mappings(keyed, other_keyed, place, "[{:.30}]")
        else:
            yield from self._values(_tagged(state), _tagged(other_state), place)

    def _mappings(
        self, first: Mapping[str, Any], second: Mapping[str, Any], place: str, step: str
    ) -> Iterator[Difference]:
        for name in dict.fromkeys((*first, *second)):
            if name in first and name in second:
                yield from self._values(first[name], second[name], place + step.format(name))
            else:
                yield Difference(place + step.format(name), *(_text(m.get(name, ABSENT)) for m in (first, second)))

    def _values(self, first: Any, second: Any, place: str) -> Iterator[Difference]:
        if first == second and not _refers(first):
            return
        if isinstance(first, list) and isinstance(second, list) and first[:1] == second[:1]:
            if first[0] == "r":
                self._waiting.append((first[1], second[1], place))
                return
            if first[0] in ("t", "n", "p", "z") and len(first) == len(second):
                for number, pair in enumerate(zip(first[1:], second[1:], strict=True)):
                    yield from self._values(*pair, f"{place}[{number}]")
                return
            if first[0] == "m" and first[2:] == second[2:]:
                self._waiting.append((first[1], second[1], f"{place}.__self__"))
                return
        if first != second:
            yield Difference(place, _text(first), _text(second))


def _tagged(items: Any) -> Any:
    return ["t", *items] if isinstance(items, list) else items


def _refers(value: Any) -> bool:
    """Whether there is a number of an object in it."""
    return isinstance(value, list) and (value[:1] in (["r"], ["m"]) or any(map(_refers, value[1:])))


def _text(value: Any) -> str:
    text = ABSENT if value is None else str(value)
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 3]}..."
