"""Claims about accounts: what the ledger booked for one operation, from a guest's marks."""

import pytest

from benchmarks.harness.accounts import MARK_EMPTY, MARK_END, MARK_OPERATION, Account, Rounds
from benchmarks.harness.measurements import Measurement


def test_differences_that_are_zero_are_left_out() -> None:
    left, right = (
        Account({"guest": 30, "idle": 5}, {"CPUID": 3}),
        Account({"guest": 10, "idle": 5, "port": 1}, {"HLT": 1}),
    )
    assert left.minus(right) == Account({"guest": 20, "port": -1}, {"CPUID": 3, "HLT": -1})


def test_one_operation_has_its_share() -> None:
    assert Account({"guest": 30}, {"CPUID": 10}).per_operation(10) == Account({"guest": 3.0}, {"CPUID": 1.0})


class FakeGuest:
    """Books what each round is said to cost when it ends; and something between the rounds."""

    def __init__(self) -> None:
        self.cycles = self.exits = 0
        self.rounds = Rounds(lambda: Account({"guest": self.cycles}, {"CPUID": self.exits}))

    def run(self, kind: int, cycles: int, exits: int) -> None:
        self.rounds.mark(kind)
        self.cycles += cycles
        self.exits += exits
        self.rounds.mark(kind | MARK_END)
        self.cycles += 1_000_000


def test_the_account_is_the_median_round_without_the_median_empty_round() -> None:
    guest = FakeGuest()
    for cycles in (7, 3, 5):
        guest.run(MARK_EMPTY, cycles, 0)
    for cycles, exits in ((905, 90), (105, 10), (205, 20)):
        guest.run(MARK_OPERATION, cycles, exits)
    row = Measurement("x", (), 10, (7, 3, 5), (905, 105, 205))
    assert guest.rounds.take(row) == Account({"guest": 20.0}, {"CPUID": 2.0})


def test_rounds_that_were_taken_are_gone() -> None:
    guest = FakeGuest()
    for cycles in (100, 300):
        guest.run(MARK_EMPTY, 0, 0)
        guest.run(MARK_OPERATION, cycles, 1)
        assert guest.rounds.take(Measurement("x", (), 1, (0,), (cycles,))).cycles == {"guest": cycles}


STRAY_MARKS = [
    (MARK_OPERATION | MARK_END,),  # an end without a beginning
    (0, 1),  # a warm-up round
    (MARK_EMPTY, MARK_OPERATION | MARK_END),  # the end of something else
    (0x55, 0xFF),  # what others write to the port
    (MARK_OPERATION, 0x55, MARK_OPERATION | MARK_END),
]


@pytest.mark.parametrize("codes", STRAY_MARKS)
def test_marks_that_make_no_round_are_ignored(codes: tuple[int, ...]) -> None:
    guest = FakeGuest()
    for code in codes:
        guest.rounds.mark(code)
    guest.run(MARK_EMPTY, 1, 0)
    guest.run(MARK_OPERATION, 5, 0)
    assert guest.rounds.take(Measurement("x", (), 1, (1,), (5,))).cycles == {"guest": 4.0}


def test_a_measurement_without_its_marks_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="marks are missing"):
        FakeGuest().rounds.take(Measurement("x", (), 1, (1,), (5,)))
