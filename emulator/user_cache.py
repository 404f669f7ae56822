"""Where on the workstation things are kept that can be made again: built guest images, compiled kernels.

$SIDECORE_CACHE, else $XDG_CACHE_HOME/sidecore, else ~/.cache/sidecore; one folder for each part of the project.
"""

import os
from pathlib import Path

from emulator.errors import ConfigError


def cache_directory(part: str) -> Path:
    """The cache's folder for `part`, made if need be. Raises ConfigError when it cannot be."""
    if root := os.environ.get("SIDECORE_CACHE"):
        base = Path(root)
    elif xdg := os.environ.get("XDG_CACHE_HOME"):
        base = Path(xdg) / "sidecore"
    else:
        base = Path.home() / ".cache" / "sidecore"
    try:
        (base / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot use the cache {base}: {error.strerror}; set SIDECORE_CACHE") from error
    return base / part
