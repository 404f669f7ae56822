"""The three kinds of failure, never mixed.

Hardware outcomes (faults, VM exits, failed VM entries) are values, not exceptions. Exceptions are for people:

- `ConfigError`: the user asked for something impossible. One clear line, exit status 2, no traceback.
- `GuestError`: the guest did something that is not modelled or cannot continue. Exit status 4 with the state.
- anything else is a broken invariant of ours, and shows its traceback.
"""


class ConfigError(Exception):
    """A mistake of the user's; `str(error)` is the one line to show, saying what to do."""


class GuestError(Exception):
    """The guest cannot go on: it did what the model does not cover. `str(error)` says where and what."""
