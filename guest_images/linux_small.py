"""The image `linux-small`: a small Linux of Debian's source (`linux_source.py`), by the configuration of this name."""

from pathlib import Path

from guest_images.linux import LinuxFiles
from guest_images.linux_source import SourceBuild
from guest_images.recipe import Progress, Recipe

CONFIG_SOURCE = Path(__file__).parent / "linux_small.config"


def recipe() -> Recipe:
    """The recipe; its key covers the configuration and the initramfs."""
    return SourceBuild("linux-small", (CONFIG_SOURCE,)).recipe()


def build(progress: Progress) -> LinuxFiles:
    """The files, from the cache or built now. Raises ConfigError."""
    return SourceBuild("linux-small", (CONFIG_SOURCE,)).build(progress)
