"""ACPI machine language, as much as the DSDT needs (ACPI specification 6.4, 20.2): terms as bytes.

PkgLength   counts itself:  00 nnnnnn | 01 00 nnnn + 1 byte | 10 00 nnnn + 2 bytes
"""

ROOT, ROOT_PREFIX = "\\", b"\\"
SEGMENT_BYTES = 4

ZERO_OP, ONE_OP, NAME_OP, BYTE_PREFIX, WORD_PREFIX, DWORD_PREFIX = 0x00, 0x01, 0x08, 0x0A, 0x0B, 0x0C
SCOPE_OP, BUFFER_OP, PACKAGE_OP, METHOD_OP = 0x10, 0x11, 0x12, 0x14
ARG0_OP, STORE_OP, IF_OP, RETURN_OP = 0x68, 0x70, 0xA0, 0xA4
DEVICE_OP = b"\x5b\x82"
DUAL_NAME_PREFIX = 0x2E


def name_string(path: str) -> bytes:
    """A name such as `_CRS`, `\\_S5` or `\\_SB.PCI0`: one or two segments, each filled up with underscores."""
    prefix, rest = (ROOT_PREFIX, path[1:]) if path.startswith(ROOT) else (b"", path)
    segments = [segment.ljust(SEGMENT_BYTES, "_").encode() for segment in rest.split(".")]
    if len(segments) > 2 or any(len(segment) != SEGMENT_BYTES for segment in segments):
        raise ValueError(f"{path!r} is no name of one or two segments")
    return prefix + (bytes([DUAL_NAME_PREFIX]) if len(segments) == 2 else b"") + b"".join(segments)


def package_length(content: bytes) -> bytes:
    """PkgLength of a term whose bytes behind it are `content`."""
    if len(content) + 1 < 1 << 6:
        return bytes([len(content) + 1])
    for more in (1, 2):
        length = len(content) + 1 + more
        if length < 1 << 4 + 8 * more:
            return bytes([more << 6 | length & 0xF]) + (length >> 4).to_bytes(more, "little")
    raise ValueError(f"a term of {len(content)} bytes is too long")


def integer(value: int) -> bytes:
    """An integer in its shortest form."""
    if value in (0, 1):
        return bytes([ONE_OP if value else ZERO_OP])
    for prefix, size_bytes in ((BYTE_PREFIX, 1), (WORD_PREFIX, 2), (DWORD_PREFIX, 4)):
        if value < 1 << 8 * size_bytes:
            return bytes([prefix]) + value.to_bytes(size_bytes, "little")
    raise ValueError(f"{value:#x} has more than 32 bits")


def eisa_id(text: str) -> bytes:
    """EISAID("PNP0501"): three letters of 5 bits, four digits, in one big-endian word (19.6.34)."""
    letters = [ord(letter) - 0x40 for letter in text[:3]]
    word = letters[0] << 26 | letters[1] << 21 | letters[2] << 16 | int(text[3:], 16)
    return integer(int.from_bytes(word.to_bytes(4, "big"), "little"))


def name(path: str, value: bytes) -> bytes:
    """Name (path, value)."""
    return bytes([NAME_OP]) + name_string(path) + value


def package(*elements: bytes) -> bytes:
    """Package () {elements}."""
    content = bytes([len(elements)]) + b"".join(elements)
    return bytes([PACKAGE_OP]) + package_length(content) + content


def buffer(data: bytes) -> bytes:
    """Buffer () {data}."""
    content = integer(len(data)) + data
    return bytes([BUFFER_OP]) + package_length(content) + content


def scope(path: str, *terms: bytes) -> bytes:
    """Scope (path) {terms}."""
    content = name_string(path) + b"".join(terms)
    return bytes([SCOPE_OP]) + package_length(content) + content


def device(path: str, *terms: bytes) -> bytes:
    """Device (path) {terms}."""
    content = name_string(path) + b"".join(terms)
    return DEVICE_OP + package_length(content) + content


def method(path: str, argument_count: int, *terms: bytes) -> bytes:
    """Method (path, argument_count) {terms}."""
    content = name_string(path) + bytes([argument_count]) + b"".join(terms)
    return bytes([METHOD_OP]) + package_length(content) + content


def store_argument(path: str) -> bytes:
    """Store (Arg0, path)."""
    return bytes([STORE_OP, ARG0_OP]) + name_string(path)


def if_then(path: str, *terms: bytes) -> bytes:
    """If (path) {terms}."""
    content = name_string(path) + b"".join(terms)
    return bytes([IF_OP]) + package_length(content) + content


def return_name(path: str) -> bytes:
    """Return (path)."""
    return bytes([RETURN_OP]) + name_string(path)


# --- resource descriptors (ACPI specification 6.4.2) ---


def io_ports(base: int, length: int) -> bytes:
    """IO (Decode16, base, base, 1, length)."""
    return bytes([0x47, 1, *base.to_bytes(2, "little"), *base.to_bytes(2, "little"), 1, length])


def bus_numbers(first: int, count: int) -> bytes:
    """WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, first, last, 0, count)."""
    words = (0, first, first + count - 1, 0, count)
    return bytes([0x88, 0x0D, 0, 2, 0x0C, 0]) + b"".join(word.to_bytes(2, "little") for word in words)


def port_window(first: int, last: int) -> bytes:
    """WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, first, last, 0, length)."""
    words = (0, first, last, 0, last - first + 1)
    return bytes([0x88, 0x0D, 0, 1, 0x0C, 3]) + b"".join(word.to_bytes(2, "little") for word in words)


def memory_window(first: int, last: int) -> bytes:
    """DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, 0, first, last, 0, n)."""
    words = (0, first, last, 0, last - first + 1)
    return bytes([0x87, 0x17, 0, 0, 0x0C, 1]) + b"".join(word.to_bytes(4, "little") for word in words)


def irq(number: int) -> bytes:
    """IRQNoFlags () {number}: edge-triggered, as ISA has it."""
    return bytes([0x22, *(1 << number).to_bytes(2, "little")])


def resources(*descriptors: bytes) -> bytes:
    """ResourceTemplate () {descriptors}, with the end tag; a checksum of 0 counts as right."""
    return buffer(b"".join(descriptors) + b"\x79\0")
