"""Numbers that the C files and Python share: build.py makes generated/abi.h of them, without importing the package."""

from enum import IntEnum


class Next(IntEnum):
    """What comes after a VM exit: the answer of `Engine.on_exit`."""

    RESUME = 0  # the VM entry: the guest goes on
    LEAVE = 1  # `Engine.run` returns before the guest's next instruction


RESUME, LEAVE = Next


class Operation(IntEnum):
    """What C asks of Python while nothing exits: `sc_platform_callback`. `operations.py` answers."""

    PORT_READ = 0
    PORT_WRITE = 1
    CPUID = 2
    MSR_READ = 3
    MSR_WRITE = 4
    INTERRUPT_VECTOR = 5
    MMIO_READ = 6
    MMIO_WRITE = 7
    CR8_READ = 8
    CR8_WRITE = 9
    WATCHED_ACCESS = 10
    WATCHED_DONE = 11


class Flush(IntEnum):
    """What `flush_tlb` of shared.h asks for at the next entry, after a mapping has changed."""

    NOTHING = 0
    ALL = 1  # the processor's TLBs
    ENGINE = 2  # only what the engine has cached, which takes no time


FLUSH_ALL, FLUSH_ENGINE = Flush.ALL, Flush.ENGINE

WATCHED_ENTRY = 1 << 9  # in a shadow entry that is not present: it stands for a page that is shared with another core
WATCHED_MAX = 4  # pages that a CPU shares with others
RECENT_MAX = 32  # events of a CPU that are kept
TABLE_PIECES_MAX = 4  # of a memory in which page tables lie

_OTHERS = (
    ("WATCHED_ENTRY", WATCHED_ENTRY),
    ("WATCHED_MAX", WATCHED_MAX),
    ("RECENT_MAX", RECENT_MAX),
    ("TABLE_PIECES_MAX", TABLE_PIECES_MAX),
)


def c_defines() -> str:
    """The numbers as C sees them."""
    prefixes: dict[str, type[IntEnum]] = {"NEXT": Next, "PLATFORM": Operation, "FLUSH": Flush}
    rows = [(f"{prefix}_{member.name}", member.value) for prefix, numbers in prefixes.items() for member in numbers]
    return "".join(f"#define {name} {value}\n" for name, value in [*rows, *_OTHERS])
