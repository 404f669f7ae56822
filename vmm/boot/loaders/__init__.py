"""Loaders: turn a kernel file into the bytes of a guest's memory and its first register values; see the README.

Pure functions of files: no CPU engine, no domain. `load` finds the format by its magic number.
"""

from vmm.boot.loaders.boot_image import BootImage, BootProtocol, EntryMode
from vmm.boot.loaders.load import load
from vmm.boot.loaders.memory_size import parse_memory_size

__all__ = ["BootImage", "BootProtocol", "EntryMode", "load", "parse_memory_size"]
