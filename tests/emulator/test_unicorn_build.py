"""Unicorn's source is changed where the table says, and only where it is as expected."""

from dataclasses import replace
from pathlib import Path

import pytest

from emulator.errors import ConfigError
from emulator.unicorn_build.edit import Edit, Place
from emulator.unicorn_build.edits import EDITS
from emulator.unicorn_build.library import apply, key
from tests import ROOT

EDIT = Edit(file="a.c", place=Place.AFTER, anchor="one;\n", lines="two;\n", why="", test="")


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        (Place.AFTER, "zero;\none;\ntwo;\nthree;\n"),
        (Place.BEFORE, "zero;\ntwo;\none;\nthree;\n"),
        (Place.INSTEAD, "zero;\ntwo;\nthree;\n"),
    ],
)
def test_lines_go_where_the_edit_says(place: Place, changed: str, tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("zero;\none;\nthree;\n")
    apply([replace(EDIT, place=place)], tmp_path)
    assert (tmp_path / "a.c").read_text() == changed


@pytest.mark.parametrize(("text", "count"), [("zero;\n", 0), ("one;\none;\n", 2)])
def test_a_source_that_is_not_the_expected_one_is_refused_and_left_alone(text: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text(text)
    with pytest.raises(ConfigError, match=f"Unicorn's a.c is not the expected one: 'one;' stands there {count} times"):
        apply([EDIT], tmp_path)
    assert (tmp_path / "a.c").read_text() == text


def test_another_edit_is_another_library() -> None:
    assert key() == key()
    assert key([*EDITS, EDIT]) != key()


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{Path(edit.file).name}: {edit.why[:40]}")
def test_each_edit_names_a_test_that_exists(edit: Edit) -> None:
    assert edit.why
    assert (ROOT / edit.test).is_file()
