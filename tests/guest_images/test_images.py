"""The guest images: cpio archives, the build cache, the manifest, the kernel inside a bzImage."""

import gzip
import lzma
import os
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from emulator.errors import ConfigError
from guest_images import (
    bzimage,
    cache,
    cpio,
    debian_packages,
    images,
    kernels,
    linux,
    linux_small,
    linux_source,
    linux_vif,
    recipe,
)

PASSING_KERNEL = '#include "guest.h"\nvoid guest_main(void) { check_equal("one", 1, 1); }\n'


@pytest.fixture
def cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIDECORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def own_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_root: Path) -> Path:
    """A kernel `own` in a folder of its own; returns its main.c."""
    source = tmp_path / "kernels" / "own" / "main.c"
    source.parent.mkdir(parents=True)
    source.write_text(PASSING_KERNEL)
    monkeypatch.setattr(kernels, "KERNELS", tmp_path / "kernels")
    return source


def parse_cpio(archive: bytes) -> list[tuple[str, int, bytes, int, tuple[int, int]]]:
    """(path, mode, data, mtime, device) of each entry, read back by the format's description."""
    entries = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, mtime, size, name_size = numbers[1], numbers[5], numbers[6], numbers[11]
        name = archive[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        data_at = at + (110 + name_size + 3) // 4 * 4
        entries.append((name[:-1].decode(), mode, archive[data_at : data_at + size], mtime, (numbers[9], numbers[10])))
        at = data_at + (size + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            assert at == len(archive)
            return entries[:-1]


def test_cpio_keeps_paths_modes_data_and_devices() -> None:
    entries = parse_cpio(
        cpio.write_cpio(
            [
                cpio.program("bin/tool", b"12345"),
                cpio.folder("bin"),
                cpio.symlink("bin/other", "tool"),
                cpio.character_device("console", 5, 1),
            ]
        )
    )
    assert entries == [
        ("bin", stat.S_IFDIR | 0o755, b"", 0, (0, 0)),
        ("bin/other", stat.S_IFLNK | 0o777, b"tool", 0, (0, 0)),
        ("bin/tool", stat.S_IFREG | 0o755, b"12345", 0, (0, 0)),
        ("console", stat.S_IFCHR | 0o600, b"", 0, (5, 1)),
    ]


def test_cpio_does_not_depend_on_the_order_of_entries() -> None:
    entries = linux.initramfs_entries(b"busybox")
    assert cpio.write_cpio(entries) == cpio.write_cpio(reversed(entries))


def test_cpio_puts_a_folder_before_what_is_in_it_whatever_sorts_between() -> None:
    archive = cpio.write_cpio([cpio.text_file("a/b", "x"), cpio.folder("a-b"), cpio.folder("a")])
    assert [entry[0] for entry in parse_cpio(archive)] == ["a", "a/b", "a-b"]


@pytest.mark.parametrize("paths", [("a", "a"), ("a/b",)])
def test_cpio_refuses_duplicates_and_files_without_a_folder(paths: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="there already, or its folder is not"):
        cpio.write_cpio([cpio.text_file(path, "") for path in paths])


def test_the_initramfs_starts_a_shell_and_has_the_console_the_kernel_opens() -> None:
    entries = {
        path: (mode, data) for path, mode, data, *_ in parse_cpio(cpio.write_cpio(linux.initramfs_entries(b"BB")))
    }
    assert entries["bin/busybox"][1] == b"BB"
    assert stat.S_ISCHR(entries["dev/console"][0])
    assert entries["init"][0] & 0o111
    assert linux.READY_LINE.encode() in entries["init"][1]


def test_a_kernel_is_built_once(own_kernel: Path) -> None:
    first = kernels.build_kernel("own")
    built_ns = first.stat().st_mtime_ns
    assert kernels.build_kernel("own") == first
    assert first.stat().st_mtime_ns == built_ns


def test_a_kernel_is_rebuilt_when_its_source_changes_and_found_again_when_it_changes_back(own_kernel: Path) -> None:
    first = kernels.build_kernel("own")
    own_kernel.write_text(PASSING_KERNEL + "\n/* changed */\n")
    second = kernels.build_kernel("own")
    own_kernel.write_text(PASSING_KERNEL)
    assert second != first
    assert kernels.build_kernel("own") == first


def test_the_key_covers_headers_of_the_library_and_flags(
    own_kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "lib"
    library.mkdir()
    for source in kernels.LIBRARY.iterdir():
        (library / source.name).write_bytes(source.read_bytes())
    original = kernels.kernel_key("own")
    monkeypatch.setattr(kernels, "LIBRARY", library)
    assert kernels.kernel_key("own") == original
    (library / "report.h").write_text("/* changed */\n")
    changed = kernels.kernel_key("own")
    monkeypatch.setattr(kernels, "FLAGS", (*kernels.FLAGS, "-g"))
    assert len({original, changed, kernels.kernel_key("own")}) == 3


def test_two_builds_of_the_same_source_give_the_same_bytes(own_kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kernels.build_kernel("own").read_bytes()
    monkeypatch.setenv("SIDECORE_CACHE", os.environ["SIDECORE_CACHE"] + "2")
    assert kernels.build_kernel("own").read_bytes() == first


@pytest.mark.parametrize("name", ["default", "smp_ipi", "mode32", "paging_32bit"])
def test_debug_information_changes_nothing_that_is_loaded(
    name: str, cache_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded: list[bytes] = []
    for flags in (kernels.FLAGS, tuple(flag for flag in kernels.FLAGS if flag != "-g")):
        monkeypatch.setattr(kernels, "FLAGS", flags)
        binary = tmp_path / f"loaded{len(loaded)}"
        subprocess.run(["objcopy", "-O", "binary", str(kernels.build_kernel(name)), str(binary)], check=True)
        loaded.append(binary.read_bytes())
    assert loaded[0] == loaded[1]
    assert len(loaded[0]) > 4096


def test_a_compile_error_is_one_line_that_says_where_and_leaves_nothing_behind(
    own_kernel: Path, cache_root: Path
) -> None:
    own_kernel.write_text("int unused;\nvoid guest_main(void) { nonsense(); }\n")
    with pytest.raises(ConfigError, match=r"'own': .*main\.c:2:.*nonsense") as caught:
        kernels.build_kernel("own")
    assert "\n" not in str(caught.value)
    assert list((cache_root / "kernels").iterdir()) == []


def test_a_missing_compiler_is_named(own_kernel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="gcc is not installed"):
        kernels.build_kernel("own")


def test_content_keys_see_where_one_part_ends() -> None:
    assert cache.content_key([b"ab", b"c"]) != cache.content_key([b"a", b"bc"])


PRODUCTS = (linux.BZIMAGE, linux.VMLINUX, linux.INITRAMFS)


def make_products(directory: Path) -> Path:
    directory.mkdir()
    for name in PRODUCTS:
        (directory / name).write_bytes(name.encode())
    recipe.write_manifest(directory, {"package": "1.0"})
    return directory


def test_an_intact_manifest_verifies(tmp_path: Path) -> None:
    recipe.verify_manifest(make_products(tmp_path / "products"), PRODUCTS)


@pytest.mark.parametrize("name", PRODUCTS)
def test_one_changed_byte_is_detected_and_named(tmp_path: Path, name: str) -> None:
    directory = make_products(tmp_path / "products")
    data = bytearray((directory / name).read_bytes())
    data[3] ^= 1
    (directory / name).write_bytes(data)
    with pytest.raises(ConfigError, match=rf"damaged \({name}\); remove {directory}"):
        recipe.verify_manifest(directory, PRODUCTS)


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"sha256": {"vmlinux": "00"}}', '{"sha256": 3}', "\xff"])
def test_a_broken_manifest_is_detected(tmp_path: Path, manifest: str) -> None:
    directory = make_products(tmp_path / "products")
    (directory / recipe.MANIFEST).write_bytes(manifest.encode("latin-1"))
    with pytest.raises(ConfigError, match="incomplete"):
        recipe.verify_manifest(directory, PRODUCTS)


def test_a_missing_file_is_detected(tmp_path: Path) -> None:
    directory = make_products(tmp_path / "products")
    (directory / linux.VMLINUX).unlink()
    with pytest.raises(ConfigError, match=r"incomplete.*FileNotFoundError"):
        recipe.verify_manifest(directory, PRODUCTS)


def make_bzimage(payload: bytes) -> bytes:
    """Two setup sectors after the boot sector, 64 bytes of code, the payload, and something after it."""
    header = bytearray(3 * 512)
    header[0x1F1] = 2
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", header, 0x206, 0x20F)
    struct.pack_into("<II", header, 0x248, 64, len(payload))
    return bytes(header) + bytes(64) + payload + b"after"


VMLINUX = b"\x7fELF" + bytes(range(256)) * 50


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_vmlinux_comes_out_of_a_bzimage(compress) -> None:  # type: ignore[no-untyped-def]
    payload = compress(VMLINUX) + struct.pack("<I", len(VMLINUX))
    assert bzimage.extract_vmlinux(make_bzimage(payload)) == VMLINUX


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "boot header is missing"),
        (bytes(4096), "boot header is missing"),
        (make_bzimage(bytes(100)), "not known here"),
        (make_bzimage(bytes(100))[:1600], "does not say where"),
        (make_bzimage(gzip.compress(b"no elf") + struct.pack("<I", 6)), "not an ELF file"),
        (make_bzimage(b"\x1f\x8b" + bytes(50)), "damaged"),
        (make_bzimage(b"\xfd7zXZ" + bytes(50)), "damaged"),
    ],
)
def test_a_broken_bzimage_is_the_users_to_fix(image: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bzimage.extract_vmlinux(image)


def test_a_package_record_is_read() -> None:
    record = "Package: x\nVersion: 1:2-3\nDescription: a\n folded: line\nSHA256: 00ff\n\nPackage: y\nVersion: 9\n"
    assert debian_packages.parse_record(record) == {
        "Package": "x",
        "Version": "1:2-3",
        "Description": "a",
        "SHA256": "00ff",
    }


def test_missing_package_tools_are_named(cache_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt-cache, apt-get, dpkg-deb"):
        images.resolve("linux")


def test_a_download_that_differs_from_the_package_lists_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake_download(*_command: str, folder: Path) -> str:
        (folder / "x_1_amd64.deb").write_bytes(b"something else")
        return ""

    monkeypatch.setattr(debian_packages, "_run", fake_download)
    with pytest.raises(ConfigError, match=r"x_1_amd64.deb has SHA-256 .* not used"):
        debian_packages.download(debian_packages.Package("x", "1", "00" * 32, ""), tmp_path)


def test_an_interrupted_fetch_leaves_no_image(cache_root: Path) -> None:
    def fail(_scratch: Path, products: Path, _progress: recipe.Progress) -> dict[str, str]:
        (products / "half").write_bytes(b"x")
        raise ConfigError("no network")

    with pytest.raises(ConfigError, match="no network"):
        recipe.Recipe("linux", "own-1", ("half",), fail).get(cache.ignore_progress)
    assert list((cache_root / "linux").iterdir()) == []


def test_what_a_recipe_made_is_used_again(cache_root: Path) -> None:
    calls = []

    def make(_scratch: Path, products: Path, progress: recipe.Progress) -> dict[str, str]:
        calls.append(products)
        progress("made")
        (products / "file").write_bytes(b"data")
        return {"package": "1"}

    own, lines = recipe.Recipe("linux", "own-1", ("file",), make), list[str]()
    assert own.get(lines.append) == own.get(lines.append) == cache_root / "linux" / "own-1"
    assert (len(calls), lines) == (1, ["made"])
    (own.directory / "file").write_bytes(b"dat4")
    with pytest.raises(ConfigError, match="damaged"):
        own.get(lines.append)


@pytest.mark.parametrize(
    ("meta_package", "depends", "found"),
    [
        (
            linux.CLOUD_META_PACKAGE,
            "linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)",
            "linux-image-6.1.0-56-cloud-amd64",
        ),
        (linux.GENERIC_META_PACKAGE, "linux-image-6.1.0-56-amd64 (= 6.1.192-2)", "linux-image-6.1.0-56-amd64"),
        (linux.GENERIC_META_PACKAGE, "linux-image-6.1.0-56-cloud-amd64 (= 6.1)", None),
        (linux.GENERIC_META_PACKAGE, "", None),
    ],
)
def test_the_kernel_is_found_among_what_the_meta_package_depends_on(
    meta_package: str, depends: str, found: str | None
) -> None:
    match = linux.KERNEL_NAME[meta_package].search(depends)
    assert (match[0] if match else None) == found


def test_an_option_that_the_kernel_does_not_take_is_named() -> None:
    wanted = linux_small.CONFIG_SOURCE.read_text()
    assert linux_source.missing_options(wanted, wanted) == []
    assert linux_source.missing_options(wanted.replace("CONFIG_SMP=y", "# CONFIG_SMP is not set"), wanted) == [
        "CONFIG_SMP=y"
    ]


def test_a_recipe_changes_its_folder_when_its_configuration_does(
    cache_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = linux_small.recipe().directory
    (tmp_path / "config").write_text("CONFIG_64BIT=y\n")
    monkeypatch.setattr(linux_small, "CONFIG_SOURCE", tmp_path / "config")
    assert linux_small.recipe().directory != before


def test_the_recipe_of_linux_vif_changes_its_folder_with_each_of_its_sources(
    cache_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "vif_linux"
    folder.mkdir()
    for path in linux_vif.FOLDER.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    before = linux_vif.recipe().directory
    monkeypatch.setattr(linux_vif, "FOLDER", folder)
    directories = {linux_vif.recipe().directory}
    assert directories == {before}
    names = [path.name for path in folder.iterdir()]
    for name in names:
        (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
        directories.add(linux_vif.recipe().directory)
    assert len(directories) == 1 + len(names)


def test_drivers_and_programs_go_where_the_build_looks_for_them(tmp_path: Path) -> None:
    (tmp_path / "drivers" / "net").mkdir(parents=True)
    (tmp_path / "drivers" / "net" / "Makefile").write_text("obj-y += other/\n")
    build = linux_vif.source_build()
    linux_source.add_driver(tmp_path, build.drivers[0])
    assert (tmp_path / "drivers" / "net" / "Makefile").read_text().splitlines() == ["obj-y += other/", "obj-y += vif/"]
    assert {"Makefile", "vif.c", "vif.h"} <= {path.name for path in (tmp_path / "drivers" / "net" / "vif").iterdir()}
    entry = linux_source.compile_program(build.programs[0], tmp_path)
    assert (entry.path, entry.data[:4]) == ("bin/psapp", b"\x7fELF")


def test_the_table_and_the_kernel_folders_are_the_same() -> None:
    folders = [path.parent.name for top in (kernels.KERNELS, kernels.KERNELS_32) for path in top.glob("*/main.c")]
    assert sorted(entry.name for entry in images.kernel_images()) == sorted(folders)


@pytest.mark.parametrize("entry", list(images.kernel_images()), ids=lambda entry: entry.name)
def test_each_kernel_begins_with_its_claim(entry: images.ImageEntry) -> None:
    (source,) = (path for top in (kernels.KERNELS, kernels.KERNELS_32) for path in top.glob(f"{entry.name}/main.c"))
    assert source.read_text().startswith("/* Claim: ")


def test_names_are_unique_and_an_unknown_one_lists_them() -> None:
    names = [entry.name for entry in images.all_images()]
    assert len(set(names)) == len(names)
    with pytest.raises(ConfigError, match="no guest image or file 'nonsense'"):
        images.resolve("nonsense")


def test_a_path_stands_for_itself(tmp_path: Path) -> None:
    (tmp_path / "kernel.elf").write_bytes(b"")
    image = images.resolve(str(tmp_path / "kernel.elf"))
    assert (image.kind, image.kernel) == ("file", tmp_path / "kernel.elf")
