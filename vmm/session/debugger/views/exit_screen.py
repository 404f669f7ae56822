"""The stop at a VM exit: what it is, why, and what comes next, in at most eight lines of 80 columns."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from emulator.vmx import exit_reasons
from vmm.session.debugger.views.disassembly import instruction_at_rip
from vmm.session.debugger.views.exit_words import qualification_text, reason_of
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.values import COLUMNS, Hex, View, cut, lines_text, wrapped
from vmm.session.debugger.views.vmcs import changed
from vmm.session.debugger.views.why import Cause, why
from vmm.session.virtual_guest import VirtualGuest

LINES_MAX, LABEL_COLUMNS = 8, 8
LINES_BEHIND = 3  # the cause: what has changed, the cost, what comes next
UNSAID = ("EXIT_REASON", "EXIT_QUALIFICATION", "GUEST_RIP", "VM_EXIT_INSTRUCTION_LENGTH")  # the screen has them anyway


@dataclass(frozen=True)
class ExitScreen(View):
    """A VM exit. `cycles` are those it has taken so far, `median_cycles` is that of its kind, None without any."""

    number: int | None
    processor: str
    core: int
    began_cycles: int
    reason: str
    qualification: str
    rip: Hex
    symbol: str
    cpl: int
    instruction: str
    cause: Cause
    changed: tuple[str, ...]
    cycles: int
    median_cycles: int | None
    count: int
    handler: str
    handler_does: str

    def text(self) -> str:
        """Seven lines or eight."""
        number = "VM exit" if self.number is None else f"VM exit {self.number:,}"
        what = f": {self.qualification}" if self.qualification else ""
        symbol = f" <{self.symbol}>" if self.symbol else ""
        median = "none before" if self.median_cycles is None else f"median of {self.count:,}: {self.median_cycles:,}"
        names = [name.replace("_INFORMATION", "_INFO") for name in self.changed] or ["nothing else"]
        lines = [
            f"{number}, {self.processor} on pcpu{self.core} at cycle {self.began_cycles:,}",
            f"{self.reason}{what}",
            *_fitted("guest", f"RIP {self.rip:x}{symbol} CPL {self.cpl}: {self.instruction}", 2),
        ]
        lines += [
            *_fitted("why", self.cause.summary(), min(2, LINES_MAX - len(lines) - LINES_BEHIND)),
            _listed("changed", names),
            f"{'cost':<{LABEL_COLUMNS}}{self.cycles:,} cycles so far; {median}",
        ]
        return lines_text(lines + _fitted("next", f"{self.handler}: {self.handler_does}", LINES_MAX - len(lines)))


def _fitted(label: str, text: str, count: int) -> list[str]:
    """`text` in at most `count` lines, the last cut where it has to be."""
    lines = wrapped(label, text.split(), indent=LABEL_COLUMNS)
    last = " ".join([lines[count - 1], *(line.strip() for line in lines[count:])]) if len(lines) > count else ""
    return [*lines[: count - 1], cut(last)] if last else lines


def _listed(label: str, names: Sequence[str]) -> str:
    """As many names as fit into a line, and how many do not."""
    shown = list(names)
    while shown:
        left = len(names) - len(shown)
        line = f"{label:<{LABEL_COLUMNS}}{' '.join(shown)}" + (f" and {left} more" if left else "")
        if len(line) <= COLUMNS:
            return line
        shown.pop()
    return label


def exit_screen(subject: Subject, *, number: int | None = None, before: Sequence[int] | None = None) -> ExitScreen:
    """The exit that is handled, the `number`-th of all; `before` are the words of the VMCS at the last entry or exit.

    Raises ConfigError when nothing has exited.
    """
    cause = why(subject)
    exit = subject.exit
    began_cycles = subject.cycles if exit is None else exit.began_cycles
    name = exit_reasons.name(reason_of(subject))
    stats = subject.guest.exit_statistics().get(name)
    instruction = instruction_at_rip(subject)
    differing = () if before is None else changed(subject, before).fields
    handler, does = handler_of(subject)
    return ExitScreen(
        number=number,
        processor=subject.name,
        core=subject.pcpu.number,
        began_cycles=began_cycles,
        reason=name,
        qualification=qualification_text(subject),
        rip=Hex(subject.rip),
        symbol=subject.symbols.name_of(subject.linear_rip),
        cpl=subject.cpl,
        instruction="nothing is mapped"
        if instruction is None
        else f"{instruction.name} {instruction.operands}".strip(),
        cause=cause,
        changed=tuple(field.name for field in differing if field.name not in UNSAID),
        cycles=subject.cycles - began_cycles,
        median_cycles=None if stats is None else stats["p50_cycles"],
        count=0 if stats is None else stats["count"],
        handler=handler,
        handler_does=does,
    )


def handler_of(subject: Subject) -> tuple[str, str]:
    """Name and first line of the description of the handler for this exit."""
    assert isinstance(subject.guest, VirtualGuest), "only a VMM has handlers"
    handler = subject.guest.hypervisor.exit_handlers.get(reason_of(subject))
    if handler is None:
        return "no handler", "the run ends"
    name = getattr(handler, "__name__", type(handler).__name__)
    return name, (inspect.getdoc(handler) or "no description").splitlines()[0]
