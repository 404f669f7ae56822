"""Claims about `sidecore profiles check` as a whole."""

import json
from pathlib import Path

import pytest

from benchmarks.calibration.published import references_of
from benchmarks.cli import main
from emulator.profiles.profile import DEFAULT_PROFILE, shipped_profiles


@pytest.mark.slow
def test_every_shipped_profile_measures_what_was_published_of_its_machine(tmp_path: Path) -> None:
    path = tmp_path / "findings.json"
    main(["profiles", "check", "--json", str(path)])
    findings = json.loads(path.read_text())["rows"]
    assert [row["spec"]["profile"] for row in findings] == [
        row.profile for name in shipped_profiles() for row in references_of(name)
    ]
    assert all(row["about"]["is_within"] for row in findings)


@pytest.mark.slow
def test_the_exit_status_tells_that_a_model_strays_from_what_was_published(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["profiles", "check", DEFAULT_PROFILE, "--set", "caches.l2_latency_cycles=32"])
    assert raised.value.code == 1
    (line,) = [line for line in capfd.readouterr().out.splitlines() if "OUTSIDE" in line]
    assert "L2 latency" in line
