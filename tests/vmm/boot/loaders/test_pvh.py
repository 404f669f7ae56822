"""Claims about PVH kernels: when the note counts, and what EBX leads to."""

import struct
from pathlib import Path

from tests.vmm.boot.loaders.sample_images import Segment, make_elf, make_note, pvh_note
from tests.vmm.boot.loaders.test_multiboot import MEMORY_BYTES, boot, memory_of, text
from vmm.boot.firmware.layout import RSDP_GPA
from vmm.boot.loaders import BootProtocol, EntryMode, load

BASE = 0x200000
TEXT = Segment(BASE, b"\xf4" * 64)


def test_an_elf32_kernel_with_the_note_is_entered_there(tmp_path: Path) -> None:
    image = boot(tmp_path, make_elf(TEXT, pvh_note(BASE + 16), bits=32))
    assert (image.mode, image.entry_gpa) == (EntryMode.PROTECTED, BASE + 16)
    assert image.description == "PVH kernel (ELF32)"


def test_an_elf64_kernel_whose_only_entry_is_that_of_the_note_is_pvh_and_one_with_another_is_linux(
    tmp_path: Path,
) -> None:
    only = boot(tmp_path, make_elf(TEXT, pvh_note(BASE, size_bytes=8)))
    assert (only.mode, only.entry_gpa) == (EntryMode.PROTECTED, BASE)
    both = make_elf(TEXT, pvh_note(BASE + 16))
    assert boot(tmp_path, both).mode is EntryMode.LONG
    image = load(tmp_path / "kernel", memory_bytes=MEMORY_BYTES, protocol=BootProtocol.PVH)
    assert (image.mode, image.entry_gpa) == (EntryMode.PROTECTED, BASE + 16)


def test_other_notes_are_passed_over(tmp_path: Path) -> None:
    other = make_note(b"GNU\0", 18, bytes(20)) + make_note(b"Xen\0", 3, bytes(8)) + make_note(b"odd", 1, b"12345")
    note = Segment(0, other + pvh_note(BASE + 16).data, kind=4)
    assert boot(tmp_path, make_elf(TEXT, note, bits=32)).entry_gpa == BASE + 16
    assert boot(tmp_path, make_elf(TEXT, Segment(0, other, kind=4), bits=32)).description == "ELF32 kernel"


def test_the_start_information_tells_command_line_modules_and_memory(tmp_path: Path) -> None:
    image = boot(tmp_path, make_elf(TEXT, pvh_note(BASE), bits=32), append="x=y", modules={"ramdisk a b": b"data"})
    memory = memory_of(image)
    magic, version, flags, count, modules, command_line, rsdp, memory_map, entries, _ = struct.unpack_from(
        "<4I4Q2I", memory, image.registers["rbx"]
    )
    assert (magic, version, flags, count, rsdp, entries) == (0x336EC578, 1, 0, 1, RSDP_GPA, 3)
    assert text(memory, command_line) == b"x=y"
    gpa, size_bytes, arguments, _ = struct.unpack_from("<4Q", memory, modules)
    assert bytes(memory[gpa : gpa + size_bytes]) == b"data"
    assert text(memory, arguments) == b"ramdisk a b"
    assert [struct.unpack_from("<QQII", memory, memory_map + 24 * i) for i in range(3)] == [
        (0, 0x9FC00, 1, 0), (0x9FC00, 0x60400, 2, 0), (0x100000, MEMORY_BYTES - 0x100000, 1, 0),
    ]  # fmt: skip
