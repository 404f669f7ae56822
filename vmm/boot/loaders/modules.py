"""Files beside the kernel: Linux's initrd, the modules of Multiboot and PVH.

Linux             kernel ....................... initrd | limit     as high as it may be
Multiboot, PVH    kernel | module | module | ...        | limit     one behind the other, each on a page of its own
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from emulator.errors import ConfigError
from emulator.x86 import PAGE_BYTES
from vmm.boot.loaders import low_memory
from vmm.boot.loaders.boot_image import BootProtocol, KernelImage, Module
from vmm.boot.loaders.image_file import ImageFile
from vmm.boot.loaders.initrd import check_initrd
from vmm.boot.loaders.memory_size import size_text


class ModuleFile(NamedTuple):
    """A file to put beside the kernel; its own command line begins with its name, as GRUB's and QEMU's do."""

    name: str
    arguments: str
    data: bytes

    def command_line(self) -> bytes:
        """Raises ConfigError when it cannot be encoded."""
        try:
            return f"{self.name} {self.arguments}".rstrip().encode(errors="surrogateescape")
        except UnicodeEncodeError:
            raise ConfigError(f"the arguments of module {self.name!r} cannot be encoded; remove them") from None


def read_modules(
    kernel: KernelImage, initrd: Path | None, modules: Sequence[str], memory_bytes: int
) -> list[ModuleFile]:
    """The files beside the kernel, the initrd first. Raises ConfigError; sizes are checked before anything is read."""
    wanted = [("initrd", initrd, "")] if initrd is not None else []
    for text in modules:
        path_text, _, arguments = text.strip().partition(" ")
        wanted.append(("module", Path(path_text), arguments))
    if len(wanted) > kernel.modules_max:
        possible = "one --initrd" if kernel.modules_max == 1 else f"{kernel.modules_max} modules"
        takes = f"takes {possible}" if kernel.modules_max else "takes no --initrd and no --module"
        raise ConfigError(f"a {kernel.description} {takes}; leave out what it cannot use")
    files, left_bytes = [], memory_bytes
    for role, path, arguments in wanted:
        with ImageFile.open(role, path) as image:
            if image.size_bytes > left_bytes:
                have = f"its {size_text(image.size_bytes)} do not fit into {size_text(memory_bytes)} of memory"
                raise ConfigError(f"{image.name} is too big: {have}; give the guest more")
            data = image.read(0, image.size_bytes, f"the {role}")
            left_bytes -= len(data)
            if kernel.protocol is BootProtocol.LINUX:
                check_initrd(image.name, data, memory_bytes=memory_bytes)
        files.append(ModuleFile(path.name, arguments, data))
    return files


def place_modules(kernel: KernelImage, files: Sequence[ModuleFile], memory_bytes: int) -> tuple[Module, ...]:
    """Where each file goes. Raises ConfigError when there is no room."""
    if not files:
        return ()
    end_max_gpa = min(memory_bytes, kernel.module_end_max_gpa)
    lowest_gpa = max(_page_up(kernel.end_gpa), low_memory.HIGH_MEMORY_GPA)
    gpa = lowest_gpa
    if kernel.protocol is BootProtocol.LINUX:
        gpa = (end_max_gpa - len(files[0].data)) // PAGE_BYTES * PAGE_BYTES
    last_end_gpa = gpa + sum(_page_up(len(file.data)) for file in files[:-1]) + len(files[-1].data)
    if gpa < lowest_gpa or last_end_gpa > end_max_gpa:
        files_text = "initrd has" if len(files) == 1 else "modules have"
        what = f"the kernel ends at {size_text(kernel.end_gpa)}, the {files_text}"
        have = f"{size_text(sum(len(file.data) for file in files))} and must end below {size_text(end_max_gpa)}"
        raise ConfigError(f"{what} {have}; give the guest more memory")
    modules = []
    for file in files:
        modules.append(Module(gpa, file.data, file.command_line()))
        gpa += _page_up(len(file.data))
    return tuple(modules)


def _page_up(number: int) -> int:
    return -(-number // PAGE_BYTES) * PAGE_BYTES
