"""Claims about where kernel, initrd and boot parameters go, and about files that are no kernels."""

import os
import struct
import subprocess
from pathlib import Path

import pytest

from emulator.errors import ConfigError
from tests.vmm.boot.loaders.sample_images import Segment, make_bzimage, make_cpio, make_elf
from vmm.boot.loaders import BootImage, EntryMode, load

MEMORY_BYTES = 32 << 20
TEXT = b"\xf4" * 16


def load_bytes(folder: Path, kernel: bytes, *, initrd: bytes | None = None, append: str = "console=ttyS0") -> BootImage:
    kernel_path, initrd_path = folder / "kernel", folder / "initrd"
    kernel_path.write_bytes(kernel)
    if initrd is not None:
        initrd_path.write_bytes(initrd)
    return load(kernel_path, initrd=None if initrd is None else initrd_path, append=append, memory_bytes=MEMORY_BYTES)


def error_line(folder: Path, kernel: bytes, *, initrd: bytes | None = None, append: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        load_bytes(folder, kernel, initrd=initrd, append=append)
    line = str(caught.value)
    assert "\n" not in line
    return line


def boot_params_of(image: BootImage) -> bytes:
    return dict(image.segments)[image.registers["rsi"]]


def u32(page: bytes, offset: int) -> int:
    value: int = struct.unpack_from("<I", page, offset)[0]
    return value


def test_bzimage_is_loaded_at_its_preferred_address_and_entered_at_0x200(tmp_path: Path) -> None:
    payload = bytes(range(1, 256)) * 16
    image = load_bytes(tmp_path, make_bzimage(payload))
    assert dict(image.segments)[0x400000] == payload
    assert image.entry_gpa == 0x400200
    assert image.description == "Linux 9.8.7-test bzImage"


@pytest.mark.parametrize("fields", [{"xloadflags": 0x7E}, {"version": 0x020A}])
def test_a_bzimage_without_a_64_bit_entry_is_entered_in_protected_mode(tmp_path: Path, fields: dict[str, int]) -> None:
    image = load_bytes(tmp_path, make_bzimage(**fields))
    assert (image.mode, image.entry_gpa, image.cr3_gpa) == (EntryMode.PROTECTED, 0x400000, 0)
    assert boot_params_of(image)[0x202:0x206] == b"HdrS"
    assert image.description == "Linux 9.8.7-test bzImage of 32 bits"


def test_an_elf32_kernel_is_entered_in_protected_mode_with_boot_params(tmp_path: Path) -> None:
    image = load_bytes(tmp_path, make_elf(Segment(0x200000, TEXT), bits=32, entry=0x200008))
    assert (image.mode, image.entry_gpa, image.description) == (EntryMode.PROTECTED, 0x200008, "ELF32 kernel")
    assert dict(image.segments)[0x200000] == TEXT
    assert boot_params_of(image)[0x202:0x206] == b"HdrS"
    assert dict(image.segments)[image.gdt_gpa][0x10:0x18] == bytes.fromhex("ffff0000009bcf00")  # 32-bit code


def test_boot_params_hold_the_header_of_the_file_and_what_the_loader_must_fill_in(tmp_path: Path) -> None:
    kernel = make_bzimage(setup_data=0xDEAD0000)
    initrd = make_cpio({"init": b"#!"})
    image = load_bytes(tmp_path, kernel, initrd=initrd, append="root=/dev/ram0 quiet")
    page = boot_params_of(image)
    assert len(page) == 4096
    assert page[0x1FE:0x210] == kernel[0x1FE:0x210]  # copied
    assert page[0x230:0x250] == kernel[0x230:0x250]
    assert page[0x210] == 0xFF
    assert page[0x211] == 0x01
    assert u32(page, 0x214) == 0x400000
    assert u32(page, 0x250) == 0
    assert dict(image.segments)[u32(page, 0x228)] == b"root=/dev/ram0 quiet\0"
    assert dict(image.segments)[u32(page, 0x218)] == initrd
    assert u32(page, 0x21C) == len(initrd)
    assert page[0x1EF] == 0  # sentinel
    assert page[0x1E8] == 3
    entries = [struct.unpack_from("<QQI", page, 0x2D0 + 20 * i) for i in range(3)]
    assert entries == [(0, 0x9FC00, 1), (0x9FC00, 0x60400, 2), (0x100000, MEMORY_BYTES - 0x100000, 1)]


def test_without_an_initrd_its_fields_are_zero(tmp_path: Path) -> None:
    page = boot_params_of(load_bytes(tmp_path, make_bzimage()))
    assert (u32(page, 0x218), u32(page, 0x21C)) == (0, 0)


def test_a_file_may_end_within_its_last_paragraph(tmp_path: Path) -> None:
    payload = b"\xf4" * 0x801
    assert dict(load_bytes(tmp_path, make_bzimage(payload, syssize=0x81)).segments)[0x400000] == payload
    assert "truncated" in error_line(tmp_path, make_bzimage(payload, syssize=0x82))


def test_a_setup_header_of_the_longest_length_does_not_reach_the_memory_map(tmp_path: Path) -> None:
    kernel = bytearray(make_bzimage(jump=0xFFEB))
    kernel[0x290:0x320] = b"\xee" * 0x90
    page = boot_params_of(load_bytes(tmp_path, bytes(kernel)))
    assert page[0x290:0x2D0] == bytes(0x40)
    assert struct.unpack_from("<QQI", page, 0x2D0) == (0, 0x9FC00, 1)


def test_the_gdt_page_tables_and_tss_are_where_the_image_says(tmp_path: Path) -> None:
    image = load_bytes(tmp_path, make_elf(Segment(0x200000)))
    segments = dict(image.segments)
    assert len(segments[image.gdt_gpa]) == image.gdt_limit + 1 == 0x30
    assert len(segments[image.cr3_gpa]) == 6 * 4096


def test_elf_segments_go_to_their_physical_addresses(tmp_path: Path) -> None:
    kernel = make_elf(
        Segment(0x300000, b"data", vaddr=0xFFFFFFFF80300000, memsz=0x5000),
        Segment(0x200000, TEXT, vaddr=0xFFFFFFFF80200000),
        entry=0x200004,
    )
    image = load_bytes(tmp_path, kernel)
    segments = dict(image.segments)
    assert segments[0x200000] == TEXT
    assert segments[0x300000] == b"data"
    assert image.entry_gpa == 0x200004
    assert image.description == "ELF64 kernel"
    page = boot_params_of(image)
    assert page[0x202:0x206] == b"HdrS"
    assert u32(page, 0x260) == 0x105000  # init_size spans both


def test_a_virtual_entry_point_is_translated(tmp_path: Path) -> None:
    kernel = make_elf(Segment(0x200000, TEXT, vaddr=0xFFFFFFFF80200000), entry=0xFFFFFFFF80200008)
    assert load_bytes(tmp_path, kernel).entry_gpa == 0x200008


def test_vmlinux_is_recognised_by_its_banner(tmp_path: Path) -> None:
    kernel = make_elf(Segment(0x200000, TEXT + b"Linux version 6.1.0-13-amd64 (x@y) #1"))
    assert load_bytes(tmp_path, kernel).description == "Linux 6.1.0-13-amd64 vmlinux"


def test_an_elf_linked_by_ld_loads(tmp_path: Path) -> None:
    source = ".globl _start\n.code64\n_start: hlt\n.data\n.quad 0x1122334455667788\n.bss\n.skip 4096\n"
    (tmp_path / "k.s").write_text(source)
    subprocess.run(["as", "--64", "-o", "k.o", "k.s"], cwd=tmp_path, check=True)
    subprocess.run(["ld", "-n", "-Ttext=0x100000", "-Tdata=0x180000", "-o", "k", "k.o"], cwd=tmp_path, check=True)
    image = load(tmp_path / "k", initrd=None, append="", memory_bytes=MEMORY_BYTES)
    assert image.entry_gpa == 0x100000
    segments = dict(image.segments)
    assert segments[0x180000] == struct.pack("<Q", 0x1122334455667788)
    assert any(gpa <= 0x100000 < gpa + len(data) and data[0x100000 - gpa] == 0xF4 for gpa, data in image.segments)


def test_the_initrd_lies_page_aligned_at_the_end_of_memory(tmp_path: Path) -> None:
    initrd = make_cpio({"init": b"x" * 5000})
    image = load_bytes(tmp_path, make_elf(Segment(0x200000)), initrd=initrd)
    gpa = u32(boot_params_of(image), 0x218)
    assert gpa % 4096 == 0
    assert MEMORY_BYTES - 4096 < gpa + len(initrd) <= MEMORY_BYTES


def test_the_initrd_ends_at_or_below_initrd_addr_max(tmp_path: Path) -> None:
    initrd = make_cpio({"init": b"x"})
    image = load_bytes(tmp_path, make_bzimage(initrd_addr_max=0xFFFFFF), initrd=initrd)
    assert u32(boot_params_of(image), 0x218) == 0x1000000 - 4096


def test_the_initrd_fits_exactly_behind_the_init_size_of_the_kernel_but_not_one_page_lower(tmp_path: Path) -> None:
    initrd = make_cpio({"init": b"x"})
    exact = make_bzimage(init_size=0x300000, initrd_addr_max=0x700FFF)
    assert u32(boot_params_of(load_bytes(tmp_path, exact, initrd=initrd)), 0x218) == 0x700000
    line = error_line(tmp_path, make_bzimage(init_size=0x300001, initrd_addr_max=0x700FFF), initrd=initrd)
    assert "give the guest more memory" in line


def test_a_kernel_may_end_exactly_at_the_end_of_memory_but_not_behind(tmp_path: Path) -> None:
    load_bytes(tmp_path, make_bzimage(init_size=MEMORY_BYTES - 0x400000))
    line = error_line(tmp_path, make_bzimage(init_size=MEMORY_BYTES - 0x400000 + 1))
    assert "outside 32 MiB of memory; give the guest 33 MiB or more" in line


def test_the_command_line_may_have_exactly_cmdline_size_bytes(tmp_path: Path) -> None:
    load_bytes(tmp_path, make_bzimage(cmdline_size=10), append="0123456789")
    line = error_line(tmp_path, make_bzimage(cmdline_size=10), append="0123456789a")
    assert line == "the kernel command line has 11 bytes, this kernel takes 10; shorten it"


def test_a_huge_cmdline_size_is_bounded_by_the_buffer(tmp_path: Path) -> None:
    load_bytes(tmp_path, make_bzimage(cmdline_size=0xFFFFFFFF), append="x" * 4095)
    assert "this kernel takes 4095" in error_line(tmp_path, make_bzimage(cmdline_size=0xFFFFFFFF), append="x" * 4096)


@pytest.mark.parametrize("append", ["a\0b", "\ud800"])
def test_command_lines_that_cannot_be_passed_are_errors(tmp_path: Path, append: str) -> None:
    assert "the kernel command line has" in error_line(tmp_path, make_bzimage(), append=append)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": 0x0209}, "boot protocol 2.09, 2.10 is the oldest"),
        ({"loadflags": 0}, "is a zImage"),
        ({"jump": 0x61EB}, "incomplete setup header"),
        ({"syssize": 0}, "no protected-mode kernel"),
        ({"syssize": 0x20}, "no protected-mode kernel"),
        ({"syssize": 0x82}, "truncated"),
        ({"syssize": 0xFFFFFFFF}, "truncated"),
        ({"setup_sects": 0xFF}, "truncated"),
        ({"pref_address": 0x400001}, "pref_address 0x400001 is not a multiple"),
        ({"kernel_alignment": 0}, "kernel_alignment 0x0"),
        ({"pref_address": 0}, "firmware's or the loader's"),
        ({"pref_address": 0xFFFFFFFFFFE00000}, "outside 32 MiB"),
        ({"init_size": 0xFFFFFFFF}, "outside 32 MiB"),
    ],
)
def test_damaged_setup_headers_are_errors(tmp_path: Path, fields: dict[str, int], reason: str) -> None:
    line = error_line(tmp_path, make_bzimage(**fields))
    assert reason in line
    assert line.startswith(f"kernel '{tmp_path / 'kernel'}'")


@pytest.mark.parametrize("kernel_version", [0, 0x600, 0xFFFF, 0x400])
def test_a_version_pointer_to_nowhere_gives_an_unnamed_kernel(tmp_path: Path, kernel_version: int) -> None:
    image = load_bytes(tmp_path, make_bzimage(kernel_version=kernel_version))
    assert image.description == "Linux (unnamed) bzImage"


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (make_elf(Segment(0x200000), ei_class=127), "big-endian or damaged ELF"),
        (make_elf(Segment(0x200000), ei_data=2), "big-endian"),
        (make_elf(Segment(0x200000), e_machine=183), "another processor"),
        (make_elf(Segment(0x200000), e_type=3), "not linked to fixed addresses"),
        (make_elf(Segment(0x200000), e_type=1), "not linked to fixed addresses"),
        (make_elf(), "nothing to load"),
        (make_elf(Segment(0x200000, kind=4)), "nothing to load"),
        (make_elf(Segment(0x200000, memsz=0, data=b"")), "nothing to load"),
        (make_elf(Segment(0x200000), Segment(0, b"/lib64/ld.so\0", kind=3)), "dynamically linked"),
        (make_elf(Segment(0x200000), e_phoff=2**64 - 1), "truncated"),
        (make_elf(Segment(0x200000), e_phnum=0xFFFF), "65535 program headers"),
        (make_elf(Segment(0x200000), e_phentsize=1), "of 1 bytes"),
        (make_elf(Segment(0x200000, offset=2**64 - 1)), "truncated"),
        (make_elf(Segment(0x200000, filesz=2**64 - 1)), "outside 32 MiB"),
        (make_elf(Segment(0x200000, filesz=0x10000)), "truncated"),
        (make_elf(Segment(0x200000, memsz=2**64 - 1)), "outside 32 MiB"),
        (make_elf(Segment(2**64 - 1, memsz=2)), "outside 32 MiB"),
        (make_elf(Segment(0x200000, TEXT, memsz=15)), "p_filesz 0x10 is above p_memsz 0xf"),
        (make_elf(Segment(0xFFFFFFFF80000000)), "AT() in the linker script"),
        (make_elf(Segment(0x200000, TEXT), Segment(0x20000F, TEXT)), "another of its segments"),
        (make_elf(Segment(0x200000, memsz=17 << 20), Segment(0x200000, memsz=17 << 20)), "add up to more than"),
        (make_elf(Segment(0x7000), entry=0x7000), "firmware's or the loader's"),
        (make_elf(Segment(0x9FBFF, TEXT), entry=0x9FBFF), "firmware's or the loader's"),
        (make_elf(Segment(0x200000, TEXT), entry=0x200010), "entry point 0x200010 outside"),
        (b"\x7fELF", "truncated"),
        (make_elf(Segment(0x200000))[:60], "truncated"),
        (make_elf(Segment(0x200000))[:100], "truncated"),
        (b"\x1f\x8b\x08", "gunzip"),
        (b"\xfd7zXZ\0", "unxz"),
        (b"\x28\xb5\x2f\xfd", "unzstd"),
        (b"MZ" + bytes(600), "EFI program"),
        (b"!<arch>\ndebian-binary", "dpkg-deb"),
        (make_cpio({}), "is it the initrd?"),
        (b"hello", "no kernel"),
        (b"", "is empty"),
    ],
)
def test_files_that_are_no_usable_kernel_are_one_clear_line(tmp_path: Path, kernel: bytes, reason: str) -> None:
    assert reason in error_line(tmp_path, kernel)


def test_adjacent_segments_do_not_overlap(tmp_path: Path) -> None:
    load_bytes(tmp_path, make_elf(Segment(0x200000, TEXT), Segment(0x200010, TEXT)))


def test_paths_that_are_no_readable_file_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "locked").write_bytes(make_bzimage())

    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # permission bits do not stop root
    for name, reason in [
        (".", "is a directory"),
        ("fifo", "not a regular file"),
        ("nothing", "No such file"),
        ("locked", "Permission denied"),
        ("zero\0byte", "null byte"),
        ("new\nline", "No such file"),
    ]:
        with pytest.raises(ConfigError, match=reason) as caught:
            load(tmp_path / name, initrd=None, append="", memory_bytes=MEMORY_BYTES)
        assert "\n" not in str(caught.value)


def test_a_missing_initrd_is_named(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(make_bzimage())
    with pytest.raises(ConfigError, match=r"^initrd '.*missing' cannot be read: No such file"):
        load(tmp_path / "kernel", initrd=tmp_path / "missing", append="", memory_bytes=MEMORY_BYTES)


def test_an_initrd_bigger_than_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(make_bzimage())
    with (tmp_path / "initrd").open("wb") as sparse:
        sparse.truncate(5 << 30)
    with pytest.raises(ConfigError, match=r"its 5 GiB do not fit into 32 MiB of memory; give the guest more"):
        load(tmp_path / "kernel", initrd=tmp_path / "initrd", append="", memory_bytes=MEMORY_BYTES)


@pytest.mark.parametrize("memory_bytes", [0, (16 << 20) - 4096, (16 << 20) + 1, 17 << 30])
def test_impossible_memory_sizes_are_refused(tmp_path: Path, memory_bytes: int) -> None:
    with pytest.raises(ConfigError, match="memory size"):
        load(tmp_path / "kernel", initrd=None, append="", memory_bytes=memory_bytes)
