"""The recipe `memtest`: Debian's memtest86+, as the 64-bit file that boot loaders start by the Linux boot protocol."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from guest_images import debian_packages
from guest_images.cache import content_key
from guest_images.recipe import Progress, Recipe

PACKAGE = "memtest86+"
PROGRAM = "memtest86+x64.bin"
COMMAND_LINE = "console=ttyS0,115200 nopause"  # nopause: do not wait three seconds for a key
RECIPE_KEY = content_key([PACKAGE.encode(), PROGRAM.encode()])


def recipe() -> Recipe:
    """The recipe."""
    return Recipe("memtest", f"memtest-{RECIPE_KEY}", (PROGRAM,), _make)


def fetch(progress: Progress) -> Path:
    """The program, from the cache or fetched now. Raises ConfigError."""
    return recipe().get(progress) / PROGRAM


def _make(scratch: Path, products: Path, progress: Progress) -> Mapping[str, str]:
    debian_packages.require_tools()
    package = debian_packages.look_up(PACKAGE)
    progress(f"fetching {package.name} {package.version}")
    debian_packages.unpack(debian_packages.download(package, scratch), scratch / "root")
    shutil.copy(scratch / "root" / "boot" / PROGRAM, products / PROGRAM)
    return {package.name: package.version}
