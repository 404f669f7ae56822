"""One exit of all, as a user names it: REASON or REASON:n."""

from dataclasses import dataclass

from emulator.errors import ConfigError, choices_text
from emulator.profiles.sections import REASONS
from emulator.vmx.exit_reasons import name
from vmm.exits.table import IMPOSSIBLE


@dataclass(frozen=True)
class Request:
    """The `number`-th VM exit for `reason`, from 1."""

    reason: int
    number: int

    def __str__(self) -> str:
        return f"{name(self.reason)}:{self.number}"


def parse_request(text: str) -> Request:
    """`REASON` or `REASON:n`, as after --explain. Raises ConfigError."""
    reason_text, colon, number_text = text.partition(":")
    reason = REASONS.get(reason_text.upper())
    if reason is None:
        raise ConfigError(
            f"--explain: no exit reason {reason_text!r}; {choices_text(reason_text.upper(), list(REASONS))}"
        )
    if reason in IMPOSSIBLE:
        raise ConfigError(f"--explain {reason_text}: no guest makes this exit: {IMPOSSIBLE[reason]}")
    if colon and not (number_text.isascii() and number_text.isdecimal() and 0 < len(number_text) < 19):
        raise ConfigError(f"--explain {text!r}: behind the colon comes which exit, a number from 1")
    number = int(number_text) if colon else 1
    if number < 1:
        raise ConfigError(f"--explain {text!r}: the first exit has the number 1")
    return Request(reason, number)


class ExitCounter:
    """Counts exits for a reason, up to the one asked for."""

    def __init__(self, request: Request) -> None:
        self.seen_count = 0
        self._request = request

    def is_it(self, reason: int) -> bool:
        """One more exit, for `reason`. Whether it is the one."""
        if reason != self._request.reason:
            return False
        self.seen_count += 1
        return self.seen_count == self._request.number
