"""The table of the VMM's paths is whole, and all of it is used."""

from emulator.profiles.file import CONFIDENCES
from emulator.profiles.profile import load_profile
from tests import ROOT
from vmm.cost import paths


def test_every_path_has_a_count_a_place_and_a_confidence() -> None:
    rows = paths.all_paths()
    assert len(rows) > 20
    for row in rows:
        assert row.instructions > 0
        assert row.place
        assert row.confidence in CONFIDENCES
        assert row.source == f"Xen of September 2006, {row.place} ({row.confidence})"
    assert len({row.what for row in rows}) == len(rows)


def test_every_path_is_followed_somewhere() -> None:
    text = "".join(file.read_text() for file in (ROOT / "vmm").rglob("*.py"))
    names = [name for name, value in vars(paths).items() if isinstance(value, paths.Path)]
    assert [name for name in names if f"paths.{name}" not in text] == []


def test_cycles_are_instructions_times_the_parameter_rounded_half_up() -> None:
    path = paths.Path("a", 7, "guess", "b")
    cycles = [
        path.cycles(load_profile("netburst-2006", [f"core.path_cycles_per_100_instructions={cpi}"]))
        for cpi in (100, 150, 50, 92, 93)
    ]
    assert cycles == [7, 11, 4, 6, 7]  # 7, 10.5, 3.5, 6.44, 6.51


def test_a_route_takes_what_its_paths_take_each_rounded() -> None:
    profile = load_profile("netburst-2006", ["core.path_cycles_per_100_instructions=50"])
    first, second = paths.Path("a", 7, "guess", "b"), paths.Path("c", 9, "guess", "d")
    assert paths.Route((first, second)).cycles(profile) == 4 + 5  # 3.5 and 4.5: one path of 16 would take 8
