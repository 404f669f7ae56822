"""Claims about flat binaries: FILE@ADDRESS and FILE@ADDRESS:BITS."""

from pathlib import Path

import pytest

from emulator.errors import ConfigError
from vmm.boot.loaders import BootImage, BootProtocol, EntryMode, load

MEMORY_BYTES = 32 << 20
CODE = b"\xfa\xf4"


def boot(folder: Path, suffix: str, **options: str) -> BootImage:
    (folder / "f.bin").write_bytes(CODE)
    return load(Path(f"{folder}/f.bin{suffix}"), memory_bytes=MEMORY_BYTES, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("suffix", "gpa", "mode"),
    [
        ("@0x7c00", 0x7C00, EntryMode.REAL),
        ("@31744:16", 0x7C00, EntryMode.REAL),
        ("@0xFFFF0:32", None, None),
        ("@0x9fb00", 0x9FB00, EntryMode.REAL),
        ("@0x600", 0x600, EntryMode.REAL),
        ("@0x100000", 0x100000, EntryMode.PROTECTED),
        ("@0x100000:64", 0x100000, EntryMode.LONG),
        ("@0x20000:32", 0x20000, EntryMode.PROTECTED),
    ],
)
def test_the_address_and_the_bits_decide_where_and_how_it_is_entered(
    tmp_path: Path, suffix: str, gpa: int | None, mode: EntryMode | None
) -> None:
    if gpa is None:
        with pytest.raises(ConfigError, match="firmware's or the loader's"):
            boot(tmp_path, suffix)
        return
    image = boot(tmp_path, suffix)
    assert (image.entry_gpa, image.mode) == (gpa, mode)
    assert dict(image.segments)[gpa] == CODE


def test_in_real_mode_every_vector_leads_to_an_iret_and_dl_is_the_first_disk(tmp_path: Path) -> None:
    image = boot(tmp_path, "@0x7c00")
    segments = dict(image.segments)
    assert image.registers == {"rdx": 0x80}
    assert {segments[0][4 * i : 4 * i + 4] for i in range(256)} == {bytes.fromhex("00050000")}
    assert segments[0x500] == b"\xcf"


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [
        ("@0x100000:8", "asks for code of 8 bits; 16, 32 and 64 are possible"),
        ("@0x100000:16", "real mode, which ends at 1 MiB"),
        ("@0x5ff", "firmware's or the loader's"),
        ("@0x1ffffff", "outside 32 MiB of memory"),
        ("@0xffffffffffffffff", "outside 32 MiB of memory"),
        ("@nowhere", "cannot be read"),
        ("", "a flat binary needs its address: --kernel FILE@0x100000"),
    ],
)
def test_addresses_that_cannot_be_are_one_clear_line(tmp_path: Path, suffix: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        boot(tmp_path, suffix)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flat_binary_is_told_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no command line; leave --append out"):
        boot(tmp_path, "@0x7c00", append="x")
    with pytest.raises(ConfigError, match="takes no --initrd and no --module"):
        load(Path(f"{tmp_path}/f.bin@0x7c00"), modules=["m"], memory_bytes=MEMORY_BYTES)
    with pytest.raises(ConfigError, match="has no address"):
        load(tmp_path / "f.bin", memory_bytes=MEMORY_BYTES, protocol=BootProtocol.FLAT)


def test_a_file_whose_name_looks_like_an_address_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "k@0x7c00").write_bytes(b"hello")
    with pytest.raises(ConfigError, match="k@0x7c00' is no kernel"):
        load(tmp_path / "k@0x7c00", memory_bytes=MEMORY_BYTES)
