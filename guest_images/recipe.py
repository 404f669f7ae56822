"""Images that take long to make: fetched or built once, kept in the cache with checksums, verified on every use.

    make(scratch, products) --> <cache>/<part>/<name>-<key>/ with manifest.json (SHA-256 of each file, versions)

The folder gets its name when everything is in it: what was interrupted leaves nothing behind.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import ConfigError
from emulator.user_cache import cache_directory
from guest_images.cache import file_sha256, temporary_directory

MANIFEST = "manifest.json"
Progress = Callable[[str], None]  # gets a line per step


@dataclass(frozen=True)
class Recipe:
    """How to make `products` (file names): `make` writes them into a folder and returns the versions it used."""

    part: str  # of the cache
    name: str  # with a key that changes when the recipe does
    products: tuple[str, ...]
    make: Callable[[Path, Path, Progress], Mapping[str, str]]  # scratch folder, products folder

    @property
    def directory(self) -> Path:
        """Where the products are, or will be."""
        return cache_directory(self.part) / self.name

    def get(self, progress: Progress) -> Path:
        """The folder of the products, from the cache or made now. Raises ConfigError."""
        target = self.directory
        if not target.exists():
            with temporary_directory(self.part) as scratch:
                products = Path(scratch) / "products"
                products.mkdir()
                write_manifest(products, self.make(Path(scratch), products, progress))
                _rename_into_place(products, target)
        verify_manifest(target, self.products)
        return target


def verify_manifest(directory: Path, names: tuple[str, ...]) -> None:
    """Compare each file with the manifest. Raises ConfigError that says which differs and what to do."""
    remedy = f"remove {directory} to make it again"
    try:
        files: dict[str, str] = json.loads((directory / MANIFEST).read_text())["sha256"]
        damaged = [name for name in names if file_sha256(directory / name) != files[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"the cached image is incomplete ({type(error).__name__}: {error}); {remedy}") from error
    if damaged:
        raise ConfigError(f"the cached image is damaged ({', '.join(damaged)}); {remedy}")


def write_manifest(directory: Path, versions: Mapping[str, str]) -> None:
    """Record the checksum of every file in `directory`, and the versions it was made from."""
    files = {path.name: file_sha256(path) for path in sorted(directory.iterdir()) if path.name != MANIFEST}
    text = json.dumps({"packages": dict(versions), "sha256": files}, indent=2, sort_keys=True)
    (directory / MANIFEST).write_text(text + "\n")


def _rename_into_place(products: Path, target: Path) -> None:
    try:
        os.rename(products, target)
    except OSError:
        if not target.exists():  # another process was first: its files are as good, and are verified
            raise
