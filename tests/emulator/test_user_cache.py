"""Claims about where the user's cache is."""

from pathlib import Path

import pytest

from emulator.errors import ConfigError
from emulator.user_cache import cache_directory


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIDECORE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory("x") == tmp_path / "xdg" / "sidecore" / "x"
    monkeypatch.setenv("SIDECORE_CACHE", str(tmp_path / "own"))
    assert cache_directory("x") == tmp_path / "own" / "x"


def test_a_cache_that_cannot_be_made_is_the_users_to_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SIDECORE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="set SIDECORE_CACHE"):
        cache_directory("x")
