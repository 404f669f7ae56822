"""`import sidecore` has what it says, and works only with its own packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sidecore
from tests import ROOT


def test_every_name_is_there_and_documented() -> None:
    assert sorted(set(sidecore.__all__)) == sorted(sidecore.__all__)
    for name in sidecore.__all__:
        thing = getattr(sidecore, name)
        assert not isinstance(thing, type) or thing.__doc__, name


@pytest.mark.parametrize("name", sidecore.PACKAGES)
def test_a_foreign_package_of_the_same_name_is_one_clear_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", "import sidecore"]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    last = finished.stderr.splitlines()[-1]
    assert (
        last == f"ImportError: sidecore needs its own package '{name}' in {ROOT}, but it is found at {tmp_path / name}"
    )


def test_a_package_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=f"own package 'emulator' in {tmp_path}, but it is found at {ROOT}"):
        sidecore.check_packages(tmp_path)
