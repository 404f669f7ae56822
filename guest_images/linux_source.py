"""Builds a Linux from Debian's linux-source-6.1: a configuration, an initramfs, and what a `SourceBuild` adds to them.

    linux-source-6.1.deb --> source tree + drivers --allnoconfig + configuration--> make --> bzImage --> vmlinux
    flex, bison, m4, libelf-dev .deb --> unpacked into the scratch folder: nothing is installed
    busybox-static.deb, programs --> the initramfs of linux.py

What a build is made of has a folder of its own in the cache. Built once, which takes some minutes of all cores.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from emulator.errors import ConfigError
from guest_images import debian_packages
from guest_images.bzimage import extract_vmlinux
from guest_images.cache import content_key
from guest_images.cpio import CpioEntry, program
from guest_images.linux import (
    BUSYBOX_PACKAGE,
    BZIMAGE,
    INIT,
    INITRAMFS,
    VMLINUX,
    LinuxFiles,
    busybox_program,
    initramfs_entries,
    write_initramfs,
)
from guest_images.recipe import Progress, Recipe

SOURCE_PACKAGE = "linux-source-6.1"
BUILD_PACKAGES = ("flex", "bison", "m4", "libelf-dev", "libelf1")
COMPILER = "gcc"
HOST_TOOLS = ("make", COMPILER, "ld", "tar", "xz", "bc", "perl")
CONFIG = "config"
# of the source tree: the largest of what a kernel for x86 never reads (every Kconfig is read)
LEFT_OUT = (
    *(f"arch/[a-wyz]*/{folder}" for folder in ("boot", "configs", "include", "kernel", "mm")),
    "Documentation/*/*",
    "drivers/gpu/drm/amd/include",
    "tools/testing",
)
# nothing of the workstation in the kernel: Documentation/kbuild/reproducible-builds.rst
BUILD_ENVIRONMENT = {
    "LC_ALL": "C",
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "sidecore",
    "KBUILD_BUILD_HOST": "sidecore",
}
BUILD_TIMEOUT_SECONDS = 3600
PROGRAM_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-static", "-s", "-Wl,--build-id=none")
DRIVERS = Path("drivers/net")  # of the source tree: each driver gets a folder there


@dataclass(frozen=True)
class Program:
    """A program of our own in the initramfs: C source, compiled statically, with the headers it includes."""

    path: str
    source: Path
    headers: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Driver:
    """A driver of our own, built into the kernel: its files, of which one is a Makefile."""

    name: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class SourceBuild:
    """What a Linux is built of; `configs` hold the options that are turned on in a kernel that has nothing."""

    name: str
    configs: tuple[Path, ...]
    init: str = INIT
    drivers: tuple[Driver, ...] = ()
    programs: tuple[Program, ...] = ()
    is_compressed: bool = True  # the initramfs; without, a boot has half as many instructions

    def recipe(self) -> Recipe:
        """The recipe; its key covers all that is our own."""
        initramfs = write_initramfs(initramfs_entries(b"", self.init), is_compressed=self.is_compressed)
        files = [path for driver in self.drivers for path in driver.files]
        files += [path for own in self.programs for path in (own.source, *own.headers)]
        contents = [part for path in files for part in (path.name.encode(), path.read_bytes())]
        configs = [path.read_bytes() for path in self.configs]
        key = content_key([SOURCE_PACKAGE.encode(), *configs, initramfs, *contents])
        return Recipe("linux", f"{self.name}-{key}", (BZIMAGE, VMLINUX, INITRAMFS, CONFIG), partial(_make, self))

    def build(self, progress: Progress) -> LinuxFiles:
        """The files, from the cache or built now. Raises ConfigError."""
        directory = self.recipe().get(progress)
        return LinuxFiles(directory / BZIMAGE, directory / VMLINUX, directory / INITRAMFS)


def missing_options(config: str, wanted: str) -> list[str]:
    """Lines of `wanted` (but comments) that are not in `config`."""
    have = set(config.splitlines())
    lines = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    return [line for line in lines if line not in have]


def _make(build: SourceBuild, scratch: Path, products: Path, progress: Progress) -> Mapping[str, str]:
    _require_host_tools()
    tools, source = scratch / "tools", scratch / "source"
    versions = {}
    for name in (SOURCE_PACKAGE, BUSYBOX_PACKAGE, *BUILD_PACKAGES):
        package = debian_packages.look_up(name)
        progress(f"fetching {package.name} {package.version}")
        debian_packages.unpack(debian_packages.download(package, scratch), tools)
        versions[package.name] = package.version
    progress("unpacking the source")
    source.mkdir()
    excluded = [f"--exclude={SOURCE_PACKAGE}/{path}" for path in LEFT_OUT]
    archive = tools / "usr" / "src" / f"{SOURCE_PACKAGE}.tar.xz"
    _run(["tar", "-xf", str(archive), "--strip-components=1", *excluded, "-C", str(source)], source, dict(os.environ))
    for driver in build.drivers:
        add_driver(source, driver)
    environment = _environment(tools)
    _configure(build, source, environment)
    progress(f"compiling on {os.cpu_count()} cores, which takes some minutes")
    _run(["make", "--silent", f"--jobs={os.cpu_count()}", "bzImage"], source, environment)
    bzimage = (source / "arch" / "x86" / "boot" / "bzImage").read_bytes()
    (products / BZIMAGE).write_bytes(bzimage)
    (products / VMLINUX).write_bytes(extract_vmlinux(bzimage))
    entries = initramfs_entries(busybox_program(tools), build.init)
    entries += [compile_program(own, scratch) for own in build.programs]
    (products / INITRAMFS).write_bytes(write_initramfs(entries, is_compressed=build.is_compressed))
    shutil.copy(source / ".config", products / CONFIG)
    return versions


def add_driver(source: Path, driver: Driver) -> None:
    """Put a driver into the source tree."""
    folder = source / DRIVERS / driver.name
    folder.mkdir()
    for path in driver.files:
        shutil.copy(path, folder)
    with (source / DRIVERS / "Makefile").open("a") as makefile:
        makefile.write(f"obj-y += {driver.name}/\n")


def compile_program(own: Program, scratch: Path) -> CpioEntry:
    """The program as it is in the initramfs. Raises ConfigError."""
    output = scratch / "program"
    folders = [f"-I{folder}" for folder in sorted({str(header.parent) for header in own.headers})]
    _run([COMPILER, *PROGRAM_FLAGS, *folders, str(own.source), "-o", str(output)], scratch, dict(os.environ))
    return program(own.path, output.read_bytes())


def _require_host_tools() -> None:
    debian_packages.require_tools()
    missing = [tool for tool in HOST_TOOLS if shutil.which(tool) is None]
    if missing:
        packages = {"ld": "binutils", "xz": "xz-utils"}
        names = " ".join(packages.get(tool, tool) for tool in missing)
        raise ConfigError(f"building Linux needs {', '.join(missing)} (on Debian: apt install {names})")


def _environment(tools: Path) -> dict[str, str]:
    """Let the build find flex, bison and libelf where they were unpacked."""
    libraries = tools / "usr" / "lib" / "x86_64-linux-gnu"
    return {
        **os.environ,
        **BUILD_ENVIRONMENT,
        "PATH": f"{tools / 'usr' / 'bin'}:{os.environ.get('PATH', '')}",
        "M4": str(tools / "usr" / "bin" / "m4"),
        "BISON_PKGDATADIR": str(tools / "usr" / "share" / "bison"),
        "C_INCLUDE_PATH": str(tools / "usr" / "include"),
        "LIBRARY_PATH": str(libraries),
        "LD_LIBRARY_PATH": str(libraries),
    }


def _configure(build: SourceBuild, source: Path, environment: dict[str, str]) -> None:
    wanted = "".join(path.read_text() for path in build.configs)
    options = source / "own.config"
    options.write_text(wanted)
    _run(["make", "--silent", f"KCONFIG_ALLCONFIG={options}", "allnoconfig"], source, environment)
    missing = missing_options((source / ".config").read_text(), wanted)
    if missing:
        names = " and ".join(path.name for path in build.configs)
        raise ConfigError(f"this {SOURCE_PACKAGE} does not know all of {names}: {', '.join(missing)}")


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=BUILD_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"'{command[0]}' took more than {BUILD_TIMEOUT_SECONDS} s") from error
    if result.returncode:
        lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
        first = next((line for line in lines if "error:" in line), lines[0] if lines else "no reason given")
        raise ConfigError(f"'{' '.join(command[:2])}' failed: {first}")
