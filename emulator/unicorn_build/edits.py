"""What this project changes in the source of Unicorn 2.1.4: all edits.

An edit is data: a place, which is a text that stands in the file exactly once, and our own lines there. Functions named
`sc_...` that the lines call are in emulator/engine/unicorn/, and are linked with the library.
"""

from emulator.unicorn_build.edit import Edit, Place
from emulator.unicorn_build.edits_of_blocks import EDITS_OF_BLOCKS
from emulator.unicorn_build.edits_of_code import EDITS_OF_CODE
from emulator.unicorn_build.edits_of_encodings import EDITS_OF_ENCODINGS
from emulator.unicorn_build.edits_of_instructions import EDITS_OF_INSTRUCTIONS
from emulator.unicorn_build.edits_of_memory import EDITS_OF_MEMORY
from emulator.unicorn_build.edits_of_operands import EDITS_OF_OPERANDS
from emulator.unicorn_build.edits_of_segments import EDITS_OF_SEGMENTS
from emulator.unicorn_build.edits_of_vectors import EDITS_OF_VECTORS

EDITS_OF_TIME = (
    Edit(
        file="qemu/include/qemu/timer.h",
        place=Place.INSTEAD,
        anchor="    gettimeofday(&tv, NULL);\n",
        lines="    extern void sc_engine_time(struct timeval *ret);\n    sc_engine_time(&tv);\n",
        why="Unicorn resizes its TLB by the time, and a guest can tell: the time is that of the emulated CPU",
        test="tests/emulator/engine/unicorn/test_clock.py",
    ),
)

EDITS = (
    *EDITS_OF_TIME,
    *EDITS_OF_BLOCKS,
    *EDITS_OF_CODE,
    *EDITS_OF_MEMORY,
    *EDITS_OF_OPERANDS,
    *EDITS_OF_ENCODINGS,
    *EDITS_OF_INSTRUCTIONS,
    *EDITS_OF_SEGMENTS,
    *EDITS_OF_VECTORS,
)
