"""The exit table is complete, and says why what it leaves out cannot happen."""

from emulator.vmx.exit_reasons import NAMES
from vmm.exits.table import EXIT_HANDLERS, IMPOSSIBLE


def test_every_exit_reason_is_handled_or_declared_impossible() -> None:
    missing = [NAMES[reason] for reason in NAMES if reason not in EXIT_HANDLERS and reason not in IMPOSSIBLE]
    assert missing == []


def test_no_exit_reason_is_both_handled_and_impossible() -> None:
    assert [NAMES[reason] for reason in EXIT_HANDLERS if reason in IMPOSSIBLE] == []


def test_each_impossible_reason_says_why() -> None:
    assert all(len(why) > 10 for why in IMPOSSIBLE.values())


def test_handlers_are_named_after_what_they_handle() -> None:
    assert all(handler.__name__.startswith("handle_") for handler in EXIT_HANDLERS.values())
