"""The table of guest images, and how a name becomes files that a loader can take.

Every test kernel prints its own verdict (see README.md); `ends_by` tells how its run ends when it succeeds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emulator.errors import ConfigError, choices_text
from guest_images import linux
from guest_images.cache import ignore_progress
from guest_images.kernels import build_kernel

Kind = Literal["kernel", "linux", "file"]
End = Literal["debug exit", "shutdown", "user"]


@dataclass(frozen=True)
class ImageEntry:
    """One row of the table: an image that can be made."""

    name: str
    description: str
    kind: Kind = "kernel"
    ends_by: End = "debug exit"


@dataclass(frozen=True)
class Image:
    """An image that is there: files to load and the command line to give."""

    name: str
    description: str
    kind: Kind
    ends_by: End
    kernel: Path
    initrd: Path | None = None
    append: str = ""


# fmt: off
IMAGES = (
    ImageEntry("default", "times what a hypervisor steps in for: CPUID, I/O, CR3, PTEs, faults, HLT"),
    ImageEntry("linux", "Debian's cloud kernel (vmlinux) and a BusyBox shell on the serial line", "linux", "user"),
    ImageEntry("linux_bzimage", "the same as a bzImage, which decompresses itself first", "linux", "user"),
    ImageEntry("exceptions", "each vector with its error code and RIP, from rings 0 and 3"),
    ImageEntry("interrupts", "PIT, RTC and UART through the i8259 pair: counts, masks, priority"),
    ImageEntry("paging_map_unmap", "map, unmap, demand paging, absent entries at each level"),
)
# fmt: on
LISTED_BY = "sidecore images list"
_BY_NAME = {entry.name: entry for entry in IMAGES}


def all_images() -> tuple[ImageEntry, ...]:
    """Every image that has a name, in the order to show them."""
    return IMAGES


def kernel_images() -> Iterator[ImageEntry]:
    """The test kernels: images that end by themselves with a verdict."""
    return (entry for entry in IMAGES if entry.kind == "kernel")


def build(name: str, progress: Callable[[str], None] = ignore_progress) -> Path:
    """The kernel file of the image `name`, built or fetched if need be. Raises ConfigError."""
    return resolve(name, progress).kernel


def resolve(name: str, progress: Callable[[str], None] = ignore_progress) -> Image:
    """The files of the image `name`; a path to an existing file stands for itself.

    What takes long (fetching Linux) calls `progress` with a line per step. Raises ConfigError.
    """
    entry = _BY_NAME.get(name)
    if entry is None:
        if Path(name).is_file():
            return Image(name, "a file", kind="file", ends_by="user", kernel=Path(name))
        raise ConfigError(f"no guest image or file {name!r}; {choices_text(name, list(_BY_NAME), listed_by=LISTED_BY)}")
    if entry.kind == "linux":
        files = linux.fetch(progress)
        kernel = files.bzimage if name == "linux_bzimage" else files.vmlinux
        return _image(entry, kernel, initrd=files.initramfs, append=linux.COMMAND_LINE)
    return _image(entry, build_kernel(name))


def _image(entry: ImageEntry, kernel: Path, *, initrd: Path | None = None, append: str = "") -> Image:
    return Image(entry.name, entry.description, entry.kind, entry.ends_by, kernel, initrd, append)
