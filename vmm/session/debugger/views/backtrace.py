"""Who called: the guest's stack, and in front of it the VMM's own, while it handles an exit of this guest: `bt`.

    #0 handle_cr_access        vmm/exits/control_registers.py:43     Python frames, the innermost first
    ...
    --- VM exit CR_ACCESS ---
    #0 ffffffff81000010 start_kernel+0x10                            RIP
    #1 ffffffff81000200 x86_64_start_kernel+0x20                     by frame pointers (RBP), as long as they make sense
     ? ffffffff81000345 secondary_startup+0x45                       a word of the stack that follows a call: a guess

Kernels without frame pointers have guesses only: what lies on the stack may be left from calls that have returned.
"""

import linecache
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from emulator.vmx import exit_reasons
from emulator.vmx import fields as f
from emulator.x86 import RBP, RSP
from vmm.session.debugger.views.exit_words import reason_of
from vmm.session.debugger.views.subject import WORD, Space, Subject
from vmm.session.debugger.views.values import Hex, View, lines_text

FRAMES_MAX = 64
STACK_WORDS = 256  # that are looked at for what may be return addresses
FRAME_MAX_BYTES = 1 << 16  # from one frame to the next
VMM_FRAMES_MAX = 64
CALL_MAX_BYTES = 7
OUTERMOST = "on_exit"  # of the VMM's loop: what called it is no part of any VMM
PROJECT = Path(__file__).resolve().parents[4]


@dataclass(frozen=True)
class VmmFrame:
    """A function of the VMM that has not returned, and the line it is at."""

    function: str
    file: str
    line: int
    code: str


@dataclass(frozen=True)
class GuestFrame:
    """Where a function of the guest goes on; `is_certain` unless the address is a guess."""

    address: Hex
    symbol: str
    is_certain: bool


@dataclass(frozen=True)
class Backtrace(View):
    """The VMM's frames, if it handles an exit for `reason`, and the guest's."""

    vmm: tuple[VmmFrame, ...]
    reason: str
    guest: tuple[GuestFrame, ...]

    def text(self) -> str:
        """A line for each."""
        lines = []
        for number, frame in enumerate(self.vmm):
            lines.append(f"#{number} {frame.function} {frame.file}:{frame.line}  {frame.code}")
        if self.reason:
            lines.append(f"--- VM exit {self.reason} ---")
        number = 0
        for guest in self.guest:
            head = f"#{number}" if guest.is_certain else " ?"
            number += guest.is_certain
            lines.append(f"{head} {guest.address:x} {guest.symbol}")
        return lines_text(lines)


def backtrace(subject: Subject, frame: FrameType | None = None) -> Backtrace:
    """The stack of a processor, and of the VMM from `frame` outwards to where the exit began."""
    reason = "" if subject.exit is None else exit_reasons.name(reason_of(subject))
    return Backtrace(tuple(_vmm_frames(frame)), reason, tuple(_guest_frames(subject)))


def _vmm_frames(frame: FrameType | None) -> list[VmmFrame]:
    found: list[VmmFrame] = []
    while frame is not None and len(found) < VMM_FRAMES_MAX:
        code = frame.f_code
        path = Path(code.co_filename)
        file = str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else path.name
        source = linecache.getline(code.co_filename, frame.f_lineno).strip()
        found.append(VmmFrame(code.co_qualname, file, frame.f_lineno, source))
        if code.co_name == OUTERMOST:
            break
        frame = frame.f_back
    return found


def _guest_frames(subject: Subject) -> list[GuestFrame]:
    rip = subject.linear_rip
    found = [GuestFrame(Hex(rip), subject.symbols.name_of(rip), True)]
    width = subject.code_bits // 8
    if width < 4:
        return found  # MODEL: 16-bit code has no convention
    chained = _by_frame_pointers(subject, width)
    base = 0 if width == 8 else subject.read(f.GUEST_SS_BASE)
    stack = base + subject.gpr(RSP) & (WORD if width == 8 else 0xFFFF_FFFF)
    data = subject.read_available(Space.GVA, stack, STACK_WORDS * width)
    for offset in range(0, len(data) - width + 1, width):
        word = int.from_bytes(data[offset : offset + width], "little")
        place = stack + offset
        if place in chained:
            del chained[place]
            found.append(_frame(subject, word, is_certain=True))
        elif _is_behind_a_call(subject, word):
            found.append(_frame(subject, word, is_certain=False))
    return [*found, *(_frame(subject, word, is_certain=True) for word in chained.values())][:FRAMES_MAX]


def _frame(subject: Subject, address: int, *, is_certain: bool) -> GuestFrame:
    return GuestFrame(Hex(address), subject.symbols.name_of(address), is_certain)


def _by_frame_pointers(subject: Subject, width: int) -> dict[int, int]:
    """Return addresses by where they lie on the stack, along the chain of RBP, which only grows."""
    found: dict[int, int] = {}
    base = 0 if width == 8 else subject.read(f.GUEST_SS_BASE)
    mask = WORD if width == 8 else 0xFFFF_FFFF
    stack, pointer = subject.gpr(RSP) & mask, subject.gpr(RBP) & mask
    while stack <= pointer < stack + FRAME_MAX_BYTES and len(found) < FRAMES_MAX:
        place = base + pointer & mask
        data = subject.read_gva(place, 2 * width)
        if data is None:
            break
        address = int.from_bytes(data[width:], "little")
        if not _is_behind_a_call(subject, address):
            break
        found[place + width] = address
        stack, pointer = pointer + 1, int.from_bytes(data[:width], "little")
    return found


def _is_behind_a_call(subject: Subject, address: int) -> bool:
    """Whether a CALL ends at `address`: E8 with a displacement, or FF /2 with any operand."""
    symbols = subject.symbols
    if len(symbols) and not ((symbol := symbols.at(address)) and symbol.is_code):
        return False
    code = subject.read_gva(address - CALL_MAX_BYTES & WORD, CALL_MAX_BYTES)
    if code is None:
        return False
    indirect = any(code[-at] == 0xFF and code[-at + 1] >> 3 & 7 == 2 for at in (2, 3, 4, 6, 7))
    return code[-5] == 0xE8 or indirect
