"""Builds Unicorn: its source package from PyPI, x86 only, with the edits of edits.py, as a static library in the cache.

    cache/unicorn/KEY/libunicorn.a    KEY is a hash of the source, the edits, how it is built, and the compiler
    cache/unicorn/KEY/include/        its C headers

Unicorn is GPL-2.0; the source package is the one PyPI has under `unicorn==2.1.4`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from emulator.errors import ConfigError
from emulator.unicorn_build.edit import Edit, Place
from emulator.unicorn_build.edits import EDITS
from emulator.user_cache import cache_directory

VERSION = "2.1.4"
SOURCE_SHA256 = "00567a70e323f749b419cd86bee4f9115beab7ebba32194581c090cbb7c59cff"
CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_POSITION_INDEPENDENT_CODE=ON",
    "-DCMAKE_C_FLAGS=-fvisibility=hidden -w",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DUNICORN_ARCH=x86",
    "-DUNICORN_BUILD_TESTS=OFF",
    "-DUNICORN_INSTALL=OFF",
)


def _say(text: str) -> None:
    print(f"sidecore: {text}", file=sys.stderr, flush=True)


def _run(*command: str | Path, what: str, show: bool = False) -> None:
    """Run a tool; its output is shown only when it fails, or as it comes where `show` says so."""
    try:
        done = subprocess.run(
            command, stdout=sys.stderr if show else subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except OSError as error:
        raise ConfigError(f"cannot {what}: {command[0]}: {error.strerror}") from error
    if done.returncode:
        raise ConfigError(f"cannot {what}:\n{(done.stdout or '')[-3000:]}")


def _compiler() -> str:
    """What the C compiler says it is: another one makes another library."""
    command = os.environ.get("CC", "gcc")
    try:
        return subprocess.run([*command.split(), "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(f"no C compiler: {command}; on Debian: sudo apt install gcc libc6-dev") from error


def key(edits: Iterable[Edit] = EDITS) -> str:
    """The name of a build: equal for equal libraries."""
    parts = (SOURCE_SHA256, repr(tuple(edits)), repr(CMAKE_OPTIONS), _compiler())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _fetch(folder: Path) -> Path:
    """The source package, by pip, which knows the user's mirrors and proxies; checked against its hash."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"unicorn=={VERSION} --hash=sha256:{SOURCE_SHA256}\n")
    _run(
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--no-binary", "unicorn", "--require-hashes", "--requirement", wanted, "--dest", folder,
        what=f"fetch the source of Unicorn {VERSION} from PyPI",
    )  # fmt: skip
    return folder / f"unicorn-{VERSION}.tar.gz"


def apply(edits: Iterable[Edit], source: Path) -> None:
    """Change the files below `source`. Raises ConfigError where an anchor does not stand in its file exactly once."""
    for edit in edits:
        text = (source / edit.file).read_text()
        if (count := text.count(edit.anchor)) != 1:
            first = edit.anchor.strip().splitlines()[0]
            raise ConfigError(f"Unicorn's {edit.file} is not the expected one: {first!r} stands there {count} times")
        match edit.place:
            case Place.BEFORE:
                changed = edit.lines + edit.anchor
            case Place.AFTER:
                changed = edit.anchor + edit.lines
            case Place.INSTEAD:
                changed = edit.lines
        (source / edit.file).write_text(text.replace(edit.anchor, changed))


def _tool(name: str) -> Path:
    """The program `name`: of the workstation, or from PyPI into the cache."""
    beside = Path(sys.executable).parent / name
    if found := shutil.which(name) or (str(beside) if beside.exists() else None):
        return Path(found)
    folder = cache_directory("unicorn") / f"tool-{name}"
    if not folder.exists():
        _say(f"fetching {name} from PyPI")
        _run(
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--target", folder, name, what=f"install {name} from PyPI",
        )  # fmt: skip
    programs = [path for path in folder.glob(f"**/bin/{name}") if path.read_bytes()[:4] == b"\x7fELF"]
    if not programs:
        raise ConfigError(f"{name} is missing; on Debian: sudo apt install cmake ninja-build")
    return programs[0]


def _compile(source: Path, folder: Path) -> None:
    cmake, ninja = _tool("cmake"), _tool("ninja")
    options = (*CMAKE_OPTIONS, f"-DCMAKE_MAKE_PROGRAM={ninja}")
    _run(cmake, "-G", "Ninja", *options, "-S", source, "-B", folder, what="configure Unicorn")
    _run(ninja, "-C", folder, "libunicorn.a", what="compile Unicorn", show=sys.stderr.isatty())


def build() -> Path:
    """The folder with `libunicorn.a` and `include`; the first call of a user makes it, in half a minute or so."""
    cache = cache_directory("unicorn")
    made = cache / key()
    if made.exists():
        return made
    _say(f"building Unicorn {VERSION}, once for all checkouts (half a minute on two cores)")
    with tempfile.TemporaryDirectory(dir=cache) as place:
        folder = Path(place)
        with tarfile.open(_fetch(folder)) as package:
            package.extractall(folder, filter="data")
        source = folder / f"unicorn-{VERSION}" / "src"
        apply(EDITS, source)
        _compile(source, folder / "build")
        (folder / "made").mkdir()
        shutil.copy(folder / "build" / "libunicorn.a", folder / "made")
        shutil.copytree(source / "include" / "unicorn", folder / "made" / "include" / "unicorn")
        try:
            (folder / "made").rename(made)
        except OSError:  # another build was first
            if not made.exists():
                raise
    return made
