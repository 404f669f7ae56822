"""What the READMEs show works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

READMES = sorted(path for path in ROOT.glob("**/*.md") if not {".venv", "build"} & set(path.parts))


def examples_of(path: Path) -> list[str]:
    """The scripts that a document shows."""
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


EXAMPLES = [
    pytest.param(code, id=f"{path.parent.name}-{path.stem}-{number}")
    for path in READMES
    for number, code in enumerate(examples_of(path))
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_python_examples_run(code: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("path", READMES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_links_lead_to_files(path: Path) -> None:
    prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)\)", prose):
        assert (path.parent / target).exists(), f"{path}: {target}"
