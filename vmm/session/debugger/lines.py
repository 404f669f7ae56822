"""The VMM's Python, line by line, while an exit is handled: Python's own tracing, as pdb uses it.

Watcher.exit_began --begin--> the loop's frame, and each it calls --> a line of the project: tell(VmmLine)
                                                                      other files run untraced
"""

import linecache
import pdb
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

PROJECT = Path(__file__).resolve().parents[3]
FOLDERS = ("vmm", "devices", "emulator")
LEFT_OUT = (  # who watches, who counts, what C calls: their callers' lines show what was charged
    "vmm/session", "vmm/exits/observer.py", "vmm/cost", "emulator/vmx/operation.py", "emulator/vmx/exit_reasons.py",
    "emulator/profiles", "emulator/engine", "emulator/clock.py", "emulator/ledger.py",
)  # fmt: skip
TELLS_OBSERVERS = ("for tell", "tell(", "tell_outcome(", "if self._exit_")  # lines of the loop
LOOP = "on_exit"  # where an exit is handled: vmm/exits/loop.py

Trace = Callable[[FrameType, str, Any], Any]


class LineTracer:
    """Tells `tell` before each line, from `begin` to `end`. `count`: lines since `begin`; `frame` has the last."""

    def __init__(self, tell: Callable[[str, int, str, str], None]) -> None:
        self.count = 0
        self.frame: FrameType | None = None
        self._tell = tell
        self.enters_pdb = False  # where it goes on
        self._is_on = False
        self._files: dict[str, str] = {}  # what is traced, by what Python calls a file; empty: it is not

    def begin(self) -> None:
        """From within an exit: trace the frame of the loop and what it calls."""
        self.count, self._is_on = 0, True
        sys.settrace(self._call)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_name != LOOP:
            frame = frame.f_back
        if frame is not None:
            frame.f_trace = self._local

    def end(self) -> None:
        """The exit has ended."""
        if self._is_on:
            self._is_on, self.frame = False, None
            sys.settrace(None)

    def _call(self, frame: FrameType, _event: str, _argument: Any) -> Trace | None:
        return self._local if self._is_on and self._name(frame) else None

    def _local(self, frame: FrameType, event: str, _argument: Any) -> Trace | None:
        if not self._is_on:
            return None
        if event == "line":
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).rstrip()
            if frame.f_code.co_name == LOOP and text.strip().startswith(TELLS_OBSERVERS):
                return self._local
            self.count += 1
            self.frame = frame
            self._tell(self._name(frame), frame.f_lineno, frame.f_code.co_qualname, text)
            if self.enters_pdb:
                self.enters_pdb = self._is_on = False
                pdb.Pdb(nosigint=True).set_trace(frame)
                return frame.f_trace
        return self._local

    def _name(self, frame: FrameType) -> str:
        """The file within the project, if its lines are told."""
        path = frame.f_code.co_filename
        name = self._files.get(path)
        if name is None:
            name = self._files[path] = _project_name(path)
        return name


def _project_name(path: str) -> str:
    try:
        name = Path(path).resolve().relative_to(PROJECT).as_posix()
    except ValueError:
        return ""
    return name if name.startswith(FOLDERS) and not name.startswith(LEFT_OUT) else ""
