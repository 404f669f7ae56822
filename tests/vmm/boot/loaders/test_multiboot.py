"""Claims about Multiboot kernels: what is loaded where, and what EBX leads to."""

import struct
from pathlib import Path

import pytest

from emulator.errors import ConfigError
from tests.vmm.boot.loaders.sample_images import Segment, make_elf, multiboot_header
from vmm.boot.loaders import BootImage, BootProtocol, EntryMode, load

MEMORY_BYTES = 32 << 20
BASE = 0x200000
ADDRESSES = 1 << 16


def boot(folder: Path, kernel: bytes, *, append: str = "", modules: dict[str, bytes] | None = None) -> BootImage:
    (folder / "kernel").write_bytes(kernel)
    for text, data in (modules or {}).items():
        (folder / text.split()[0]).write_bytes(data)
    texts = [f"{folder}/{text}" for text in modules or {}]
    return load(folder / "kernel", modules=texts, append=append, memory_bytes=MEMORY_BYTES)


def error_line(folder: Path, kernel: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        boot(folder, kernel)
    return str(caught.value)


def memory_of(image: BootImage) -> bytearray:
    memory = bytearray(MEMORY_BYTES)
    for gpa, data in image.segments:
        memory[gpa : gpa + len(data)] = data
    return memory


def words(memory: bytearray, gpa: int, count: int = 1) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}I", memory, gpa)


def text(memory: bytearray, gpa: int) -> bytes:
    return bytes(memory[gpa : memory.index(0, gpa)])


def elf_kernel(bits: int, flags: int = 0) -> bytes:
    return make_elf(Segment(BASE, multiboot_header(flags) + b"\xf4" * 16), bits=bits, entry=BASE + 12)


@pytest.mark.parametrize("bits", [32, 64])
def test_an_elf_kernel_is_entered_in_protected_mode_with_the_magic_in_eax(tmp_path: Path, bits: int) -> None:
    image = boot(tmp_path, elf_kernel(bits, flags=7))
    assert (image.mode, image.entry_gpa) == (EntryMode.PROTECTED, BASE + 12)
    assert image.registers["rax"] == 0x2BADB002
    assert image.description == f"Multiboot kernel (ELF{bits})"


def test_the_information_tells_memory_command_line_and_loader(tmp_path: Path) -> None:
    image = boot(tmp_path, elf_kernel(32), append="a=1 b")
    memory, at = memory_of(image), image.registers["rbx"]
    flags, lower_kib, upper_kib, _, command_line = words(memory, at, 5)
    assert flags == 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9
    assert (lower_kib, upper_kib) == (639, 31 << 10)
    assert text(memory, command_line) == b"kernel a=1 b"
    assert text(memory, *words(memory, at + 64)) == b"sidecore"


def test_the_memory_map_is_walked_by_the_size_of_its_entries(tmp_path: Path) -> None:
    image = boot(tmp_path, elf_kernel(32))
    memory = memory_of(image)
    length_bytes, at = words(memory, image.registers["rbx"] + 44, 2)
    entries, end = [], at + length_bytes
    while at < end:
        size_bytes, start, length, kind = struct.unpack_from("<IQQI", memory, at)
        entries.append((start, length, kind))
        at += size_bytes + 4
    assert at == end
    assert entries == [(0, 0x9FC00, 1), (0x9FC00, 0x60400, 2), (0x100000, MEMORY_BYTES - 0x100000, 1)]


def test_modules_lie_on_pages_behind_the_kernel_with_their_arguments(tmp_path: Path) -> None:
    image = boot(tmp_path, elf_kernel(32), modules={"one -v x": b"1" * 5000, "two": b"22"})
    memory = memory_of(image)
    count, at = words(memory, image.registers["rbx"] + 20, 2)
    assert count == 2
    modules = [words(memory, at + 16 * i, 3) for i in range(2)]
    assert [(start, end) for start, end, _ in modules] == [
        (BASE + 0x1000, BASE + 0x1000 + 5000),
        (BASE + 0x3000, BASE + 0x3002),
    ]
    assert [text(memory, arguments) for _, _, arguments in modules] == [b"one -v x", b"two"]
    assert bytes(memory[BASE + 0x3000 : BASE + 0x3003]) == b"22\0"


def test_addresses_in_the_header_load_any_file_format(tmp_path: Path) -> None:
    header = multiboot_header(ADDRESSES, BASE + 4, BASE, BASE + 0x40, BASE + 0x80, BASE + 0x30)
    body = bytes(8) + b"skip" + header + bytes(range(100))
    image = boot(tmp_path, body)
    assert image.entry_gpa == BASE + 0x30
    assert image.description == "Multiboot kernel (addresses)"
    assert dict(image.segments)[BASE] == body[8:0x48]


def test_load_end_0_means_the_whole_file_and_bss_end_0_no_bss(tmp_path: Path) -> None:
    body = multiboot_header(ADDRESSES, BASE, BASE, 0, 0, BASE + 0x20) + bytes(100)
    image = boot(tmp_path, body, modules={"m": b"x"})
    assert dict(image.segments)[BASE] == body
    with_bss = multiboot_header(ADDRESSES, BASE, BASE, 0, BASE + 0x1001, BASE + 0x20) + bytes(100)
    image = boot(tmp_path, with_bss, modules={"m": b"x"})
    assert dict(image.segments)[BASE + 0x2000] == b"x"


def test_the_header_is_found_up_to_8_kib_at_multiples_of_4_and_with_its_checksum(tmp_path: Path) -> None:
    header = multiboot_header(ADDRESSES, BASE, BASE, 0, 0, BASE)
    boot(tmp_path, bytes(8192 - 12 - 20) + header)
    boot(tmp_path, bytes(4) + struct.pack("<I", 0x1BADB002) + header)
    assert "no kernel" in error_line(tmp_path, bytes(8192 - 8) + header)
    assert "no kernel" in error_line(tmp_path, bytes(2) + header)
    assert "no kernel" in error_line(tmp_path, multiboot_header(checksum=1))


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (multiboot_header(8) + bytes(50), "wants features that Multiboot 1 has not (flags 0x8)"),
        (multiboot_header() + bytes(50), "is no ELF file"),
        (multiboot_header(ADDRESSES, BASE, BASE + 4, 0, 0, BASE) + bytes(50), "contradict each other"),
        (multiboot_header(ADDRESSES, BASE + 4, BASE, 0, 0, BASE) + bytes(50), "contradict each other"),
        (multiboot_header(ADDRESSES, BASE, BASE, BASE - 4, 0, BASE) + bytes(50), "contradict each other"),
        (multiboot_header(ADDRESSES, BASE, BASE, BASE + 51, 0, BASE) + bytes(18), "truncated"),
        (multiboot_header(ADDRESSES, BASE, BASE, 0, 0xFFFFFFFF, BASE) + bytes(50), "outside 32 MiB"),
        (multiboot_header(ADDRESSES, BASE, BASE, 0, 0, BASE + 82) + bytes(50), "entry point 0x200052 outside"),
        (multiboot_header(ADDRESSES, 0x8000, 0x8000, 0, 0, 0x8000) + bytes(50), "firmware's or the loader's"),
    ],
)
def test_damaged_headers_are_one_clear_line(tmp_path: Path, kernel: bytes, reason: str) -> None:
    assert reason in error_line(tmp_path, kernel)


def test_modules_that_do_not_fit_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as sparse:
        sparse.truncate(1 << 40)
    (tmp_path / "kernel").write_bytes(elf_kernel(32))
    with pytest.raises(ConfigError, match=r"huge' is too big: its 1024 GiB do not fit"):
        load(tmp_path / "kernel", modules=[f"{tmp_path}/huge"], memory_bytes=MEMORY_BYTES)
    with (tmp_path / "large").open("wb") as sparse:
        sparse.truncate(31 << 20)
    with pytest.raises(ConfigError, match="the initrd has 31 MiB and must end below 32 MiB"):
        load(tmp_path / "kernel", initrd=tmp_path / "large", memory_bytes=MEMORY_BYTES)


def test_too_many_modules_or_arguments_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(elf_kernel(32))
    (tmp_path / "m").write_bytes(b"m")
    with pytest.raises(ConfigError, match="takes 32 modules"):
        load(tmp_path / "kernel", modules=[f"{tmp_path}/m"] * 33, memory_bytes=MEMORY_BYTES)
    with pytest.raises(ConfigError, match="arguments of the modules are too long"):
        load(tmp_path / "kernel", modules=[f"{tmp_path}/m " + "x" * 0x4000], memory_bytes=MEMORY_BYTES)


def test_another_protocol_can_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(elf_kernel(64))
    image = load(tmp_path / "kernel", memory_bytes=MEMORY_BYTES, protocol=BootProtocol.LINUX)
    assert image.mode is EntryMode.LONG
    with pytest.raises(ConfigError, match="is no kernel of the protocol 'pvh'"):
        load(tmp_path / "kernel", memory_bytes=MEMORY_BYTES, protocol=BootProtocol.PVH)
