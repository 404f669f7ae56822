"""Many runs on all processors of a workstation: results as they come, a bar, no process left behind."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def run_in_processes(
    function: Callable[[T], R], items: Sequence[T], *, process_count: int | None = None
) -> Iterator[R]:
    """`function` of each of `items`, in the order in which they end; on a terminal a bar shows how far it is.

    In as many processes as there are processors, unless `process_count` says otherwise; leaving the iterator early ends
    them.
    """
    process_count = min(process_count or os.cpu_count() or 1, len(items))
    with _finished(function, items, process_count) as finished, _progress(len(items)) as advance:
        for result in finished:
            advance()
            yield result


@contextmanager
def _finished(function: Callable[[T], R], items: Sequence[T], process_count: int) -> Iterator[Iterator[R]]:
    if process_count <= 1:
        yield map(function, items)
        return
    # Ctrl-C goes to the whole process group: the parent answers it and ends the others.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.get_context("spawn").Pool(process_count, signal.signal, ignore) as pool:
        yield pool.imap_unordered(function, items)


@contextmanager
def _progress(count: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, if that is a terminal."""
    import rich.console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = rich.console.Console(stderr=True)
    columns = (
        TextColumn("sidecore: guest runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=count)
        yield lambda: progress.advance(task)
