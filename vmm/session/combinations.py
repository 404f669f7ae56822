"""Options that have an effect only beside another one, or only without it: a row for each; in vain, they are refused.

`sidecore boot` checks these. What cannot be at all, for a script's hosts too, `plan.py` and `nic.py` find out. All
other options have an effect whatever else is given: the test of this table has the list of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from emulator.errors import ConfigError
from vmm.session.nic import signal_of
from vmm.session.parameters import rows_of
from vmm.session.spec import GuestSpec, HostSpec, Limits, Outside


@dataclass(frozen=True)
class Wishes:
    """All that the user has asked for."""

    host: HostSpec
    guest: GuestSpec
    limits: Limits
    outside: Outside

    def is_given(self, field: str) -> bool:
        """Whether a field of a spec is not what it is without its option."""
        for spec in (self.host, self.guest, self.limits, self.outside):
            for row in rows_of(type(spec)):
                if row.name == field:
                    return bool(getattr(spec, field) != row.default)
        raise KeyError(field)


@dataclass(frozen=True)
class Row:
    """The option of `field` has an effect where `has_effect` says so; `line` is the answer where it has none."""

    field: str
    has_effect: Callable[[Wishes], bool]
    line: str


def _beside(*fields: str) -> Callable[[Wishes], bool]:
    return lambda wishes: any(map(wishes.is_given, fields))


def _without(*fields: str) -> Callable[[Wishes], bool]:
    return lambda wishes: not any(map(wishes.is_given, fields))


def _under_a_vmm(wishes: Wishes) -> bool:
    return wishes.host.paging != "native"


def _comes_first(wishes: Wishes) -> bool:
    cycle, limit = wishes.outside.save_at_cycle, wishes.limits.max_cycles
    return cycle is None or limit is None or cycle < limit


NO_VMM, NO_EXITS = (
    "--paging native has no VMM; choose shadow or ept",
    "--paging native has no VM exits; choose shadow or ept",
)
# fmt: off
TABLE = (
    Row("workload", lambda wishes: wishes.host.timing == "fast", "--workload is for --timing fast; leave one out"),
    Row("scheduler", _under_a_vmm, "--scheduler: --paging native has no VMM; choose shadow or ept"),
    Row("poll", _beside("sidecore_count"), "--poll needs --sidecore"),
    Row("trace_path", _under_a_vmm, f"--trace: {NO_EXITS}"),
    Row("trace_from", _beside("trace_path"), "--trace-from needs --trace"),
    Row("trace_last", _beside("trace_path"), "--trace-last needs --trace"),
    Row("explain", _under_a_vmm, f"--explain: {NO_EXITS}"),
    Row("explain", _without("save_path", "restore_path"),
        "--explain goes with neither --save nor --restore; leave one out"),
    Row("pcap_path", lambda wishes: wishes.host.has_nic or wishes.is_given("restore_path"), "--pcap needs --nic"),
    Row("save_at_exit", _under_a_vmm, f"--save-at-exit: {NO_EXITS}"),
    Row("save_at_cycle", _comes_first, "--save-at-cycle comes behind --max-cycles, so nothing would be saved"),
    Row("expects_shutdown", _without("until", "save_path"),
        "--expect-shutdown goes with neither --until nor --save, which wait for another end; leave one out"),
    Row("nic_interrupt_core", lambda wishes: not wishes.host.has_nic or _interrupts(wishes.host),
        "--nic-interrupt-core: with --nic-signal sidecore the card does not interrupt; leave one out"),
    Row("nic_identifier_bits", lambda wishes: not wishes.host.has_nic or _interrupts(wishes.host, "interrupt"),
        "--nic-identifier-bits needs --nic-signal interrupt: no other has the register"),
    Row("nic_fills_caches", lambda wishes: not wishes.host.has_nic or wishes.host.timing == "detailed",
        "--nic-dca needs --timing detailed: else there are no caches"),
)
# fmt: on


def _interrupts(host: HostSpec, *signals: str) -> bool:
    """Whether the card interrupts, in one of these ways; a sidecore with other duties needs the interrupt meanwhile."""
    signal = signal_of(host)
    if signal == "sidecore":
        return host.sidecore_policy is not None
    return not signals or signal in signals


def check_effects(host: HostSpec, guest: GuestSpec, limits: Limits, outside: Outside) -> None:
    """Raise ConfigError for an option that has no effect beside the others."""
    wishes = Wishes(host, guest, limits, outside)
    for row in TABLE:
        if wishes.is_given(row.field) and not row.has_effect(wishes):
            raise ConfigError(row.line)
