"""The symbols that a Linux kernel has of itself, for its own backtraces, in its image: no other file is needed.

    offsets (s32 each) | relative base (u64) | count (u32) | names | markers (u32 each) | ... | tokens | token index
                                               '-- 8 bytes -'                                      older: Linux 6.1
    count | names | markers | tokens | token index | offsets | relative base | ...                 newer

A name is a length, one byte or two, and so many bytes: each stands for a token, a few characters; the first character
is the kind as nm has it. Marker n is where name 256 n begins. There are no headers: the tables are found by what must
be true. The tokens of digits are the digits; the token index is where each token begins; the markers are where the
names begin. Source: Linux, scripts/kallsyms.c and kernel/kallsyms.c.

An image is whoever's: what is not as it must be gives no symbols, and never an error.
"""

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

DIGITS = b"0\0001\0002\0003\0004\0005\0006\0007\0008\0009\0"  # tokens of the characters 48 to 57
DIGIT = 48
TOKENS, TOKEN_MAX_BYTES = 256, 64
CANDIDATES_MAX = 64  # places that are looked at closer
NAMES_LOOKED_AT_MAX = 1 << 23  # of all candidates
NAMES_MAX_BYTES = 16 << 20  # between the count and the tokens
COUNT_MIN, COUNT_MAX = 256, 1 << 20
NAME_MIN_BYTES, NAME_MAX_BYTES = 3, 64  # on average, with what else lies between count and tokens
NAMES_PER_MARKER = 256
KERNEL_BASE = 0xFFFF_FFFF_8000_0000
ALIGNMENT_BYTES = 8

Row = tuple[int, str, str]  # address, kind, name


def kallsyms(image: bytes) -> list[Row]:
    """The symbols of a kernel, by its image as it lies in memory or in an ELF file; none when there are no tables."""
    position = -1
    for _ in range(CANDIDATES_MAX):
        position = image.find(DIGITS, position + 1)
        if position < 0:
            break
        found = _tokens(image, position)
        if found is not None:
            tokens, start, end = found
            return _symbols(image, tokens, start, end)
    return []


def _tokens(image: bytes, digits: int) -> tuple[list[bytes], int, int] | None:
    """The tokens, where they begin, and the end of their index, if those of the digits are at `digits`."""
    second = digits
    for _ in range(DIGIT - 1):
        second = image.rfind(b"\0", max(0, second - TOKEN_MAX_BYTES), second - 1) + 1
        if second <= 0:
            return None
    others = image[second : second + TOKENS * TOKEN_MAX_BYTES].split(b"\0", TOKENS - 1)[: TOKENS - 1]
    offsets = list(accumulate(len(token) + 1 for token in others))
    if len(others) < TOKENS - 1 or offsets[-1] > 0xFFFF - TOKEN_MAX_BYTES:
        return None
    end = second + offsets[-1]
    for start in range(second - 1, max(0, second - TOKEN_MAX_BYTES), -1):  # what is in front of the first is no token
        first = second - start
        index = struct.pack(f"<{TOKENS}H", 0, first, *(first + offset for offset in offsets[:-1]))
        at = image.find(index, end, end + ALIGNMENT_BYTES + len(index))
        if at >= 0:
            return [image[start : second - 1], *others], start, at + len(index)
    return None


def _symbols(image: bytes, tokens: Sequence[bytes], tokens_at: int, index_end: int) -> list[Row]:
    begin = max(0, tokens_at - NAMES_MAX_BYTES) & -ALIGNMENT_BYTES
    left = NAMES_LOOKED_AT_MAX
    for skew in range(begin, begin + ALIGNMENT_BYTES):  # the image may lie anywhere in its file
        words = np.frombuffer(image[skew : skew + (tokens_at - skew) // 8 * 8], np.uint64)
        for place in _counts(words, tokens_at - skew):
            count_at, count = skew + 8 * int(place), int(words[place])
            names = _names(image, count_at + 8, min(count, left), tokens_at)
            left -= len(names)
            addresses = _addresses(image, count, count_at, index_end) if len(names) == count else []
            if addresses:
                return _rows(image, tokens, names, addresses)
    return []


def _counts(words: npt.NDArray[np.uint64], room_bytes: int) -> npt.NDArray[np.int64]:
    """Where a word may be the count of so many names as lie behind it."""
    room = (room_bytes - 8 * np.arange(len(words), dtype=np.int64)).astype(np.float64)
    sizes = words.astype(np.float64)
    fits = (
        (sizes >= COUNT_MIN) & (sizes < COUNT_MAX) & (sizes * NAME_MIN_BYTES < room) & (room < sizes * NAME_MAX_BYTES)
    )
    return np.flatnonzero(fits)


def _names(image: bytes, start: int, count: int, limit: int) -> list[tuple[int, int]]:
    """[begin, end) of each name's bytes; fewer than `count` where this is no list of names with markers behind it."""
    places: list[tuple[int, int]] = []
    markers, at = [], start
    for number in range(count):
        if not number % NAMES_PER_MARKER:
            markers.append(at - start)
        length, width = image[at], 1
        if length & 0x80:
            length, width = length & 0x7F | image[at + 1] << 7, 2
        if not length or at + length >= limit:
            return places
        places.append((at + width, at + width + length))
        at += width + length
    packed = struct.pack(f"<{len(markers)}I", *markers)
    return places if image.find(packed, at, at + ALIGNMENT_BYTES + len(packed)) >= 0 else places[:-1]


def _addresses(image: bytes, count: int, count_at: int, index_end: int) -> list[int]:
    """The symbols' addresses, in front of the count or behind the index of tokens."""
    offsets_bytes = 4 * count + 7 & -8
    behind = index_end + (count_at - index_end) % ALIGNMENT_BYTES  # each table is aligned as the count is
    for offsets_at, base_at in ((count_at - 8 - offsets_bytes, count_at - 8), (behind, behind + offsets_bytes)):
        if offsets_at < 0 or base_at + 8 > len(image):
            continue
        base = int.from_bytes(image[base_at : base_at + 8], "little")
        offsets = struct.unpack_from(f"<{count}i", image, offsets_at)
        is_split = any(offset < 0 for offset in offsets)  # those of each CPU are numbers, from 0 on
        if is_split:
            addresses = [offset if offset >= 0 else base - 1 - offset for offset in offsets]
        else:
            addresses = [base + offset for offset in offsets]
        if base >= KERNEL_BASE and all(before <= after for before, after in pairwise(addresses)):
            return addresses
    return []


def _rows(
    image: bytes, tokens: Sequence[bytes], names: Sequence[tuple[int, int]], addresses: Sequence[int]
) -> list[Row]:
    rows = []
    texts = [token.decode("latin-1") for token in tokens]
    for (begin, end), address in zip(names, addresses, strict=True):
        name = "".join(map(texts.__getitem__, image[begin:end]))
        if len(name) > 1 and address < 1 << 64:
            rows.append((address, name[0], name[1:]))
    return rows
