"""`sidecore bench speed` runs."""

import json
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.speed import measure as speed


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    every_contender = speed.sidecore_contenders
    monkeypatch.setattr(speed, "sidecore_contenders", lambda scratch: every_contender(scratch)[:1])
    main(["bench", "speed", "--json", str(tmp_path / "speed.json")])
    output = capfd.readouterr().out
    assert output.startswith("Linux to its shell")
    figures = json.loads((tmp_path / "speed.json").read_text())
    assert figures["linux_boot"]["sidecore native, fast"]["instructions"] > 10**9
    assert set(figures["exit_cost"]) == {"CPUID ept", "VMCALL ept", "CPUID shadow", "VMCALL shadow"}
    assert {"2 busy cores", "64 busy cores", "an idle pair of hosts"} < set(figures["turns"])
