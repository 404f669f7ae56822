"""An edit of Unicorn's source, as data."""

from dataclasses import dataclass
from enum import Enum, auto


class Place(Enum):
    """Where the lines of an edit go."""

    BEFORE = auto()
    AFTER = auto()
    INSTEAD = auto()


@dataclass(frozen=True)
class Edit:
    """One change of Unicorn's source.

    `file` lies below the source's folder. `anchor` is text of Unicorn that stands there once. `test` is the file of the
    test or benchmark that shows what the edit is for.
    """

    file: str
    place: Place
    anchor: str
    lines: str
    why: str
    test: str
