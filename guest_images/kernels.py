"""Compiles the test kernels: one folder of C or assembly, linked with the library of its size.

    kernels/<name>    + lib      64 bits, entered like Linux or by PVH
    kernels32/<name>  + lib32    32 bits, Multiboot

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

ROOT = Path(__file__).parents[1]  # debug information has paths from here on, so that a kernel is the same anywhere
LIBRARY = Path(__file__).parent / "lib"
KERNELS = Path(__file__).parent / "kernels"
LIBRARY_32 = Path(__file__).parent / "lib32"
KERNELS_32 = Path(__file__).parent / "kernels32"

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
    "-g",  # for gdb: beside what is loaded, which is the same without
    "-Wall",
    "-Wextra",
)
LINK_FLAGS = (
    "-static",
    "-nostdlib",
    "-no-pie",
    "-Wl,--build-id=none",
    "-Wl,-z,max-page-size=4096",
    "-Wl,-z,noexecstack",
)
STRICT_FLAGS = ("-Werror", "-Wa,--fatal-warnings", "-Wl,--fatal-warnings")  # of our own builds: $SIDECORE_STRICT


def _is_32_bit(name: str) -> bool:
    return (KERNELS_32 / name).is_dir()


def _size_flag(name: str) -> str:
    return "-m32" if _is_32_bit(name) else "-m64"


def kernel_key(name: str) -> str:
    """The hash of all that goes into the kernel `name`."""
    parts = [" ".join((COMPILER, _size_flag(name), *FLAGS, *LINK_FLAGS)).encode()]
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
            _command(compiler, name, output), capture_output=True, text=True, check=False, env=environment,
            cwd=ROOT,
        )  # fmt: skip
        if result.returncode:
            raise ConfigError(f"cannot build guest kernel '{name}': {_first_error(result.stderr)}")
        os.replace(output, target)
    return target


def _sources(name: str) -> list[Path]:
    folders = (LIBRARY_32, KERNELS_32 / name) if _is_32_bit(name) else (LIBRARY, KERNELS / name)
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in SOURCE_SUFFIXES]


def _command(compiler: str, name: str, output: Path) -> list[str]:
    sources = [str(path) for path in _sources(name) if path.suffix in (".c", ".S")]
    library, script = (LIBRARY_32, "guest32.ld") if _is_32_bit(name) else (LIBRARY, "guest.ld")
    strict = STRICT_FLAGS if os.environ.get("SIDECORE_STRICT") else ()
    flags = [_size_flag(name), *FLAGS, *LINK_FLAGS, *strict, "-T", str(library / script), f"-I{library}"]
    flags.append(f"-fdebug-prefix-map={ROOT}=.")
    return [compiler, *flags, *sources, "-o", str(output)]


def _first_error(stderr: str) -> str:
    lines = (
        [line for line in stderr.splitlines() if ": error:" in line or "ld: " in line]
        or stderr.splitlines()
        or [f"{COMPILER} failed"]
    )
    return lines[0].strip()
