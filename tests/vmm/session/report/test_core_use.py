"""What each core did, from made-up accounts; and when the sidecore changed its duty."""

from io import StringIO

from rich.console import Console

from tests.vmm.session.report.test_summary import make_stats
from vmm.session.report.core_use import duty_lines, uses
from vmm.session.report.summary import print_summary
from vmm.session.stats import RunStats

ACCOUNTS = {
    "pcpu0": {"d0v0": {"running": {"guest": 40, "memory stalls": 10, "spin": 20}, "CPUID": {"exit hardware": 30}}},
    "pcpu10": {
        "d0": {"sidecall null": {"coherence": 3, "VMM paths": 2}},
        "host": {"idling": {"spin": 25, "idle": 10}, "interrupts": {"VMM paths": 10}},
    },
}


def lines(stats: RunStats) -> list[str]:
    console = Console(file=StringIO(), width=200, legacy_windows=False)
    print_summary(stats, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_every_cycle_has_one_use() -> None:
    assert uses(ACCOUNTS["pcpu0"]) == {"guest": 50, "VMM": 30, "sidecalls": 0, "spin": 20, "idle": 0}
    assert uses(ACCOUNTS["pcpu10"]) == {"guest": 0, "VMM": 10, "sidecalls": 5, "spin": 25, "idle": 10}


def test_the_summary_has_a_row_for_each_core() -> None:
    printed = lines(make_stats(accounts=ACCOUNTS))
    start = next(number for number, line in enumerate(printed) if line.startswith("What each core did"))
    assert printed[start + 1].split() == ["Core", "Guest", "VMM", "Sidecalls", "Spin", "Idle"]
    assert printed[start + 2].split() == ["pcpu0", "50.00%", "30.00%", "0.00%", "20.00%", "0.00%"]
    assert printed[start + 3].split() == ["pcpu10", "0.00%", "20.00%", "10.00%", "50.00%", "20.00%"]
    assert printed[start + 4] == ""


def test_one_core_needs_no_table() -> None:
    assert not any("each core" in line for line in lines(make_stats(accounts={"pcpu0": ACCOUNTS["pcpu0"]})))


def test_changes_of_duty_are_shown_with_their_cycles_and_long_lists_cut() -> None:
    changes = [{"cycle": 300_000 * number, "serves": bool(number % 2)} for number in range(1, 15)]
    (line,) = duty_lines(make_stats(accounts=ACCOUNTS, duty_changes=changes[:2]))
    assert line == "Sidecore duty, from cycle: 300,000 serves, 600,000 runs guests"
    assert line in lines(make_stats(accounts=ACCOUNTS, duty_changes=changes[:2]))
    (line,) = duty_lines(make_stats(duty_changes=changes))
    assert line.endswith("3,600,000 runs guests, and 2 more (--stats has all)")
    assert duty_lines(make_stats()) == []
