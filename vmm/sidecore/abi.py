"""The ABI of sidecalls as the VMM sees it: guest_images/lib/sidecore.h has the table, a test compares the two."""

from typing import NamedTuple

ABI = 1
CPUID_LEAF = 0x4000_0001
CPUID_PRESENT = 1

SLOT_BYTES = 64
SLOTS_MAX = 64

FREE, POSTED, DONE = 0, 1, 2
STATE = 0xFF
CLOSED = 0x100

OP_NULL, OP_CPUID, OP_PTE_SET, OP_PTE_CHANGE = 0, 1, 2, 3

OK = 0
EOPERATION, ESEQUENCE, EADDRESS, EVALUE, ECLOSED = -1, -2, -3, -4, -5

CALL_NULL, CALL_REGISTER, CALL_UNREGISTER, CALL_SWITCH = 0x5C00, 0x5C01, 0x5C02, 0x5C03

MASK_32, MASK_64 = (1 << 32) - 1, (1 << 64) - 1


class Request(NamedTuple):
    """What a guest has put into a slot: nothing of it is to be trusted."""

    sequence: int
    operation: int
    arguments: tuple[int, int, int]


class Answer(NamedTuple):
    """What the sidecore puts there."""

    status: int
    results: tuple[int, int, int] = (0, 0, 0)


def unpack(slot: bytes) -> Request:
    """The request in the 64 bytes of a slot."""
    words = [int.from_bytes(slot[at : at + 8], "little") for at in (16, 24, 32)]
    sequence, operation = int.from_bytes(slot[4:8], "little"), int.from_bytes(slot[8:12], "little")
    return Request(sequence, operation, (words[0], words[1], words[2]))


def state_of(slot: bytes) -> int:
    """The state word of a slot."""
    return int.from_bytes(slot[:4], "little")
