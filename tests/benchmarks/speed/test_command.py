"""`sidecore bench speed` runs."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.speed import loops
from benchmarks.speed import measure as speed


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    every_contender = speed.sidecore_contenders
    monkeypatch.setattr(speed, "sidecore_contenders", lambda scratch: every_contender(scratch)[:1])
    monkeypatch.setattr(loops, "LOOPS", {"delay": 10, "page_fault": 10})
    main(["bench", "speed", "--json", str(tmp_path / "speed.json")])
    output = capfd.readouterr().out
    assert output.startswith("Linux to its shell")
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    boots = {row["spec"]["contender"]: row for row in rows if row["metric"] == "linux_boot"}
    assert boots["sidecore native, fast"]["about"]["instructions"] > 10**9
    if shutil.which(speed.QEMU):
        looped = {(row["metric"], row["spec"]["mode"]) for row in rows if row["metric"].startswith("loop/")}
        assert looped == {(f"loop/{name}", mode) for name in ("delay", "page_fault") for mode in loops.MODES}
    exits = {(row["about"]["exit"], row["spec"]["paging"]) for row in rows if row["metric"] == "exit"}
    assert exits == {(exit_name, paging) for exit_name in ("CPUID", "VMCALL") for paging in ("ept", "shadow")}
    turns = {row["spec"]["machines"] for row in rows if row["metric"] == "turns_of_a_second"}
    assert {"2 busy cores", "64 busy cores", "an idle pair of hosts"} < turns
