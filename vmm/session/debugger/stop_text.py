"""What is said where the world stops: at most eight lines of 80 columns, and the breaks that were hit."""

from collections.abc import Sequence
from textwrap import wrap

from emulator.vmx import exit_reasons
from emulator.vmx import fields as f
from vmm.cost.meter import Charge
from vmm.session.debugger.debugger import Debugger
from vmm.session.debugger.happening import By, Happening, Kind
from vmm.session.debugger.views.disassembly import disassemble
from vmm.session.debugger.views.exit_screen import exit_screen
from vmm.session.debugger.views.exit_words import event_text
from vmm.session.debugger.views.values import COLUMNS, lines_text

CHARGES_SHOWN = 3
WORD_BYTES, SHOWN_BYTES = 8, 20


def stop_text(debugger: Debugger) -> str:
    """Of the stop where `debugger` stands."""
    stop = debugger.stop
    lines = [f"break {one.number}: {one.words().partition(' ')[2]}, hit {one.hits}" for one in stop.breaks]
    lines += _LINES[stop.happening.kind](debugger, stop.happening)
    if stop.why:
        lines[-1] += f": {stop.why}"
    return lines_text("\n".join(lines).splitlines())


def _exit(debugger: Debugger, happening: Happening) -> list[str]:
    return [exit_screen(debugger.subject, number=happening.exits, before=debugger.words_before).text()]


def _handled(debugger: Debugger, happening: Happening) -> list[str]:
    cycles = sum(charge.cycles for charge in debugger.charges)
    return [
        f"handler of {_name(happening)} (exit {happening.exits:,}) has returned, cycle {happening.cycles:,}",
        f"cost    {cycles:,} cycles so far; `cost` has them by line",
    ]


def _entry(debugger: Debugger, happening: Happening) -> list[str]:
    subject = debugger.subject
    information = subject.read(f.VM_ENTRY_INTERRUPTION_INFORMATION)
    event = event_text(information, subject.read(f.VM_ENTRY_EXCEPTION_ERROR_CODE))
    return [
        f"VM entry of {subject.name} ends exit {happening.exits:,} ({_name(happening)}), cycle {happening.cycles:,}",
        f"cost    {happening.exit_cycles:,} cycles" + (f"; injects {event}" if event else ""),
        *_code(debugger),
    ]


def _scheduled(debugger: Debugger, happening: Happening) -> list[str]:
    subject = debugger.subject
    where = f"pcpu{subject.pcpu.number} at cycle {happening.cycles:,}"
    return [f"{subject.name} gets {where} and goes on with {_name(happening)}"]


def _charge(debugger: Debugger, happening: Happening) -> list[str]:
    charge = happening.charge
    assert charge is not None
    return [
        f"charge {happening.ordinal} of exit {happening.exits:,}: {charge.what}, {charge.cycles:,} cycles",
        f"for     {charge.parameter or charge.source}; {sum(c.cycles for c in debugger.charges):,} so far",
    ]


def _line(debugger: Debugger, happening: Happening) -> list[str]:
    line = happening.line
    assert line is not None
    return [
        *_charges(line.charges),
        f"{line.file}:{line.number} {line.function}   [{sum(c.cycles for c in debugger.charges):,} cycles so far]",
        f"-> {line.text.strip()}",
    ]


def _charges(charges: Sequence[Charge]) -> list[str]:
    """What the line before has cost."""
    shown = [f"     {charge.cycles:>7,}  {charge.what}" for charge in charges[:CHARGES_SHOWN]]
    left = charges[CHARGES_SHOWN:]
    return [*shown, f"     {sum(c.cycles for c in left):>7,}  for {len(left)} more"] if left else shown


def _instruction(debugger: Debugger, happening: Happening) -> list[str]:
    return [f"{debugger.subject.name}, cycle {happening.cycles:,}, {happening.exits:,} exits", *_code(debugger)]


def _sidecall(debugger: Debugger, happening: Happening) -> list[str]:
    how = "takes the" if happening.kind is Kind.SIDECALL else "has carried out the"
    return [
        f"a sidecore {how} sidecall {happening.what} of {debugger.subject.name.partition('v')[0]}",
        f"cycle {happening.cycles:,}, {happening.exits:,} exits; it could be seen from {happening.due_cycles:,} on",
    ]


def _event(_debugger: Debugger, happening: Happening) -> list[str]:
    return [
        f"event of {happening.what} is about to happen",
        f"cycle {happening.cycles:,}, {happening.exits:,} exits; it was due at {happening.due_cycles:,}",
    ]


def _failed(debugger: Debugger, happening: Happening) -> list[str]:
    return [
        f"{debugger.subject.name}, cycle {happening.cycles:,}, exit {happening.exits:,} ({_name(happening)})",
        *wrap(happening.what, COLUMNS),
        "`check` has all checks that fail",
    ]


def _access(debugger: Debugger, happening: Happening) -> list[str]:
    access = happening.access
    assert access is not None
    place, subject = access.place, debugger.subject
    verb = "loaded and stored" if access.is_load and access.is_store else "stored" if access.is_store else "loaded"
    who = f"by {access.by.value}"
    if access.by is By.INSTRUCTION:
        code = disassemble(subject, access.linear, 1).text().strip() if access.linear else ""
        who = f"by  {code}" if code else f"by the instruction at {access.linear:#x}"
    return [
        f"{subject.name} {verb}: hpa {place.hpa:#x}, cycle {happening.cycles:,}, {happening.exits:,} exits",
        f"old     {_value(access.old)}",
        f"new     {_value(access.new)}" if access.old != access.new else "new     the same",
        who,
        "next instruction:",
        *_code(debugger),
    ]


def _value(data: bytes) -> str:
    if len(data) <= WORD_BYTES:
        return f"{int.from_bytes(data, 'little'):#0{2 + 2 * len(data)}x}"
    return data[:SHOWN_BYTES].hex(" ") + (" ..." if len(data) > SHOWN_BYTES else "")


def _rest(debugger: Debugger, happening: Happening) -> list[str]:
    return [*_code(debugger), f"at rest at cycle {happening.cycles:,}, behind {happening.exits:,} exits"]


def _end(_debugger: Debugger, happening: Happening) -> list[str]:
    return [f"cycle {happening.cycles:,}, {happening.exits:,} exits"]


def _code(debugger: Debugger) -> list[str]:
    found = disassemble(debugger.subject, count=1).text()
    return [found or "=> nothing is mapped at RIP"]


def _name(happening: Happening) -> str:
    return "" if happening.exit is None else exit_reasons.name(happening.exit.reason)


_LINES = {
    Kind.EXIT: _exit, Kind.HANDLED: _handled, Kind.ENTRY: _entry, Kind.SCHEDULED: _scheduled, Kind.CHARGE: _charge,
    Kind.SIDECALL: _sidecall, Kind.SERVED: _sidecall, Kind.EVENT: _event, Kind.FAILED: _failed, Kind.LINE: _line,
    Kind.ACCESS: _access, Kind.INSTRUCTION: _instruction, Kind.REST: _rest, Kind.END: _end,
}  # fmt: skip
