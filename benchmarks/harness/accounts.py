"""Where the cycles of an operation went: the machine's ledger, read at both ends of each round a guest measures.

    guest:  OUT 0x80, 0x20 | RDTSC  operation x n  RDTSC | OUT 0x80, 0x21        (guest_images/lib/measure.h)
                 |                                              |
            ledger, exit counts        - difference -       ledger, exit counts      = the account of the round

A difference holds, besides the operations, the loop and most of one OUT. The account of an empty round holds the same,
so one minus the other is the operations alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.harness.measurements import Measurement
from emulator.ledger import HOST, LABELS
from vmm.session.guest import Guest

OTHER_CORES = "other cores: "  # before the label of a category: not the guest's time
MARK_END, MARK_EMPTY, MARK_OPERATION = 0x01, 0x10, 0x20


@dataclass(frozen=True)
class Account:
    """Cycles by category of the ledger, VM exits by name of their reason; of a round, or of one operation."""

    cycles: Mapping[str, float]
    exits: Mapping[str, float]

    def minus(self, other: "Account") -> "Account":
        """The differences that are not 0."""
        return Account(_difference(self.cycles, other.cycles), _difference(self.exits, other.exits))

    def per_operation(self, operations: int) -> "Account":
        """The same for one of `operations`."""
        return Account(
            {name: cycles / operations for name, cycles in self.cycles.items()},
            {name: count / operations for name, count in self.exits.items()},
        )


def _difference(left: Mapping[str, float], right: Mapping[str, float]) -> dict[str, float]:
    names = [*left, *(name for name in right if name not in left)]
    differences = {name: left.get(name, 0) - right.get(name, 0) for name in names}
    return {name: value for name, value in differences.items() if value}


def account_now(guest: Guest) -> Account:
    """All that has been booked since power-on; what other cores did for guests under `OTHER_CORES`."""
    cycles = guest.pcpu.clock.book().by_label()
    for pcpu in guest.machine.pcpus[1:]:
        for (owner, _), account in pcpu.clock.book().accounts.items():
            if owner != HOST:
                for label, spent in zip(LABELS, account, strict=True):
                    cycles[OTHER_CORES + label] = cycles.get(OTHER_CORES + label, 0) + spent
    return Account(cycles, {name: row["count"] for name, row in guest.exit_statistics().items()})


class Rounds:
    """Follows a guest's marks: the accounts of the rounds since they were last taken."""

    def __init__(self, read_account: Callable[[], Account]) -> None:
        self._read_account = read_account
        self._accounts: dict[int, list[Account]] = {MARK_EMPTY: [], MARK_OPERATION: []}
        self._begun: tuple[int, Account] | None = None

    def mark(self, code: int) -> None:
        """The guest wrote `code` to the POST port."""
        kind = code & ~MARK_END
        if kind not in self._accounts:
            self._begun = None
        elif not code & MARK_END:
            self._begun = (kind, self._read_account())
        elif self._begun is not None and self._begun[0] == kind:
            self._accounts[kind].append(self._read_account().minus(self._begun[1]))

    def take(self, measurement: Measurement) -> Account:
        """The account of one operation of `measurement`, whose rounds were the last: that of its median round."""
        empty, rounds = self._accounts[MARK_EMPTY], self._accounts[MARK_OPERATION]
        assert (len(empty), len(rounds)) == (len(measurement.empty_cycles), len(measurement.cycles)), (
            "marks are missing"
        )
        account = rounds[measurement.median_round].minus(empty[measurement.median_empty_round])
        self._accounts = {MARK_EMPTY: [], MARK_OPERATION: []}
        return account.per_operation(measurement.operations)
