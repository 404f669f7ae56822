"""Fetches packages with the Debian tools the workstation has, without installing them and without root.

`apt-cache` tells version and checksum (from the signed package lists), `apt-get download` fetches, and
`dpkg-deb -x` unpacks.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import ConfigError
from guest_images.cache import file_sha256

TOOLS = ("apt-cache", "apt-get", "dpkg-deb")
TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Package:
    """One package version, as the package lists describe it."""

    name: str
    version: str
    sha256: str
    depends: str


def require_tools() -> None:
    """Raise ConfigError when a Debian tool is missing."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise ConfigError(f"fetching Linux needs Debian's package tools, and {', '.join(missing)} is not here")


def look_up(name: str) -> Package:
    """The candidate version of the package `name`. Raises ConfigError when the lists do not have it."""
    fields = parse_record(_run("apt-cache", "show", "--no-all-versions", name))
    try:
        return Package(fields["Package"], fields["Version"], fields["SHA256"], fields.get("Depends", ""))
    except KeyError as error:
        raise ConfigError(f"the package lists have no {error.args[0]} for '{name}'; run apt-get update") from error


def parse_record(record: str) -> dict[str, str]:
    """The one-line fields of the first paragraph of `apt-cache show`."""
    paragraph = record.split("\n\n")[0]
    return dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", paragraph, re.MULTILINE))


def download(package: Package, folder: Path) -> Path:
    """The package's .deb file, fetched into `folder` and checked. Raises ConfigError."""
    _run("apt-get", "--quiet", "download", f"{package.name}={package.version}", folder=folder)
    (archive,) = folder.glob(f"{package.name}_*.deb")
    got = file_sha256(archive)
    if got != package.sha256:
        raise ConfigError(f"{archive.name} has SHA-256 {got}, the package lists say {package.sha256}: not used")
    return archive


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the files of a .deb into `folder`; nothing is installed or run."""
    _run("dpkg-deb", "-x", str(archive), str(folder))


def _run(*command: str, folder: Path | None = None) -> str:
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{command[0]} took more than {TIMEOUT_SECONDS} s; is the network up?") from error
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith(("E:", "dpkg-deb: error"))]
        raise ConfigError(f"'{' '.join(command)}' failed: {(errors or ['no reason given'])[0]}")
    return result.stdout
