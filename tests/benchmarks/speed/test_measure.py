"""Claims about how the speed benchmark boots its contenders."""

import os
import sys

import pytest

from benchmarks.speed.measure import Contender, run_once, seconds_until
from emulator.errors import ConfigError


def test_the_text_is_found_across_reads_and_its_absence_noticed() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"xxre")
    assert seconds_until(b"ready", reader, 0.01) is None
    os.write(writer, b"xxready")
    assert seconds_until(b"ready", reader, 10) is not None
    os.close(writer)
    assert seconds_until(b"ready", reader, 10) is None
    os.close(reader)


def test_a_contender_that_fails_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^nothing did not reach its shell: "):
        run_once(Contender("nothing", [sys.executable, "-c", "pass"]))
