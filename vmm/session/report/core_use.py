"""What each core of the machine did, from the accounts of its ledger: a table for the end-of-run summary."""

from collections.abc import Mapping

from rich.table import Table

from emulator.ledger import HOST, LABELS, RUNNING, Category
from vmm.session.report.tables import make_table, natural_order, percent_text
from vmm.session.stats import RunStats

GUEST, VMM, SIDECALLS, SPIN, IDLE = "guest", "VMM", "sidecalls", "spin", "idle"
USES = (GUEST, VMM, SIDECALLS, SPIN, IDLE)
OF_LABEL = {LABELS[Category.SPIN]: SPIN, LABELS[Category.IDLE]: IDLE}  # whatever it was during
CHANGES_SHOWN = 12


def uses(accounts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, int]:
    """Cycles of one core by what it did: guests' instructions, exits, sidecalls it served, polling memory."""
    cycles = dict.fromkeys(USES, 0)
    for owner, activities in accounts.items():
        for activity, spent in activities.items():
            for label, amount in spent.items():
                cycles[OF_LABEL.get(label) or _use(owner, activity)] += amount
    return cycles


def _use(owner: str, activity: str) -> str:
    if activity.startswith("sidecall "):
        return SIDECALLS
    return GUEST if activity == RUNNING and owner != HOST else VMM


def cores_table(stats: RunStats) -> Table:
    """A row for each core: the shares of its time."""
    table = make_table("What each core did", "Core", *(use.capitalize() if use != VMM else use for use in USES))
    for name in sorted(stats["accounts"], key=natural_order):
        cycles = uses(stats["accounts"][name])
        whole = sum(cycles.values())
        table.add_row(name, *(percent_text(cycles[use], whole) for use in USES))
    return table


def duty_lines(stats: RunStats) -> list[str]:
    """When the dynamic sidecore changed its duty, in cycles of its core."""
    changes = stats.get("duty_changes", ())
    if not changes:
        return []
    shown = [f"{change['cycle']:,} {'serves' if change['serves'] else 'runs guests'}" for change in changes]
    left = len(shown) - CHANGES_SHOWN
    more = [f"and {left} more (--stats has all)"] if left > 0 else []
    return ["Sidecore duty, from cycle: " + ", ".join(shown[:CHANGES_SHOWN] + more)]
