"""The last events of a processor in text: VM exits, exceptions and interrupts, and how a chain of faults began."""

from dataclasses import dataclass

from emulator.engine import Engine
from emulator.engine.abi import RECENT_MAX
from emulator.vmx import interruption as i
from emulator.vmx.exit_reasons import ExitReason, name
from emulator.x86 import DOUBLE_FAULT, PAGE_FAULT
from vmm.session.symbols import Symbols

EXCEPTIONS = (  # SDM 3A table 6-1
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9", "#TS", "#NP", "#SS", "#GP", "#PF", "15",
    "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
)  # fmt: skip
INTERRUPTS = (i.EXTERNAL_INTERRUPT, i.SOFTWARE_INTERRUPT)


@dataclass(frozen=True)
class Recent:
    """A VM exit, or an event that was delivered, or should have been."""

    cycles: int
    rip: int
    detail: int  # an exit's qualification, the address of a #PF
    what: int
    error_code: int

    @property
    def is_exit(self) -> bool:
        """Whether it is a VM exit."""
        return not self.what & i.VALID

    @property
    def vector(self) -> int:
        """Of an event."""
        return self.what & i.VECTOR_MASK

    @property
    def is_exception(self) -> bool:
        """Whether it is an event that the guest itself has caused."""
        return not self.is_exit and self.what >> i.TYPE_SHIFT & i.TYPE_MASK not in (*INTERRUPTS, i.NMI)

    def __str__(self) -> str:
        if self.is_exit:
            return f"exit {name(self.what & 0xFFFF)} {self.detail:#x}"
        if not self.is_exception:
            return "NMI" if self.what >> i.TYPE_SHIFT & i.TYPE_MASK == i.NMI else f"interrupt {self.vector:#x}"
        text = EXCEPTIONS[self.vector] if self.vector < len(EXCEPTIONS) else f"exception {self.vector:#x}"
        if self.what & i.ERROR_CODE_VALID:
            text += f" error {self.error_code:#x}"
        is_page_fault = self.vector == PAGE_FAULT and self.what & i.ERROR_CODE_VALID
        return f"{text} at {self.detail:#x}" if is_page_fault else text


def recent_events(engine: Engine) -> list[Recent]:
    """The last events of a processor, oldest first."""
    count, ring = int(engine.shared.recent_count), engine.shared.recent
    entries = [ring[number % RECENT_MAX] for number in range(max(0, count - RECENT_MAX), count)]
    return [Recent(*map(int, (e.cycles, e.rip, e.detail, e.what, e.error_code))) for e in entries]


def fault_chain(events: list[Recent]) -> list[Recent]:
    """The faults of which each came in the delivery of the one before, if the last event is of such a chain.

    None of them was delivered, so RIP is the same. What exits between is in no chain.
    """
    chain: list[Recent] = []
    for event in reversed(events):
        if event.is_exit:
            continue
        if not event.is_exception or (chain and event.rip != chain[0].rip):
            break
        chain.insert(0, event)
        if len(chain) > 1 and event.vector == DOUBLE_FAULT:  # the end of an earlier chain
            return chain[1:]
    return chain


def recent_lines(events: list[Recent], symbols: Symbols, count: int) -> list[str]:
    """The last `count` of them, a line for each."""
    return [
        f"{event.cycles:>15,}  {event!s:<30} {event.rip:016x} {symbols.name_of(event.rip)}".rstrip()
        for event in events[-count:]
    ]


def chain_line(events: list[Recent], symbols: Symbols) -> str:
    """How a chain of faults began; "": the guest did not end by one."""
    chain = fault_chain(events)
    is_at_end = bool(events) and (not events[-1].is_exit or events[-1].what & 0xFFFF == ExitReason.TRIPLE_FAULT)
    if len(chain) < 2 or chain[-1].vector != DOUBLE_FAULT or not is_at_end:
        return ""  # others at one RIP are handled, and happen again
    first, *others = chain
    where = symbols.name_of(first.rip) or f"{first.rip:#x}"
    return f"first {first} in {where}, then {', '.join(map(str, others))}"
