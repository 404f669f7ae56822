"""The trace of a run, for tools: what became of each VM exit. The name of its file says how it is written.

    .jsonl, and any other   a line of JSON for each exit          this file, trace_record.py
    .csv                    a row for each exit                   this file
    .json                   Chrome's trace events, for Perfetto   timeline_trace.py

    {"trace": "sidecore", "version": 1, "frequency_hz": 3000000000, ...}                      first line: the run
    {"cycle": 120, "cycles": 4100, "pcpu": 0, "domain": 0, "vcpu": 0, "exit": "CPUID", "rip": "0x...", ...}
    {"records": 1, "dropped": 0}                                                              last line: is it all?

A record is a slice of a core's time line: it begins at `cycle`, when the guest stopped, and takes `cycles` until the
guest goes on or the core idles. A `Window` keeps some of them: from one on, or the last, which are written at the end.
"""

import json
import os
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from devices.nic.nic import Nic
from emulator.errors import ConfigError
from vmm.exits.observer import ExitObserver
from vmm.hypervisor import Hypervisor
from vmm.session.observe.trace_record import COLUMNS, Record
from vmm.session.option_values import TraceStart
from vmm.session.output_file import open_output, write_all
from vmm.vcpu import Exit, VCpu

VERSION = 1
LIMIT_BYTES = 1 << 30  # about 5 million exits
BUFFER_RECORDS = 4096
EVERYTHING = TraceStart()


class TraceWriter(ExitObserver, AbstractContextManager["TraceWriter"]):
    """Writes to `path`, at most about `limit_bytes`: later records are counted and dropped, as the last line says.

    From `start` on; only the `last` so many, if that is given.
    """

    def __init__(
        self, path: Path, run: Mapping[str, str | int], *, start: TraceStart = EVERYTHING, last: int | None = None,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:  # fmt: skip
        """Create the file with its beginning, which holds `run`. Raises ConfigError."""
        self.record_count = 0
        self.dropped_count = 0
        self.exit_count = 0  # so far, in the window or not
        self._path = path
        self._start = start
        self._left_bytes = limit_bytes
        self._is_ring = last is not None
        self._waiting: deque[Any] = deque(maxlen=last)  # records that are not written yet
        try:
            self._file = open_output(path)
        except (OSError, ValueError) as error:
            raise self._cannot_write(error) from None
        self._write(self.head(run))

    def __exit__(self, *exception: object) -> None:
        if not self._file.closed:  # by an error
            self._flush()
            self._write(self.foot())
            self._file.close()

    def follow(self, hypervisor: Hypervisor, nic: Nic | None) -> None:
        """Hear of other things than VM exits, too: a kind of trace that has room for them does."""

    def leave(self) -> None:
        """Hear of them no more."""

    def exit_ended(self, vcpu: VCpu, exit: Exit, cycles: int) -> None:
        """Record a VM exit."""
        if self.is_in(exit):
            self.keep(Record.of(vcpu, exit, cycles))

    def is_in(self, exit: Exit) -> bool:
        """Whether the next exit, which is this one, is in the window. Counts it."""
        self.exit_count += 1
        return exit.began_cycles >= self._start.cycle and self.exit_count >= self._start.exit

    def keep(self, record: Any) -> None:
        """Write it, now or later."""
        if self._is_ring and len(self._waiting) == self._waiting.maxlen:
            self.dropped_count += 1
        self._waiting.append(record)
        if not self._is_ring and len(self._waiting) >= BUFFER_RECORDS:
            self._flush()

    # --- how it is written -------------------------------------------------------------------------------------------

    def head(self, run: Mapping[str, str | int]) -> str:
        """What the file begins with."""
        return json.dumps({"trace": "sidecore", "version": VERSION, **run}) + "\n"

    def text_of(self, record: Any) -> str:
        """A record in the file."""
        return str(record.json_line())

    def foot(self) -> str:
        """What the file ends with."""
        return f'{{"records": {self.record_count}, "dropped": {self.dropped_count}}}\n'

    # --- the file ----------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Write the records that wait and for which there is room, whole ones only."""
        texts = []
        is_full = self._left_bytes <= 0
        for record in self._waiting:
            text = "" if is_full else self.text_of(record)
            is_full = is_full or len(text) > self._left_bytes
            if is_full:
                self.dropped_count += 1
                self._left_bytes = 0
            else:
                self._left_bytes -= len(text)
                self.record_count += 1
                texts.append(text)
        self._waiting.clear()
        self._write("".join(texts))

    def _write(self, text: str) -> None:
        try:
            write_all(self._file, text.encode("ascii"))
        except OSError as error:
            self._file.close()
            raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError | ValueError) -> ConfigError:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        return ConfigError(f"cannot write the trace {str(self._path)!r}: {reason}")


class CsvWriter(TraceWriter):
    """As a table."""

    def head(self, run: Mapping[str, str | int]) -> str:
        """The names of the columns."""
        return ",".join(COLUMNS) + "\n"

    def text_of(self, record: Any) -> str:
        """A row."""
        return str(record.csv_line())

    def foot(self) -> str:
        """Nothing: a table has no place for it."""
        return ""
