"""The trace of a run: one JSON object per line, one line per VM exit, made for tools (and for Perfetto later).

    {"trace": "sidecore", "version": 1, "frequency_hz": 3000000000, ...}                      first line: the run
    {"cycle": 120, "cycles": 4100, "pcpu": 0, "domain": 0, "vcpu": 0, "exit": "CPUID", "rip": "0x...", ...}
    {"records": 1, "dropped": 0}                                                              last line: is it all?

A record is a slice of a core's time line: it begins at `cycle`, when the guest stopped, and takes `cycles` until the
guest goes on or the core idles. `information` is the VM-exit interruption information (exceptions and interrupts) and
`gpa` the guest-physical address (EPT violations); both 0 where the SDM has them undefined. Addresses are hexadecimal
text, since JSON's readers keep only 53 bits of a number.
"""

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from emulator.errors import ConfigError
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason, name
from vmm.exits.observer import ExitObserver
from vmm.session.output_file import open_output, write_all
from vmm.vcpu import Exit, VCpu

VERSION = 1
LIMIT_BYTES = 1 << 30  # about 5 million exits
BUFFER_RECORDS = 4096
WITH_GPA = (ExitReason.EPT_VIOLATION, ExitReason.EPT_MISCONFIG)  # exits that save GUEST_PHYSICAL_ADDRESS


class TraceWriter(ExitObserver, AbstractContextManager["TraceWriter"]):
    """Writes to `path`, at most about `limit_bytes`: later records are counted and dropped, as the last line says."""

    def __init__(self, path: Path, run: Mapping[str, str | int], *, limit_bytes: int = LIMIT_BYTES) -> None:
        """Create the file with its first line, which holds `run`. Raises ConfigError."""
        self.record_count = 0
        self.dropped_count = 0
        self._path = path
        self._left_bytes = limit_bytes
        self._lines: list[str] = []
        try:
            self._file = open_output(path)
        except (OSError, ValueError) as error:
            raise self._cannot_write(error) from None
        self._write([json.dumps({"trace": "sidecore", "version": VERSION, **run}) + "\n"])

    def __exit__(self, *exception: object) -> None:
        if not self._file.closed:  # by an error
            self._flush()
            self._write([f'{{"records": {self.record_count}, "dropped": {self.dropped_count}}}\n'])
            self._file.close()

    def exit_ended(self, vcpu: VCpu, exit: Exit, cycles: int) -> None:
        """Record a VM exit."""
        vmcs, reason = vcpu.vmcs, exit.reason
        qualification = vmcs.read(f.EXIT_QUALIFICATION)
        information = vmcs.read(f.VM_EXIT_INTERRUPTION_INFORMATION) if reason == ExitReason.EXCEPTION_NMI else 0
        gpa = vmcs.read(f.GUEST_PHYSICAL_ADDRESS) if reason in WITH_GPA else 0
        self._lines.append(
            f'{{"cycle": {exit.began_cycles}, "cycles": {cycles}, "pcpu": {vcpu.pcpu.number}, '
            f'"domain": {vcpu.domain.number}, "vcpu": {vcpu.number}, '
            f'"exit": "{name(reason)}", "rip": "{exit.rip:#x}", "qualification": "{qualification:#x}", '
            f'"information": "{information:#x}", "gpa": "{gpa:#x}"}}\n'
        )
        if len(self._lines) >= BUFFER_RECORDS:
            self._flush()

    def _flush(self) -> None:
        """Write the buffered records there is room for, whole lines only."""
        fitting = 0
        for line in self._lines:
            if self.dropped_count or len(line) > self._left_bytes:
                break
            self._left_bytes -= len(line)
            fitting += 1
        self._write(self._lines[:fitting])
        self.record_count += fitting
        self.dropped_count += len(self._lines) - fitting
        self._lines.clear()

    def _write(self, lines: list[str]) -> None:
        try:
            write_all(self._file, "".join(lines).encode("ascii"))
        except OSError as error:
            self._file.close()
            raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError | ValueError) -> ConfigError:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        return ConfigError(f"cannot write the trace {str(self._path)!r}: {reason}")
