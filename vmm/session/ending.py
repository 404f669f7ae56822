"""What the end of a run means: was it what the user wanted, and with which status does the command end?

    how the guest ended, or was ended --honest_end--> did the text come, was the state saved? --run_status--> 0 or not

ENDINGS.md is the table for people.
"""

from vmm.outcome import ORDERLY, SHUTDOWNS, End, EndKind
from vmm.session.spec import Limits, Outside


def honest_end(end: End, limits: Limits, outside: Outside) -> End:
    """The end of a run that was to come to a text, or to where it is saved. One that is in order is not, without it.

    Of two things that are missing one is told. A run that was saved has come to its end, whatever was awaited.
    """
    if end.kind is EndKind.SAVED:
        return end
    if outside.is_saved:
        missed, what = EndKind.SAVE_MISSED, "it came to where it is saved"
    elif limits.until is not None and end.kind is not EndKind.UNTIL:
        missed, what = EndKind.UNTIL_MISSED, f"it printed {limits.until!r}"
    else:
        return end
    if end.exit_status:
        return End(end.kind, end.value, f"{end.detail}, before {what}" if end.detail else f"before {what}", end.cpu)
    return End(missed, end.value, f"{end}, before {what}", end.cpu)


def is_as_wanted(end: End, outside: Outside) -> bool:
    """Whether there is nothing to find out: the guest, or the user, has ended the run in order."""
    return end.kind in ORDERLY or (outside.expects_shutdown and end.kind in SHUTDOWNS)


def run_status(end: End, outside: Outside) -> int:
    """The exit status of the command."""
    return 0 if outside.expects_shutdown and end.kind in SHUTDOWNS else end.exit_status
