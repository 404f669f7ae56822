"""An installed sidecore needs nothing of the checkout: a wheel is built, installed where nothing else is, and used."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.project.test_documents import examples_of

pytestmark = pytest.mark.slow

USER_SCRIPT = """
import sidecore

host = sidecore.World().add_host(sidecore.HostSpec(paging="ept"))
guest = host.add_guest(sidecore.GuestSpec(image="default"))
reveal_type(guest.exit_table())
sidecore.HostSpec(paging="shadwo")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `bin`, an environment that has the wheel and what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "source")]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    shutil.rmtree(folder / "source")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "environment")], check=True)
    (wheel,) = folder.glob("*.whl")
    pip[0] = str(folder / "environment/bin/python")
    subprocess.run([*pip, "install", str(wheel)], check=True, capture_output=True)
    yield folder
    shutil.rmtree(folder)


def run(place: Path, *command: str) -> str:
    """The output of a command of the environment, which must succeed; no folder but `place` is in its path."""
    environment = {"PATH": f"{place}/environment/bin:/usr/bin:/bin", "SIDECORE_CACHE": str(place / "cache")}
    finished = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize("code", [*examples_of(ROOT / "README.md"), *examples_of(ROOT / "vmm/EXTENDING.md")])
def test_the_examples_run_with_the_wheel_alone(place: Path, code: str) -> None:
    run(place, "python", "-c", code)


def test_the_command_boots_in_every_mode_and_measures(place: Path) -> None:
    for paging in ("native", "shadow", "ept"):
        assert "PASS: all 3 checks" in run(place, "sidecore", "boot", "--paging", paging)
    assert "PASS: all 3 checks" in run(place, "sidecore", "boot", "--timing", "detailed")
    assert "netburst-2006" in run(place, "sidecore", "bench", "fig1")


def test_every_file_of_the_packages_is_installed(place: Path) -> None:
    site = Path(run(place, "python", "-c", "import sidecore; print(sidecore.__file__)").strip()).parent
    assert not site.is_relative_to(ROOT)
    tracked = subprocess.check_output(
        ["git", "ls-files", "sidecore.py", "emulator", "devices", "vmm", "guest_images", "benchmarks"],
        cwd=ROOT, text=True,
    ).splitlines()  # fmt: skip
    missing = [name for name in tracked if not name.endswith(".md") and not (site / name).exists()]
    assert missing == []


def test_type_checkers_see_the_types(place: Path) -> None:
    (place / "user.py").write_text(USER_SCRIPT)
    python = place / "environment/bin/python"
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "user.py"]
    checked = subprocess.run(command, cwd=place, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}).stdout
    assert 'Revealed type is "str"' in checked or 'Revealed type is "builtins.str"' in checked, checked
    assert re.search(r'user\.py:7: error: Argument "paging" to "HostSpec" has incompatible type', checked), checked
    assert "Found 1 error" in checked, checked
