"""Who may write which part of a CPU: see the comment on top of engine.h."""

import re
from pathlib import Path

import pytest

import emulator.engine

FOLDER = Path(emulator.engine.__file__).parent
PARTS = {"port": "unicorn", "arch": "arch", "time": "time"}  # a member of sc_cpu -> the folder that writes it
FIELD = r"cpu->(port|arch|time)(?:\.\w+|\[[^]]*\])+"
WRITE = re.compile(rf"{FIELD}\s*(?:[-+|&^]|<<|>>)?=(?!=)|{FIELD}(?:\+\+|--)|(?:\+\+|--){FIELD}")


def writers(part: str) -> set[str]:
    """The folders with an assignment to a field of `part`."""
    return {
        path.relative_to(FOLDER).parts[0]
        for path in FOLDER.rglob("*.c")
        for found in WRITE.finditer(path.read_text())
        if part in found.groups()
    }


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_cpu_is_written_in_one_folder(part: str) -> None:
    assert writers(part) == {PARTS[part]}


@pytest.mark.parametrize("folder", ["arch", "time"])
def test_only_the_port_knows_unicorn(folder: str) -> None:
    names = re.compile(r"\buc_\w+\(|\bUC_\w+|unicorn/unicorn\.h|\"(?:unicorn/)?state\.h\"")
    assert [path.name for path in (FOLDER / folder).iterdir() if names.search(path.read_text())] == []
