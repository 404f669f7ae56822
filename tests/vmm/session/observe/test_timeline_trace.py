"""Claims about traces for Perfetto: slices nest exactly, charges fill their exit, arrows have all their ends."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cli import main

PS_PER_US = 10**6
CORES, GUESTS, NIC = 1, 2, 4


def boot(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["boot", *arguments, "--no-input", "--memory", "64M"])
    return int(ended.value.code or 0)


def events_of(path: Path) -> list[dict[str, Any]]:
    document = json.loads(path.read_text())
    assert document["otherData"]["trace"] == "sidecore"
    found: list[dict[str, Any]] = document["traceEvents"]
    return found


def span(event: dict[str, Any]) -> tuple[int, int]:
    began_ps = round(event["ts"] * PS_PER_US)
    return began_ps, began_ps + round(event["dur"] * PS_PER_US)


def tracks(events: list[dict[str, Any]]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    found = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            found[event["pid"], event["tid"]].append(event)
    return found


def check_nesting(slices: list[dict[str, Any]]) -> int:
    """Each begins behind the end of the one before it, or is inside of it; how deep they go."""
    open_ends: list[int] = []
    deepest = 0
    for event in sorted(slices, key=lambda event: (span(event)[0], -span(event)[1])):
        began_ps, ended_ps = span(event)
        while open_ends and open_ends[-1] <= began_ps:
            open_ends.pop()
        assert not open_ends or ended_ps <= open_ends[-1], event
        open_ends.append(ended_ps)
        deepest = max(deepest, len(open_ends))
    return deepest


CASES = [
    ("default", "--paging", "shadow"),
    ("default", "--paging", "ept"),
    ("smp_ipi", "--vcpus", "4", "--paging", "ept"),
    ("smp_ipi", "--vcpus", "4", "--pcpus", "2"),
    ("sidecalls", "--sidecore"),
    ("sidecalls", "--sidecore", "--sidecore-policy", "when-idle", "--vcpus", "2", "--pcpus", "1"),
]


@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_slices_of_a_track_overlap_by_nesting_only(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "t.json"
    boot(*arguments, "--trace", str(path), "--max-cycles", "40000000")
    found = tracks(events_of(path))
    depths = {track: check_nesting(slices) for track, slices in found.items()}
    assert depths[CORES, 0] == 2
    assert {depth for (group, _), depth in depths.items() if group == GUESTS} == {1}


def test_charges_fill_their_exit_and_are_the_statistics(tmp_path: Path) -> None:
    path, stats_path = tmp_path / "t.json", tmp_path / "s.json"
    assert boot("default", "--trace", str(path), "--stats", str(stats_path)) == 0
    stats = json.loads(stats_path.read_text())
    events = events_of(path)
    whole: dict[str, int] = defaultdict(int)
    for event in events:
        if event["ph"] == "X" and event["pid"] == GUESTS:
            whole[event["name"]] += event["args"]["cycles"]
    assert whole == {name: row["cycles"] for name, row in stats["exits"].items()}
    charged: dict[str, int] = defaultdict(int)
    parent: dict[str, Any] = {}
    for event in events:
        if event["ph"] == "X" and event["pid"] == CORES:
            if "number" in event["args"]:
                parent = event
            else:
                charged[parent["name"]] += event["args"]["cycles"]
    assert {name: cycles for name, cycles in charged.items() if name != "HLT"} == {
        name: cycles for name, cycles in whole.items() if name != "HLT"
    }
    assert 0 < charged["HLT"] < whole["HLT"]  # the sleep is nobody's


def test_arrows_join_a_request_with_its_sidecall_and_answer(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    assert boot("sidecalls", "--sidecore", "--trace", str(path)) == 0
    arrows = defaultdict(list)
    for event in events_of(path):
        if event["ph"] in "stf":
            arrows[event["id"]].append(event)
    assert len(arrows) > 100
    for ends in arrows.values():
        assert [event["ph"] for event in ends] == ["s", "t", "f"]
        assert ends[0]["ts"] <= ends[1]["ts"]


def test_arrows_join_a_packet_with_its_signal(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    boot("vif", "--nic", "--vif", "--trace", str(path), "--max-cycles", "400000000")
    events = [event for event in events_of(path) if event["pid"] == NIC]
    at = {(event["name"], event["ts"]) for event in events if event["ph"] == "X"}
    starts, ends = ([event for event in events if event["ph"] == phase] for phase in "sf")
    assert len(starts) == len(ends) > 1
    for start, end in zip(starts, ends, strict=True):
        assert start["id"] == end["id"]
        assert ("delivered", start["ts"]) in at
        assert ("injected", end["ts"]) in at


def test_devices_have_tracks_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    assert boot("interrupts", "--trace", str(path)) == 0
    names = {event["args"]["name"] for event in events_of(path) if event["name"] == "thread_name"}
    assert {"d0 Counter", "d0 Mc146818", "host LapicTimer"} <= names


@pytest.mark.parametrize("name", ["t.json", "t.csv", "t.jsonl"])
def test_a_trace_changes_no_cycle(tmp_path: Path, name: str) -> None:
    def stats(*more: str) -> dict[str, Any]:
        boot("sidecalls", "--sidecore", "--stats", str(tmp_path / "s.json"), *more)
        found: dict[str, Any] = json.loads((tmp_path / "s.json").read_text())
        del found["host_seconds"]
        return found

    assert stats("--trace", str(tmp_path / name)) == stats()


def test_a_run_with_a_trace_can_be_saved_and_goes_on(tmp_path: Path) -> None:
    saved, first, second = (str(tmp_path / name) for name in ("saved", "a.json", "b.json"))
    run = ("sidecalls", "--sidecore", "--trace", first, "--save", saved, "--save-at-exit", "IO_INSTRUCTION:200")
    assert boot(*run) == 0
    with pytest.raises(SystemExit):
        main(["boot", "--restore", saved, "--no-input", "--trace", second])
    assert tracks(events_of(tmp_path / "a.json"))[CORES, 0]
    assert tracks(events_of(tmp_path / "b.json"))[CORES, 1]  # the sidecore, which is followed again


@pytest.mark.parametrize("name", ["t.json", "t.csv", "t.jsonl"])
def test_a_window_is_part_of_the_whole(tmp_path: Path, name: str) -> None:
    def lines(*more: str) -> list[str]:
        path = tmp_path / name
        boot("default", "--trace", str(path), *more)
        if name != "t.json":
            return path.read_text().splitlines()[1 : None if name == "t.csv" else -1]
        return [str(event["args"]) for event in events_of(path) if event["ph"] == "X" and event["pid"] == GUESTS]

    whole = lines()
    assert lines("--trace-from", "exit 101") == whole[100:]
    assert lines("--trace-last", "7") == whole[-7:]
    assert lines("--trace-from", "exit 101", "--trace-last", "7") == whole[-7:]
    later = lines("--trace-from", "1000000")
    assert later == whole[-len(later) :]
    assert 0 < len(later) < len(whole)


def test_pandas_reads_what_is_for_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    for name in ("t.csv", "t.jsonl"):
        boot("default", "--trace", str(tmp_path / name))
    table = pandas.read_csv(tmp_path / "t.csv")
    lines = pandas.read_json(tmp_path / "t.jsonl", lines=True)
    assert table["cycles"].sum() == lines["cycles"].sum() > 0
