"""Build Unicorn, or find it built, and say where it is."""

import sys

from emulator.errors import ConfigError
from emulator.unicorn_build.library import build

try:
    print(build())
except ConfigError as error:
    sys.exit(f"sidecore: {error}")
