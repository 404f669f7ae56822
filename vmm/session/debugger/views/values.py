"""What a view gives: a frozen dataclass that knows its text and its plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

COLUMNS = 80


class Hex(int):
    """A number that people read in hexadecimal. In JSON it is text, since readers keep only 53 bits of a number."""

    def __repr__(self) -> str:
        return f"{int(self):#x}"


class View:
    """The base of what a view gives. Derived classes are frozen dataclasses."""

    def text(self) -> str:
        """Lines for a terminal of 80 columns."""
        raise NotImplementedError

    def json(self) -> dict[str, Any]:
        """The same as numbers, texts, lists and dictionaries."""
        values: dict[str, Any] = plain(self)
        return values


def plain(value: object) -> Any:
    """`value` as JSON has it."""
    match value:
        case None | bool() | str() | float():
            return value
        case Hex():
            return f"{int(value):#x}"
        case Enum():
            return value.name.lower()
        case int():
            return int(value)
        case bytes():
            return value.hex()
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _ if is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            raise TypeError(f"{value!r} is no value of a view")


def cut(line: str, columns: int = COLUMNS) -> str:
    """`line`, shortened to fit."""
    return line if len(line) <= columns else line[: columns - 3].rstrip() + "..."


def lines_text(lines: Iterable[str]) -> str:
    """The text of these lines, each shortened to fit."""
    return "\n".join(cut(line.rstrip()) for line in lines)


def wrapped(label: str, words: Iterable[str], *, indent: int) -> list[str]:
    """Lines that begin with `label` and go on, indented, with as many `words` as fit."""
    lines, line = [], label.rstrip().ljust(indent - 1)
    for word in words:
        if len(line) + 1 + len(word) > COLUMNS and len(line) >= indent:
            lines.append(line)
            line = " " * (indent - 1)
        line = f"{line} {word}"
    return [*lines, line]
