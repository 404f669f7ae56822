"""What this project changes in the source of Unicorn 2.1.4.

An edit is data: a place, which is a text that stands in the file exactly once, and our own lines there. Functions named
`sc_...` that the lines call are in emulator/engine/unicorn/, and are linked with the library.
"""

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


EDITS = (
    Edit(
        file="qemu/include/qemu/timer.h",
        place=Place.INSTEAD,
        anchor="    gettimeofday(&tv, NULL);\n",
        lines="    extern void sc_engine_time(struct timeval *ret);\n    sc_engine_time(&tv);\n",
        why="Unicorn resizes its TLB by the time, and a guest can tell: the time is that of the emulated CPU",
        test="tests/emulator/engine/unicorn/test_clock.py",
    ),
)
