"""The three kinds of failure, never mixed.

Hardware outcomes (faults, VM exits, failed VM entries) are values, not exceptions. Exceptions are for people:

- `ConfigError`: the user asked for something impossible. One clear line, exit status 2, no traceback.
- `GuestError`: the guest did something that is not modelled or cannot continue. Exit status 4 with the state.
- anything else is a broken invariant of ours, and shows its traceback.
"""

from collections.abc import Sequence
from difflib import get_close_matches


class ConfigError(Exception):
    """A mistake of the user's; `str(error)` is the one line to show, saying what to do."""


class GuestError(Exception):
    """The guest cannot go on: it did what the model does not cover. `str(error)` says where and what."""


def choices_text(word: str, choices: Sequence[str], *, listed_by: str = "") -> str:
    """The end of a ConfigError about `word`, which is none of `choices`: the nearest one, or how to see all."""
    if near := get_close_matches(word, choices, n=1):
        return f"did you mean {near[0]!r}?"
    return f"'{listed_by}' shows what there is" if listed_by else f"there are: {', '.join(choices)}"
