"""The image `linux-vif`: `linux-small` with a network, the driver of a VIF and psapp (vif_linux/); it runs in 32 MB.

/init says how guests that are clones of one snapshot get an identity of their own.
"""

from pathlib import Path

from guest_images.kernels import LIBRARY
from guest_images.linux import LinuxFiles
from guest_images.linux_small import CONFIG_SOURCE
from guest_images.linux_source import Driver, Program, SourceBuild
from guest_images.recipe import Progress, Recipe

FOLDER = Path(__file__).parent / "vif_linux"
HOLDING_LINE = "sidecore: holding"  # /init waits for a line, when `hold` or `hold=psapp` is on the command line
BRIDGE_LINE = "sidecore: driver domain ready"  # with `driver_domain` there: guests may come
NETWORK_LINE = "sidecore: network ready"


def source_build() -> SourceBuild:
    """What it is built of."""
    driver = ("Makefile", "vif.c", "vif_backend.c", "vif_device.h", "vif_ethtool.c")
    return SourceBuild(
        "linux-vif",
        (CONFIG_SOURCE, FOLDER / "vif.config"),
        init=(FOLDER / "init").read_text(),
        drivers=(Driver("vif", (*(FOLDER / name for name in driver), LIBRARY / "vif.h")),),
        programs=(Program("bin/psapp", FOLDER / "psapp.c", (LIBRARY / "psapp.h",)),),
        is_compressed=False,
    )


def recipe() -> Recipe:
    """The recipe; its key covers the configuration, the initramfs and all sources."""
    return source_build().recipe()


def build(progress: Progress) -> LinuxFiles:
    """The files, from the cache or built now. Raises ConfigError."""
    return source_build().build(progress)
