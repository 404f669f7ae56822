"""The first record at which two traces part: a VM exit of `.jsonl` and `.csv`, an event of `.json`.

Records are compared one after the other, as they are in the files, so both files may be of any size.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from emulator.errors import ConfigError
from vmm.session.observe.trace_record import COLUMNS

JSON_LINES, CSV, TIMELINE = '{"trace": "sidecore"', ",".join(COLUMNS), '{"otherData": {"trace": "sidecore"'
KINDS = {JSON_LINES: "exit", CSV: "exit", TIMELINE: "event"}
Record = Mapping[str, str]


@dataclass(frozen=True)
class Parting:
    """Where two traces part. A record that is None: that trace has ended."""

    number: int  # from 1
    what: str  # of what it is the number
    first: Record | None
    second: Record | None
    before: Record | None  # the last that they have in common

    @property
    def differences(self) -> list[tuple[str, str, str]]:
        """What differs: name, in the first, in the second."""
        first, second = self.first or {}, self.second or {}
        names = list(dict.fromkeys((*first, *second)))
        pairs = [(name, first.get(name, "-"), second.get(name, "-")) for name in names]
        return [row for row in pairs if row[1] != row[2]]


def kind_of(path: Path) -> str | None:
    """How a trace file begins; None: it is no trace. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            begin = file.read(max(map(len, KINDS))).decode("latin-1")
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}") from None
    return next((kind for kind in KINDS if begin.startswith(kind)), None)


def part(first: Path, second: Path, ignored: Sequence[str] = ()) -> tuple[Parting | None, int]:
    """Where two traces part, or None, and how many records they have in common. `ignored` names may differ.

    Raises ConfigError for what is no trace, and for two that cannot be compared.
    """
    kinds = [kind_of(path) for path in (first, second)]
    whats = [None if kind is None else KINDS[kind] for kind in kinds]
    if None in whats or whats[0] != whats[1]:
        raise ConfigError(f"{str(first)!r} and {str(second)!r} cannot be compared: one is of exits, one of events")
    before: Record | None = None
    pairs = zip_longest(*(_read(path, kind) for path, kind in zip((first, second), kinds, strict=True)))
    count = 0
    for one, other in pairs:
        if _without(one, ignored) != _without(other, ignored):
            return Parting(count + 1, str(whats[0]), one, other, before), count
        before = one
        count += 1
    return None, count


def _without(record: Record | None, ignored: Sequence[str]) -> Record | None:
    if record is None or not ignored:
        return record
    return {name: value for name, value in record.items() if name not in ignored}


def _read(path: Path, kind: str | None) -> Iterator[Record]:
    readers = {JSON_LINES: _json_lines, CSV: _csv_lines, TIMELINE: _events}
    try:
        yield from readers[str(kind)](path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, csv.Error) as error:
        raise ConfigError(f"the trace {str(path)!r} is damaged: {error}") from None


def _json_lines(path: Path) -> Iterator[Record]:
    with path.open() as file:
        next(file)  # the run
        for line in file:
            record = json.loads(line)
            if "exit" in record:  # the last line is no record
                yield {name: str(value) for name, value in record.items()}


def _csv_lines(path: Path) -> Iterator[Record]:
    with path.open(newline="") as file:
        for row in csv.DictReader(file, strict=True):
            yield {str(name): str(value) for name, value in row.items()}


def _events(path: Path) -> Iterator[Record]:
    with path.open() as file:
        document = json.load(file)
    for event in document["traceEvents"]:
        yield dict(_flat(event))


def _flat(event: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in event.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, str(value)
