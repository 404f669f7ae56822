"""The VIF page: 4 KiB of a guest's memory, which the guest, the NIC and the VMM share.

    0      u32 pending     the VMM, or its sidecore, sets 1; the guest stores 0
    4      u32 masked      the guest stores 1: no upcalls
    8      u32 notify      a driver domain has 1 there: the guest's next frame is worth a hypercall
    16     u64 requests    of a driver domain's own page: bit n: interface n has something to send
    24     u32 changes     the same: counts on when interfaces come and go
    64     u32 received    the device's count of the receive descriptors that it has given back, a line of its own
    1024   64 send descriptors        address u64 | length u32 | state u32
    2048   64 receive descriptors     the same

Both rings are used in order, from descriptor 0 on. A descriptor in state OWNED is the device's, in any other the
guest's. The device writes only (length, state), at the end of its work, and then `received`. A descriptor in ERROR has
the reason as length.
"""

import struct

PENDING, MASKED, RECEIVED = 0, 4, 64
NOTIFY_WANTED, REQUESTS, CHANGES = 8, 16, 24
SEND_RING, RECEIVE_RING = 1024, 2048
RING_COUNT, DESCRIPTOR_BYTES = 64, 16
RESULT_AT = 8  # of (length, state) in a descriptor
FREE, OWNED, DONE, ERROR = range(4)
BAD_ADDRESS, BAD_LENGTH = 1, 2
FRAME_MIN_BYTES, FRAME_MAX_BYTES = 14, 1514  # without the check sequence

_DESCRIPTOR = struct.Struct("<QII")
_WORD = struct.Struct("<I")
_RESULT = struct.Struct("<II")


def descriptor_at(ring: int, index: int) -> int:
    """Where descriptor `index` of a ring is in the page."""
    return ring + index % RING_COUNT * DESCRIPTOR_BYTES


def unpack(data: bytes) -> tuple[int, int, int]:
    """(address, length, state) of the bytes of a descriptor."""
    address, length, state = _DESCRIPTOR.unpack(data)
    return address, length, state


def states(ring: bytes) -> list[int]:
    """The states of all descriptors of a ring."""
    return [state for _, _, state in _DESCRIPTOR.iter_unpack(ring)]


def pack(address: int, length: int, state: int) -> bytes:
    """The bytes of a descriptor."""
    return _DESCRIPTOR.pack(address, length, state)


def pack_word(value: int) -> bytes:
    """The bytes of a counter, modulo 2**32."""
    return _WORD.pack(value & 0xFFFF_FFFF)


def pack_result(length: int, state: int) -> bytes:
    """The bytes that the device writes."""
    return _RESULT.pack(length, state)
