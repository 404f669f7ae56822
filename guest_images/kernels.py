"""Compiles the test kernels: one folder of C or assembly, linked with the library in `lib/`.

Built files are keyed by a hash of every source and flag, so a kernel is compiled again exactly when one
of them changed.
"""

import os
import shutil
import subprocess
from pathlib import Path

from emulator.errors import ConfigError
from emulator.user_cache import cache_directory
from guest_images.cache import content_key, temporary_directory

LIBRARY = Path(__file__).parent / "lib"
KERNELS = Path(__file__).parent / "kernels"

SOURCE_SUFFIXES = (".c", ".S", ".h", ".ld")
COMPILER = "gcc"
FLAGS = (
    "-std=gnu11",
    "-O2",
    "-ffreestanding",
    "-mno-red-zone",  # interrupts arrive on the kernel's own stack
    "-mgeneral-regs-only",  # so no SSE state has to be saved in a handler
    "-fno-pic",
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-fno-asynchronous-unwind-tables",
    "-fno-strict-aliasing",  # page tables are looked at as numbers and as pointers
    "-fno-tree-loop-distribute-patterns",  # a loop over PTEs stays a loop, not a call of memset
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wa,--fatal-warnings",
)
LINK_FLAGS = (
    "-static",
    "-nostdlib",
    "-no-pie",
    "-Wl,--build-id=none",
    "-Wl,-z,max-page-size=4096",
    "-Wl,-z,noexecstack",
    "-Wl,--fatal-warnings",
)


def kernel_key(name: str) -> str:
    """The hash of all that goes into the kernel `name`."""
    parts = [" ".join((COMPILER, *FLAGS, *LINK_FLAGS)).encode()]
    for source in _sources(name):
        parts += [source.name.encode(), source.read_bytes()]
    return content_key(parts)


def build_kernel(name: str) -> Path:
    """The ELF file of the kernel `name`, from the cache or compiled now. Raises ConfigError when GCC cannot."""
    target = cache_directory("kernels") / f"{name}-{kernel_key(name)}.elf"
    if target.exists():
        return target
    compiler = shutil.which(COMPILER)
    if compiler is None:
        raise ConfigError(
            f"cannot build guest kernel '{name}': {COMPILER} is not installed (on Debian: apt install gcc)"
        )
    with temporary_directory("kernels") as scratch:
        output = Path(scratch) / "kernel.elf"
        environment = os.environ | {"LC_ALL": "C"}
        result = subprocess.run(
            _command(compiler, name, output), capture_output=True, text=True, check=False, env=environment
        )
        if result.returncode:
            raise ConfigError(f"cannot build guest kernel '{name}': {_first_error(result.stderr)}")
        os.replace(output, target)
    return target


def _sources(name: str) -> list[Path]:
    folders = (LIBRARY, KERNELS / name)
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in SOURCE_SUFFIXES]


def _command(compiler: str, name: str, output: Path) -> list[str]:
    sources = [str(path) for path in _sources(name) if path.suffix in (".c", ".S")]
    return [compiler, *FLAGS, *LINK_FLAGS, "-T", str(LIBRARY / "guest.ld"), f"-I{LIBRARY}", *sources, "-o", str(output)]


def _first_error(stderr: str) -> str:
    lines = (
        [line for line in stderr.splitlines() if ": error:" in line or "ld: " in line]
        or stderr.splitlines()
        or [f"{COMPILER} failed"]
    )
    return lines[0].strip()
