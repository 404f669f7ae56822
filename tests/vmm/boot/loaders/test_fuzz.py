"""Hostile files: whatever is in them, the answer is a valid memory image or a ConfigError of one line."""

import gzip
import lzma

from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import ConfigError
from tests.vmm.boot.loaders.sample_images import (
    HEADER_FIELDS,
    Segment,
    make_bzimage,
    make_cpio,
    make_elf,
    multiboot_header,
    pvh_note,
)
from tests.vmm.boot.loaders.test_initrd import lz4_legacy, zstd_raw
from vmm.boot.loaders import BootImage, EntryMode, low_memory
from vmm.boot.loaders.image_file import ImageFile
from vmm.boot.loaders.initrd import check_initrd
from vmm.boot.loaders.load import check_areas, parse_kernel, place
from vmm.boot.loaders.modules import ModuleFile

MEMORY_BYTES = 16 << 20
CPIO = make_cpio({"init": b"#!/bin/sh\n", "etc/motd": b"hello" * 50})

KERNELS = [
    make_bzimage(),
    make_elf(
        Segment(0x200000, b"\xf4" * 64, vaddr=0xFFFFFFFF80200000),
        Segment(0x300000, b"data", memsz=0x1000),
        Segment(0, b"note", kind=4),
    ),
    make_elf(Segment(0x20000, b"\xf4"), entry=0x20000),
    make_elf(Segment(0x200000, b"\xf4" * 64), Segment(0x300000, b"data", memsz=0x1000), bits=32),
    make_elf(Segment(0x200000, b"\xf4" * 64), pvh_note(0x200010), bits=32),
    make_elf(Segment(0x200000, b"\xf4" * 64), pvh_note(0x200000, size_bytes=8)),
    make_elf(Segment(0x200000, multiboot_header(3) + b"\xf4" * 64), bits=32),
    make_elf(Segment(0x200000, multiboot_header() + b"\xf4" * 64)),
    bytes(16) + multiboot_header(1 << 16, 0x200010, 0x200000, 0x200080, 0x200100, 0x200030) + b"\xf4" * 100,
    bytes(16) + multiboot_header(1 << 16, 0x200010, 0x200000, 0, 0, 0x200030) + b"\xf4" * 100,
]
INITRDS = [CPIO, gzip.compress(CPIO, mtime=0), lzma.compress(CPIO), zstd_raw(CPIO), lz4_legacy(CPIO), CPIO + CPIO]

INTERESTING_NUMBERS = st.one_of(
    st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x1FF, 0x200, 0xFFF, 0x1000, 0x20000, 0x9FC00, 0x100000, MEMORY_BYTES]),
    st.sampled_from([MEMORY_BYTES - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 4096, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
)


@st.composite
def mutations(draw: st.DrawFn, samples: list[bytes], header_bytes: int) -> bytes:
    """A sample with a few numbers overwritten, mostly in its headers, and perhaps cut off or extended."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 4))):
        width_bytes = draw(st.sampled_from([1, 2, 4, 8]))
        last_offset = max(0, min(header_bytes, len(data)) - width_bytes)
        offset = draw(st.integers(0, last_offset))
        value = draw(INTERESTING_NUMBERS) & ((1 << 8 * width_bytes) - 1)
        data[offset : offset + width_bytes] = value.to_bytes(width_bytes, "little")
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data + draw(st.binary(max_size=8)))


def check_invariants(image: BootImage) -> None:
    """What every consumer of a BootImage relies on."""
    previous_end_gpa = 0
    for gpa, data in image.segments:
        assert data
        assert gpa >= previous_end_gpa
        previous_end_gpa = gpa + len(data)
    assert previous_end_gpa <= MEMORY_BYTES
    assert 0 <= image.entry_gpa < MEMORY_BYTES
    assert image.cr3_gpa == (low_memory.PAGE_TABLES.gpa if image.mode is EntryMode.LONG else 0)
    assert sum(len(data) for _, data in image.segments) <= MEMORY_BYTES
    assert "\n" not in image.description


def check_line(error: ConfigError) -> None:
    assert str(error).isprintable(), "not one line for a terminal"


def load_bytes(kernel: bytes, initrd: bytes, append: str) -> BootImage | None:
    """As `load`, without files; None for a ConfigError."""
    try:
        with ImageFile.from_bytes("kernel", kernel) as image:
            kernel_image = parse_kernel(image, memory_bytes=MEMORY_BYTES)
            check_areas(image.name, kernel_image, MEMORY_BYTES)
        files = [ModuleFile("initrd", "", initrd)] if initrd else []
        return place(kernel_image, files=files, append=append, memory_bytes=MEMORY_BYTES)
    except ConfigError as error:
        check_line(error)
        return None


def test_the_samples_are_valid() -> None:
    for kernel in KERNELS:
        image = load_bytes(kernel, CPIO, "quiet")
        assert image is not None
        check_invariants(image)
    for initrd in INITRDS:
        check_initrd("initrd", initrd, memory_bytes=MEMORY_BYTES)


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(kernel=mutations(KERNELS, 0x270), initrd=st.binary(max_size=64), append=st.text(max_size=20))
def test_mutated_kernels_give_a_valid_image_or_one_line(kernel: bytes, initrd: bytes, append: str) -> None:
    image = load_bytes(kernel, initrd, append)
    if image is not None:
        check_invariants(image)


@settings(max_examples=800, deadline=None, derandomize=True)
@given(fields=st.dictionaries(st.sampled_from(sorted(HEADER_FIELDS)), INTERESTING_NUMBERS, max_size=3))
def test_any_value_of_a_setup_header_field_is_survived(fields: dict[str, int]) -> None:
    widths = {"B": 8, "H": 16, "I": 32, "Q": 64}
    cut = {name: value & ((1 << widths[HEADER_FIELDS[name][1][1]]) - 1) for name, value in fields.items()}
    image = load_bytes(make_bzimage(**cut), CPIO, "")
    if image is not None:
        check_invariants(image)


@settings(max_examples=800, deadline=None, derandomize=True)
@given(
    segments=st.lists(
        st.builds(
            Segment,
            paddr=INTERESTING_NUMBERS,
            data=st.binary(max_size=32),
            memsz=st.none() | INTERESTING_NUMBERS,
            filesz=st.none() | INTERESTING_NUMBERS,
            offset=st.none() | INTERESTING_NUMBERS,
            kind=st.sampled_from([1, 1, 1, 4]),
        ),
        max_size=4,
    ),
    entry=INTERESTING_NUMBERS,
    bits=st.sampled_from([32, 64]),
)
def test_any_program_headers_are_survived(segments: list[Segment], entry: int, bits: int) -> None:
    image = load_bytes(make_elf(*segments, entry=entry, bits=bits), CPIO, "")
    if image is not None:
        check_invariants(image)


@settings(max_examples=800, deadline=None, derandomize=True)
@given(
    flags=st.sampled_from([0, 1, 3, 7, 8, 0x10000, 0x10003, 0x10007, 0xFFFFFFFF]),
    addresses=st.lists(INTERESTING_NUMBERS, min_size=5, max_size=5),
    offset=st.integers(0, 9000),
    tail=st.binary(max_size=64),
)
def test_any_multiboot_addresses_are_survived(flags: int, addresses: list[int], offset: int, tail: bytes) -> None:
    header = multiboot_header(flags, *(address & 0xFFFFFFFF for address in addresses))
    image = load_bytes(bytes(offset) + header + tail, CPIO, "quiet")
    if image is not None:
        check_invariants(image)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(notes=st.binary(max_size=200), entry=INTERESTING_NUMBERS, padding=st.binary(max_size=8))
def test_any_notes_are_survived(notes: bytes, entry: int, padding: bytes) -> None:
    note = Segment(0, padding + pvh_note(entry).data + notes, kind=4)
    image = load_bytes(make_elf(Segment(0x200000), note, bits=32), b"", "")
    if image is not None:
        check_invariants(image)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    start=st.sampled_from(
        [b"", b"\x7fELF", b"\x7fELF\2\1\1", b"\x7fELF\1\1\1", multiboot_header(), b"\x1f\x8b", b"MZ"]
    ),
    noise=st.binary(max_size=600),
)
def test_noise_is_survived(start: bytes, noise: bytes) -> None:
    image = load_bytes(start + noise, b"", "")
    if image is not None:
        check_invariants(image)


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(initrd=mutations(INITRDS, 256))
def test_mutated_initrds_pass_or_give_one_line(initrd: bytes) -> None:
    try:
        check_initrd("initrd", initrd, memory_bytes=MEMORY_BYTES)
    except ConfigError as error:
        check_line(error)
