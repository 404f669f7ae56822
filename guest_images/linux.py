"""The recipes `debian-cloud` and `debian-generic`: Debian's unmodified kernels and BusyBox, fetched and put together.

    linux-image-*-amd64.deb --> bzImage --> vmlinux (ELF)
    busybox-static.deb --> busybox + INIT --> initramfs.cpio.gz
    all of it --> <cache>/linux/debian-cloud-<key>/ (recipe.py)

Nothing is installed, nothing fetched is run on the workstation, and no root is needed.
"""

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from emulator.errors import ConfigError
from guest_images import debian_packages
from guest_images.bzimage import extract_vmlinux
from guest_images.cache import content_key
from guest_images.cpio import CpioEntry, character_device, folder, program, symlink, text_file, write_cpio
from guest_images.recipe import Progress, Recipe

CLOUD_META_PACKAGE, GENERIC_META_PACKAGE = "linux-image-cloud-amd64", "linux-image-amd64"
KERNEL_NAME = {  # the package with the kernel in it, among what the meta package depends on
    CLOUD_META_PACKAGE: re.compile(r"linux-image-[\w.+-]+-cloud-amd64(?=[\s,(]|$)"),
    GENERIC_META_PACKAGE: re.compile(r"linux-image-[\d.+-]+-amd64(?=[\s,(]|$)"),
}
RECIPE_NAMES = {CLOUD_META_PACKAGE: "debian-cloud", GENERIC_META_PACKAGE: "debian-generic"}
BUSYBOX_PACKAGE = "busybox-static"
READY_LINE = "sidecore: BusyBox shell ready"
BZIMAGE, VMLINUX, INITRAMFS = "bzImage", "vmlinux", "initramfs.cpio.gz"

# The default command line: each word and why. Only the first is needed.
COMMAND_LINE_WORDS = (
    ("console=ttyS0", "the only console there is"),
    ("nokaslr", "same addresses every time, and they match vmlinux's symbols"),
    ("mitigations=off", "no speculation here to mitigate; fewer patched paths"),
    ("8250.nr_uarts=1", "do not probe for three UARTs that are not there"),
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


def recipe(meta_package: str) -> Recipe:
    """The recipe for a kernel of Debian's; its key changes with what this file puts into the initramfs."""
    key = content_key([meta_package.encode(), write_cpio(initramfs_entries(b""))])
    name = f"{RECIPE_NAMES[meta_package]}-{key}"
    return Recipe("linux", name, (BZIMAGE, VMLINUX, INITRAMFS), partial(_make_products, meta_package))


def fetch(meta_package: str, progress: Progress) -> LinuxFiles:
    """The files, from the cache or fetched now. Raises ConfigError."""
    directory = recipe(meta_package).get(progress)
    return LinuxFiles(directory / BZIMAGE, directory / VMLINUX, directory / INITRAMFS)


def initramfs_entries(busybox: bytes, init: str = INIT) -> list[CpioEntry]:
    """The root file system: BusyBox, /init, and the console node the kernel opens before /dev is mounted."""
    return [
        *(
            folder(path)
            for path in ("bin", "dev", "etc", "proc", "root", "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin")
        ),
        program("bin/busybox", busybox),
        symlink("bin/sh", "busybox"),
        program("init", init.encode()),
        character_device("dev/console", 5, 1),
        text_file("etc/passwd", "root::0:0:root:/root:/bin/sh\n"),
        text_file("etc/group", "root:x:0:\n"),
    ]


def write_initramfs(entries: list[CpioEntry], *, is_compressed: bool = True) -> bytes:
    """The root file system as the kernel takes it; the same entries give the same bytes."""
    return gzip.compress(write_cpio(entries), 9 if is_compressed else 0, mtime=0)


def busybox_program(root: Path) -> bytes:
    """BusyBox in its unpacked package. Raises ConfigError."""
    for place in ("bin/busybox", "usr/bin/busybox"):
        if (root / place).is_file():
            return (root / place).read_bytes()
    raise ConfigError(f"{BUSYBOX_PACKAGE} has no busybox program in /bin or /usr/bin")


def _make_products(meta_package: str, scratch: Path, products: Path, progress: Progress) -> Mapping[str, str]:
    debian_packages.require_tools()
    kernel = debian_packages.look_up(_kernel_package(meta_package))
    busybox = debian_packages.look_up(BUSYBOX_PACKAGE)
    root = scratch / "root"
    for package in (kernel, busybox):
        progress(f"fetching {package.name} {package.version}")
        debian_packages.unpack(debian_packages.download(package, scratch), root)
    progress("unpacking the kernel and building the initramfs")
    (bzimage,) = (root / "boot").glob("vmlinuz-*")
    (products / BZIMAGE).write_bytes(bzimage.read_bytes())
    (products / VMLINUX).write_bytes(extract_vmlinux(bzimage.read_bytes()))
    (products / INITRAMFS).write_bytes(write_initramfs(initramfs_entries(busybox_program(root))))
    return {package.name: package.version for package in (kernel, busybox)}


def _kernel_package(meta_package: str) -> str:
    depends = debian_packages.look_up(meta_package).depends
    match = KERNEL_NAME[meta_package].search(depends)
    if match is None:
        raise ConfigError(f"{meta_package} depends on no versioned kernel ('{depends}')")
    return match[0]
