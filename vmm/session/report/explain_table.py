"""An explained exit as text: a line per charge, then the sources by number."""

from rich.console import Console, Group, RenderableType
from rich.segment import Segments
from rich.table import Table
from rich.text import Text

from emulator.ledger import LABELS
from emulator.profiles.profile import Profile
from emulator.vmx.exit_reasons import name
from vmm.cost.meter import Charge
from vmm.session.observe.explain import Explanation, Recorder

UNLIMITED_COLUMNS = 10_000


def print_explanation(recorder: Recorder, console: Console) -> None:
    """Print the exit that was asked for, or in one line that it did not come."""
    if recorder.explanation is None:
        console.print(Text(f"sidecore: {missing_text(recorder)}"), soft_wrap=True)
        return
    options = console.options.update(width=UNLIMITED_COLUMNS)
    rendered = console.render(render_explanation(recorder.explanation, recorder.profile), options)
    console.print(Segments(rendered), crop=False)


def missing_text(recorder: Recorder) -> str:
    """Why there is nothing to show."""
    wanted = name(recorder.request.reason)
    count = recorder.counter.seen_count
    made = f"{count:,}" if count else "no"
    return f"--explain {recorder.request}: the guest made {made} {wanted} exit{'' if count == 1 else 's'}"


def render_explanation(explanation: Explanation, profile: Profile) -> RenderableType:
    """Heading, lines, total, sources."""
    sources: dict[str, int] = {}  # in the order of their first use; the number of each
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("Category", "What"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Cycles", justify="right", no_wrap=True)
    for heading in ("Parameter", "Source"):
        table.add_column(heading, no_wrap=True)
    for line in explanation.lines:
        numbers = [sources.setdefault(text, len(sources) + 1) for text in source_texts(line, profile)]
        cells = (
            LABELS[line.category],
            line.what,
            f"{line.cycles:,}",
            line.parameter,
            ", ".join(f"[{n}]" for n in numbers),
        )
        table.add_row(*map(Text, cells))
    table.add_row("Total", "", f"{sum(line.cycles for line in explanation.lines):,}")
    return Group(
        Text(heading_text(explanation)),
        table,
        "",
        *(Text(f"[{number}] {text}") for text, number in sources.items()),
        "",
    )


def heading_text(explanation: Explanation) -> str:
    """Which exit it is."""
    where = f"{explanation.owner} on pcpu{explanation.pcpu} at cycle {explanation.began_cycles:,}"
    end = "" if explanation.is_whole else ", in which the guest ended"
    return f"VM exit {explanation.request}: {where}, RIP {explanation.rip:#x}, {explanation.cycles:,} cycles{end}"


def source_texts(line: Charge, profile: Profile) -> list[str]:
    """Where the cycles of a line come from: the charge's own source, and that of its parameter's value."""
    texts = [line.source] if line.source else []
    row = profile.rows.get(line.parameter)
    if row is not None:
        texts.append(f"{line.parameter} = {row.value:,}: {row.source} ({row.confidence})")
    return texts
