"""Exit qualifications: what the natural-width exit-qualification field means for the reasons that use it.

Source: Intel SDM volume 3, 27.2.1 "Basic VM-Exit Information", tables 27-1 to 27-7.
Each format is a frozen dataclass with `pack`, and a `decode_*` function for its inverse.
Debug exceptions use the layout of the pending debug exceptions field (24.4.2).
"""

from dataclasses import dataclass
from functools import lru_cache

MEMO_SIZE = 1024  # decoded qualifications remembered: they repeat, and the handlers are in a hurry

MOV_TO_CR, MOV_FROM_CR, CLTS, LMSW = 0, 1, 2, 3
TASK_SWITCH_CALL, TASK_SWITCH_IRET, TASK_SWITCH_JMP, TASK_SWITCH_GATE = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class CrAccess:
    """Control-register access, table 27-3.

    63       32 31       16 15 12 11  8 7  6   5  4 3     0
    +----------+-----------+-----+-----+--+----+---+-------+
    |    0     | LMSW data |  0  | gpr |0 |LMSW|typ|  CR   |      LMSW: operand is memory
    +----------+-----------+-----+-----+--+----+---+-------+
    """

    cr: int
    access: int  # MOV_TO_CR, MOV_FROM_CR, CLTS or LMSW
    gpr: int = 0  # of MOV: 0 RAX, 1 RCX ... 15 R15
    lmsw_is_memory: bool = False
    lmsw_source: int = 0

    def pack(self) -> int:
        """The exit qualification."""
        return (
            self.cr & 0xF
            | (self.access & 3) << 4
            | int(self.lmsw_is_memory) << 6
            | (self.gpr & 0xF) << 8
            | (self.lmsw_source & 0xFFFF) << 16
        )


@lru_cache(MEMO_SIZE)
def decode_cr_access(qualification: int) -> CrAccess:
    """Qualification of ExitReason.CR_ACCESS."""
    return CrAccess(
        cr=qualification & 0xF,
        access=qualification >> 4 & 3,
        gpr=qualification >> 8 & 0xF,
        lmsw_is_memory=bool(qualification >> 6 & 1),
        lmsw_source=qualification >> 16 & 0xFFFF,
    )


@dataclass(frozen=True, slots=True)
class DrAccess:
    """MOV DR, table 27-4.

    63          12 11   8 7  5   4   3 2    0
    +-------------+------+----+-----+-+------+
    |      0      | gpr  | 0  |from |0|  DR  |
    +-------------+------+----+-----+-+------+
    """

    dr: int
    is_read: bool  # MOV from DR
    gpr: int

    def pack(self) -> int:
        """The exit qualification."""
        return self.dr & 7 | int(self.is_read) << 4 | (self.gpr & 0xF) << 8


def decode_dr_access(qualification: int) -> DrAccess:
    """Qualification of ExitReason.DR_ACCESS."""
    return DrAccess(qualification & 7, bool(qualification >> 4 & 1), qualification >> 8 & 0xF)


@dataclass(frozen=True, slots=True)
class IoAccess:
    """I/O instruction, table 27-5.

    63       32 31       16 15  7   6   5   4    3  2    0
    +----------+-----------+-----+----+---+-----+--+------+
    |    0     |   port    |  0  |imm |REP| str |in|size-1|
    +----------+-----------+-----+----+---+-----+--+------+
    """

    port: int
    size_bytes: int  # 1, 2 or 4
    is_in: bool
    is_string: bool = False
    is_rep: bool = False
    is_immediate: bool = False

    def pack(self) -> int:
        """The exit qualification."""
        return (
            self.size_bytes - 1 & 7
            | int(self.is_in) << 3
            | int(self.is_string) << 4
            | int(self.is_rep) << 5
            | int(self.is_immediate) << 6
            | (self.port & 0xFFFF) << 16
        )


@lru_cache(MEMO_SIZE)
def decode_io(qualification: int) -> IoAccess:
    """Qualification of ExitReason.IO_INSTRUCTION."""
    return IoAccess(
        port=qualification >> 16 & 0xFFFF,
        size_bytes=(qualification & 7) + 1,
        is_in=bool(qualification & 1 << 3),
        is_string=bool(qualification & 1 << 4),
        is_rep=bool(qualification & 1 << 5),
        is_immediate=bool(qualification & 1 << 6),
    )


@dataclass(frozen=True, slots=True)
class EptViolation:
    """EPT violation, table 27-7.

    12   11..9   8     7    6  5  4  3    2   1   0
    +---+-----+-----+-----+---+--+--+--+-----+---+----+
    |nmi|  0  |final|gla  | 0 |x |w |r |fetch|wr |read|     r w x: what the EPT entries of the address permit
    +---+-----+-----+-----+---+--+--+--+-----+---+----+     final: the access itself, not the walk to it

    MODEL: advanced information (bits 11:9), supervisor shadow stack (13, 14) and asynchronous (16) stay 0.
    """

    is_read: bool
    is_write: bool
    is_fetch: bool
    readable: bool = False
    writable: bool = False
    executable: bool = False
    has_linear_address: bool = True
    is_final: bool = True
    is_nmi_unblocking: bool = False

    def pack(self) -> int:
        """The exit qualification."""
        return (
            int(self.is_read)
            | int(self.is_write) << 1
            | int(self.is_fetch) << 2
            | int(self.readable) << 3
            | int(self.writable) << 4
            | int(self.executable) << 5
            | int(self.has_linear_address) << 7
            | int(self.is_final and self.has_linear_address) << 8
            | int(self.is_nmi_unblocking) << 12
        )


def decode_ept_violation(qualification: int) -> EptViolation:
    """Qualification of ExitReason.EPT_VIOLATION."""
    q = qualification
    return EptViolation(
        is_read=bool(q & 1 << 0),
        is_write=bool(q & 1 << 1),
        is_fetch=bool(q & 1 << 2),
        readable=bool(q & 1 << 3),
        writable=bool(q & 1 << 4),
        executable=bool(q & 1 << 5),
        has_linear_address=bool(q & 1 << 7),
        is_final=bool(q & 1 << 8),
        is_nmi_unblocking=bool(q & 1 << 12),
    )


@dataclass(frozen=True, slots=True)
class TaskSwitch:
    """Task switch, table 27-2.

    63        32 31    30 29        16 15         0
    +-----------+--------+------------+------------+
    |     0     | source |     0      | TSS select.|      source: 0 CALL, 1 IRET, 2 JMP, 3 task gate in the IDT
    +-----------+--------+------------+------------+
    """

    tss_selector: int
    source: int

    def pack(self) -> int:
        """The exit qualification."""
        return self.tss_selector & 0xFFFF | (self.source & 3) << 30


def decode_task_switch(qualification: int) -> TaskSwitch:
    """Qualification of ExitReason.TASK_SWITCH."""
    return TaskSwitch(qualification & 0xFFFF, qualification >> 30 & 3)


@dataclass(frozen=True, slots=True)
class DebugException:
    """Debug exception, table 27-1, and the pending debug exceptions field, table 24-4.

    63   17  16   15 14 13  12 11..4 3     0
    +------+-----+--+--+---+--+-----+-------+
    |  0   |RTM 0|0 |BS|BD |en|  0  | B3-B0 |       en: an enabled breakpoint was met (pending field only)
    +------+-----+--+--+---+--+-----+-------+
    """

    breakpoints: int  # B3 to B0
    is_access: bool = False  # BD: MOV DR with DR7.GD
    is_single_step: bool = False  # BS
    is_enabled: bool = False

    def pack(self) -> int:
        """The exit qualification, or the pending debug exceptions."""
        return (
            self.breakpoints & 0xF
            | int(self.is_enabled) << 12
            | int(self.is_access) << 13
            | int(self.is_single_step) << 14
        )


def decode_debug_exception(qualification: int) -> DebugException:
    """Qualification of a #DB exit (ExitReason.EXCEPTION_NMI, vector 1)."""
    return DebugException(
        breakpoints=qualification & 0xF,
        is_access=bool(qualification & 1 << 13),
        is_single_step=bool(qualification & 1 << 14),
        is_enabled=bool(qualification & 1 << 12),
    )
