"""The account of one VM exit, line by line: `sidecore boot --explain CPUID:3`.

Request(reason, 3) --> Recorder, an observer: each charge of that exit is a Line, with the parameter that says so
                          |                   and where its value comes from
                          +--> Explanation: the lines sum to the exit's cycles
"""

from dataclasses import dataclass, field

from emulator.ledger import Account, Category
from emulator.profiles.profile import Profile
from vmm.cost.meter import Charge, Meter
from vmm.exits.observer import ExitObserver
from vmm.session.observe.which_exit import ExitCounter, Request
from vmm.vcpu import Exit, VCpu


@dataclass
class Explanation:
    """The account of an exit. While `is_whole` is false the exit has not ended: the guest did, in it."""

    request: Request
    owner: str
    pcpu: int
    began_cycles: int
    rip: int
    lines: list[Charge] = field(default_factory=list)
    cycles: int = 0
    is_whole: bool = False


class Recorder(ExitObserver):
    """Waits for the exit asked for, among those of all vCPUs of a machine timed by `profile`, and records it."""

    def __init__(self, request: Request, profile: Profile) -> None:
        self.request = request
        self.profile = profile
        self.counter = ExitCounter(request)
        self.explanation: Explanation | None = None
        self._vcpu: VCpu | None = None  # whose exit is being recorded
        self._account: Account = []  # the exit's on this core,
        self._before: Account = []  # as it was when the exit began or came here
        self._here_from = 0  # the first line that belongs to this core

    def exit_began(self, vcpu: VCpu, exit: Exit) -> None:
        """Begin to record, if this is the exit."""
        if self.counter.is_it(exit.reason):
            pcpu = vcpu.pcpu
            self.explanation = Explanation(self.request, vcpu.engine.owner, pcpu.number, exit.began_cycles, exit.rip)
            self._vcpu = vcpu
            self._come_to(pcpu.clock.account)

    def _come_to(self, account: Account) -> None:
        assert self.explanation is not None
        self._account, self._before, self._here_from = account, list(account), len(self.explanation.lines)

    def charged(self, meter: Meter, charge: Charge) -> None:
        """A line."""
        if self._vcpu is not None and meter.pcpu.clock.account is self._account and self.explanation is not None:
            self.explanation.lines.append(charge)

    def committed(self, meter: Meter) -> None:
        """Whatever is in the exit's account now has a line."""
        explanation = self.explanation
        if self._vcpu is None or explanation is None or meter.pcpu.clock.account is not self._account:
            return
        here = explanation.lines[self._here_from :]
        for category, (before, now) in enumerate(zip(self._before, self._account, strict=True)):
            unseen_cycles = now - before - sum(line.cycles for line in here if line.category == category)
            if unseen_cycles > 0:
                explanation.lines.append(Charge(category, unseen_cycles, "the core's own work", "", ""))
        explanation.cycles = sum(line.cycles for line in explanation.lines)

    def exit_resumed(self, vcpu: VCpu, exit: Exit) -> None:
        """The vCPU comes back to the exit: its core has done something else since, or slept."""
        if vcpu is not self._vcpu or self.explanation is None:
            return
        if vcpu.pcpu.clock.account is not self._account:  # on another core
            self._come_to(vcpu.pcpu.clock.account)
        vcpu.meter.commit()
        past_cycles = vcpu.pcpu.clock.cycles - exit.began_cycles - self.explanation.cycles
        if past_cycles > 0:
            what = "sleeps until it is woken, or while the core does something else"
            self.explanation.lines.append(Charge(Category.IDLE, past_cycles, what, "", ""))

    def exit_ended(self, vcpu: VCpu, exit: Exit, cycles: int) -> None:
        """The account is whole, unless the guest has ended."""
        if vcpu is self._vcpu and self.explanation is not None:
            self._vcpu = None
            self.explanation.cycles = cycles
            self.explanation.is_whole = vcpu.domain.end is None
