"""The recipe `debian-cloud`: Debian's unmodified cloud kernel and BusyBox, fetched, checked and put together.

    linux-image-*-cloud-amd64.deb --> bzImage --> vmlinux (ELF)
    busybox-static.deb --> busybox + INIT --> initramfs.cpio.gz
    all of it --> <cache>/linux/debian-cloud-<key>/ with manifest.json (SHA-256 of each file, package versions)

Nothing is installed, nothing fetched is run on the workstation, and no root is needed. The manifest is checked on
every use.
"""

import gzip
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import ConfigError
from emulator.user_cache import cache_directory
from guest_images import debian_packages
from guest_images.bzimage import extract_vmlinux
from guest_images.cache import content_key, file_sha256, ignore_progress, temporary_directory
from guest_images.cpio import CpioEntry, character_device, folder, program, symlink, text_file, write_cpio

KERNEL_META_PACKAGE = "linux-image-cloud-amd64"
BUSYBOX_PACKAGE = "busybox-static"
READY_LINE = "sidecore: BusyBox shell ready"
MANIFEST = "manifest.json"
BZIMAGE, VMLINUX, INITRAMFS = "bzImage", "vmlinux", "initramfs.cpio.gz"

# The default command line: each word and why.
COMMAND_LINE_WORDS = (
    ("console=ttyS0", "the only console there is"),
    ("noapic", "the machine has the i8259 pair and no I/O APIC"),
    ("nolapic", "and no local APIC: the PIT is the clock event source"),
    ("acpi=off", "there are no ACPI tables to look for"),
    ("nokaslr", "same addresses every time, and they match vmlinux's symbols"),
    ("mitigations=off", "no speculation here to mitigate; fewer patched paths"),
    ("8250.nr_uarts=1", "do not probe for three UARTs that are not there"),
    ("i8042.noaux", "nor for a mouse"),
    ("reboot=t", "reboot by triple fault: it ends the run"),
    ("panic=-1", "a panic reboots at once instead of spinning"),
)
COMMAND_LINE = " ".join(word for word, _ in COMMAND_LINE_WORDS)

INIT = f"""#!/bin/sh
export HOME=/root PATH=/sbin:/usr/sbin:/bin:/usr/bin TERM=vt100
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s
cd /root
echo '{READY_LINE}'
# A session of its own on the serial line, so that Ctrl-C and job control work.
setsid cttyhack sh
# When the shell ends, so does the run.
reboot -f
"""


@dataclass(frozen=True)
class LinuxFiles:
    """The recipe's products."""

    bzimage: Path
    vmlinux: Path
    initramfs: Path


def fetch(progress: Callable[[str], None] = ignore_progress) -> LinuxFiles:
    """The files, from the cache or fetched now; `progress` gets a line per step. Raises ConfigError."""
    target = recipe_directory()
    if not target.exists():
        debian_packages.require_tools()
        with temporary_directory("linux") as scratch:
            products = Path(scratch) / "products"
            products.mkdir()
            _make_products(Path(scratch), products, progress)
            _rename_into_place(products, target)
    verify_manifest(target)
    return LinuxFiles(target / BZIMAGE, target / VMLINUX, target / INITRAMFS)


def recipe_directory() -> Path:
    """Where the products go; the name changes with what this file puts into the initramfs."""
    key = content_key([KERNEL_META_PACKAGE.encode(), write_cpio(initramfs_entries(b""))])
    return cache_directory("linux") / f"debian-cloud-{key}"


def initramfs_entries(busybox: bytes) -> list[CpioEntry]:
    """The root file system: BusyBox, /init, and the console node the kernel opens before /dev is mounted."""
    return [
        *(
            folder(path)
            for path in ("bin", "dev", "etc", "proc", "root", "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin")
        ),
        program("bin/busybox", busybox),
        symlink("bin/sh", "busybox"),
        program("init", INIT.encode()),
        character_device("dev/console", 5, 1),
        text_file("etc/passwd", "root::0:0:root:/root:/bin/sh\n"),
        text_file("etc/group", "root:x:0:\n"),
    ]


def verify_manifest(directory: Path) -> None:
    """Compare each file with the manifest. Raises ConfigError that says which differs and what to do."""
    remedy = f"remove {directory} to fetch it again"
    try:
        files: dict[str, str] = json.loads((directory / MANIFEST).read_text())["sha256"]
        damaged = [name for name in (BZIMAGE, VMLINUX, INITRAMFS) if file_sha256(directory / name) != files[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"the cached Linux image is incomplete ({type(error).__name__}: {error}); {remedy}"
        ) from error
    if damaged:
        raise ConfigError(f"the cached Linux image is damaged ({', '.join(damaged)}); {remedy}")


def write_manifest(directory: Path, packages: dict[str, str]) -> None:
    """Record the checksum of every file in `directory`, and the versions it was made from."""
    files = {path.name: file_sha256(path) for path in sorted(directory.iterdir()) if path.name != MANIFEST}
    text = json.dumps({"packages": packages, "sha256": files}, indent=2, sort_keys=True)
    (directory / MANIFEST).write_text(text + "\n")


def _make_products(scratch: Path, products: Path, progress: Callable[[str], None]) -> None:
    kernel = debian_packages.look_up(_kernel_package())
    busybox = debian_packages.look_up(BUSYBOX_PACKAGE)
    root = scratch / "root"
    for package in (kernel, busybox):
        progress(f"fetching {package.name} {package.version}")
        debian_packages.unpack(debian_packages.download(package, scratch), root)
    progress("unpacking the kernel and building the initramfs")
    (bzimage,) = (root / "boot").glob("vmlinuz-*")
    (products / BZIMAGE).write_bytes(bzimage.read_bytes())
    (products / VMLINUX).write_bytes(extract_vmlinux(bzimage.read_bytes()))
    archive = write_cpio(initramfs_entries(_busybox_program(root)))
    (products / INITRAMFS).write_bytes(gzip.compress(archive, mtime=0))
    write_manifest(products, {package.name: package.version for package in (kernel, busybox)})


def _kernel_package() -> str:
    depends = debian_packages.look_up(KERNEL_META_PACKAGE).depends
    match = re.search(r"linux-image-[\w.+-]+-cloud-amd64(?=[\s,(]|$)", depends)
    if match is None:
        raise ConfigError(f"{KERNEL_META_PACKAGE} depends on no versioned cloud kernel ('{depends}')")
    return match[0]


def _busybox_program(root: Path) -> bytes:
    for place in ("bin/busybox", "usr/bin/busybox"):
        if (root / place).is_file():
            return (root / place).read_bytes()
    raise ConfigError(f"{BUSYBOX_PACKAGE} has no busybox program in /bin or /usr/bin")


def _rename_into_place(products: Path, target: Path) -> None:
    try:
        os.rename(products, target)
    except OSError:
        if not target.exists():  # another process was first: its files are as good, and are verified
            raise
