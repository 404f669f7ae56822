"""Where our CPU is known to differ from Bochs, and why: the one table. Any other difference fails the test.

A row explains a difference when all it says fits: the instruction (capstone's name, as a pattern, of any instruction of
the case; or a pattern of its bytes), the name of the difference (`comparison.py`), and the two values.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.fuzz.bochs import HALT, LIMIT, SHUTDOWN
from tests.fuzz.comparison import Difference
from tests.fuzz.instruction_cases import PREFIXES, Case, disassembler, mnemonic_and_length, prefixes_of
from tests.fuzz.modes import MODES
from tests.fuzz.undefined_flags import UNDEFINED

NONE, DB, UD, NM, SS, GP, PF, MF, XM = -1, 1, 6, 7, 12, 13, 14, 16, 19


@dataclass(frozen=True)
class Deviation:
    """One row."""

    reason: str
    names: str  # names of differences, as patterns
    instructions: str = "*"  # names of instructions, as patterns
    opcodes: str = ""  # or hexadecimal bytes behind the prefixes, as a regular expression
    values: Callable[[int, int], bool] = lambda theirs, ours: True
    modes: str = "*"  # patterns
    prefix: int | None = None  # and one of the instructions has this prefix
    when: Callable[[Case], bool] = lambda case: True

    def explains(self, difference: Difference, case: Case, instructions: Sequence[tuple[str, str]]) -> bool:
        """Whether this row is about that difference. `instructions`: name and hexadecimal bytes of each."""
        if not any(fnmatchcase(difference.name, name) for name in self.names.split()):
            return False
        if not any(fnmatchcase(case.mode, mode) for mode in self.modes.split()):
            return False
        if not self.values(difference.theirs, difference.ours) or not self.when(case):
            return False
        if self.prefix is not None and not any(self.prefix in prefixes_of(part) for part in case.code):
            return False
        if self.opcodes:
            return any(re.match(self.opcodes, code) for _name, code in instructions)
        patterns = self.instructions.split()
        return any(fnmatchcase(name, pattern) for name, _code in instructions for pattern in patterns)


def _is(their: int | Sequence[int], our: int | Sequence[int]) -> Callable[[int, int], bool]:
    theirs = (their,) if isinstance(their, int) else tuple(their)
    ours = (our,) if isinstance(our, int) else tuple(our)
    return lambda a, b: a in theirs and b in ours


ALIGNED = "0f(1[45]|2[89bcd]|3[8a]|5.|6.|7[04567cdf]|ae|c[267]|[def].)"
LOADS_SEGMENT = "8e|07|17|1f|0fa[19]|0fb[245]|c[45]"
VECTOR = "0f(0[ef]|1[0-7]|2[89a-f]|3[8a]|[5-7].|ae|c[2456]|[def].)|d[89a-f]|9b|c[45]"
REAL_OR_16 = "*16 real v86"
TF, VM_RF_VIF_VIP = 0x100, 0x1B0000
X87 = "d[89a-f]|9b"
MMX = "0f(0[ef]|2[acd]|38|3a|[67].|c[45]|[def].)"
ALL_X87 = "fsw_* ftw st? st?_exponent"

DEVIATIONS = (
    Deviation("x87 exception flags and C1 are not kept", "fsw_exceptions fsw_conditions", opcodes=X87),
    Deviation("x87 stack faults and invalid operands are not noticed", f"{ALL_X87} memory rflags frame_*", opcodes=X87),
    Deviation("so unmasked x87 exceptions are not raised", "exception", opcodes=X87,
              values=lambda theirs, ours: theirs == MF),
    Deviation("MXCSR does not tell of denormal operands", "mxcsr_exceptions", opcodes="0f",
              values=lambda theirs, ours: theirs ^ ours == 2),
    Deviation("unmasked SSE exceptions are not raised", "exception", opcodes="0f", values=_is(XM, NONE)),
    Deviation("approximations are the processor's own", "xmm*", instructions="rcpps rcpss rsqrtps rsqrtss"),
    Deviation("a segment register is pushed with zeros above, where the processor may write 16 bits",
              "memory frame_* r??", instructions="push"),
    Deviation("what was pushed with zeros above, or is one of the wrong values below, is used", "*",
              opcodes="06|0e|16|1e|0fa[08]|0f01[26ae][0-7]|0f02|0fb[8cd]|0f38f[01]",
              when=lambda case: len(case.code) > 1),
    Deviation("the operand of INS is zeroed before the port is asked", "memory", instructions="ins? [?]"),
    Deviation("segment limits are not checked: what is loaded from beyond faults", "frame_error_code",
              modes="*16 v86", values=lambda theirs, ours: theirs == 0 != ours),
    Deviation("null data segments can be used", "exception exception_rip frame_error_code", opcodes=LOADS_SEGMENT,
              values=lambda theirs, ours: theirs in (0, GP) or theirs > 0x100),
    Deviation("null data segments can be used, where the fault would shut down", "ending", opcodes=LOADS_SEGMENT,
              values=_is(SHUTDOWN, HALT)),
    Deviation("far returns read the whole frame first", "exception frame_error_code",
              instructions="retf*"),
    Deviation("RDRAND, RDSEED and RDPID in the same opcode are not offered", "*", opcodes="0fc7"),
    Deviation("REP with a count of 0 looks at no port", "exception_rip exception", instructions="ins? outs?"),
    Deviation("a frame of virtual-8086 mode has more words than are named", "memory", modes="v86", instructions="l?s"),
    Deviation("POPF that sets TF traps after the next instruction; Bochs ends with a HLT there",
              "exception exception_rip", instructions="popf*",
              values=lambda theirs, ours: theirs > 0x100 or (theirs, ours) == (NONE, DB)),
    Deviation("POPF in virtual-8086 mode looks at IOPL first", "exception", modes="v86", instructions="popf*",
              values=_is(PF, GP)),
    Deviation("far pointers are read in another order", "cr2 frame_error_code", instructions="lss les lds lfs lgs"),
    Deviation("CMPS reads its operands in another order", "cr2 frame_error_code exception", instructions="cmps?"),
    Deviation("a trap within REP pushes RF clear", "frame_rflags",
              values=lambda theirs, ours: theirs ^ ours == 0x10000),
    Deviation("REP iterations are counted otherwise", "ending", instructions="movs? stos? lods? cmps? scas? ins? outs?",
              values=lambda theirs, ours: LIMIT in (theirs, ours)),
    Deviation("operands that cross a page are touched in another order", "cr2",
              values=lambda theirs, ours: 0 < abs(theirs - ours) < 16),
    Deviation("FLDENV and FRSTOR load word by word", f"fcw {ALL_X87}", instructions="fldenv frstor"),
    Deviation("the rights of CS after CR0.PE was changed", "cs_access_rights", opcodes="0f(22|01)"),
    Deviation("SYSRET to compatibility mode keeps RSP", "frame_rsp", modes="long*", instructions="sysret"),
    Deviation("SYSRET traps at once by TF as it leaves it, as processors do", "exception exception_rip", modes="long*",
              instructions="sysret sysretq",
              when=lambda case: bool((case.registers.get("r11", 0) | case.registers.get("rflags", 0)) & TF)),
    Deviation("SYSRET takes VM and RF from R11, but not VIF and VIP", "*", modes="long*", instructions="sysret sysretq",
              when=lambda case: bool(case.registers.get("r11", 0) & VM_RF_VIF_VIP)),
    Deviation("LAR leaves the limit out, which is undefined", "r?? r? frame_*", instructions="lar"),
    Deviation("LSL takes a 16-bit TSS in IA-32e mode", "r?? r? rflags frame_*", instructions="lsl",
              modes="long* compatible*"),
    Deviation("SMSW leaves the upper half of CR0 out, which is undefined", "r?? r? rflags frame_*",
              instructions="smsw"),
    Deviation("an access over the end of canonical addresses faults at its first page", "exception", modes="long*",
              values=_is((GP, SS), PF)),
    Deviation("code segments can be written to", "exception exception_rip ending", prefix=0x2E,
              values=lambda theirs, ours: theirs in (HALT, SHUTDOWN, GP) or theirs > 0x100),
    Deviation("MMX instructions of the 0F 38 and 0F 3A maps with REX.R write behind the x87 registers", "*",
              modes="long*", opcodes="0f3[8a]"),
    Deviation("a far transfer to beyond the limit of a segment tells its selector", "frame_error_code",
              instructions="lcall ljmp retf* iret*", values=lambda theirs, ours: theirs == 0 != ours),
    Deviation("LOCK that cannot be is not seen behind an instruction that capstone does not know", "exception",
              prefix=0xF0, values=lambda theirs, ours: theirs == UD,
              when=lambda case: any(not _is_known(part, case) for part in case.code[:-1])),
    Deviation("16 bytes are stored as two times 8: what came before a fault stays", "memory",
              opcodes="0f(11|29|2b|7f|e7)"),
    Deviation("PUNPCKL of MMX registers loads 8 bytes, and some conversions of floats 16", "exception",
              opcodes="0f(6[0-2]|2[cd]|5a|e6)", values=lambda theirs, ours: ours == PF),
    Deviation("far pointers in memory do not wrap at 64 KiB", "?s_selector ?s_base frame_*", modes=REAL_OR_16,
              instructions="lss les lds lfs lgs"),
    Deviation("the base of 64-bit code is dropped, where it means nothing", "cs_base", modes="long* compatible*",
              values=lambda theirs, ours: ours == 0),
    Deviation("unknown MSRs: Bochs reads zeros", "exception", instructions="rdmsr wrmsr",
              values=lambda theirs, ours: ours == GP),
    Deviation("unknown MSRs: Bochs reads zeros, and there is no stack for our fault", "ending",
              instructions="rdmsr wrmsr", values=_is(HALT, SHUTDOWN),
              when=lambda case: case.registers.get("rsp", 0x20) < 0x20),
    Deviation("unknown MSRs: Bochs faults later", "exception_rip", instructions="rdmsr wrmsr",
              values=lambda theirs, ours: theirs > ours > 0x100),
    Deviation("segment limits are not checked", "exception", modes=REAL_OR_16,
              values=lambda theirs, ours: theirs in (GP, SS)),
    Deviation("segment limits are not checked: SGDT and SIDT store beyond", "memory", modes=REAL_OR_16,
              instructions="sgdt sidt"),
    Deviation("segment limits are not checked, and the frame of the fault lies over the vectors", "exception",
              modes="real", when=lambda case: case.registers.get("rsp", 0) & 0xFFFF < 0x410),
    Deviation("segment limits are not checked, and what runs beyond ends elsewhere", "exception_rip ending",
              modes=REAL_OR_16),
    Deviation("an opcode that is no instruction is seen after its operand, or runs", "*",
              opcodes="0f(0[df]|1[2367abce]|2[0-3]|50|7[1-3]|79|ae|ba|c3|d6|f7)|c[45]|8[ce][37bf]|8e[048c][89a-f]|d[89a-f]"
                      "|ff([37bf]|[de])[89a-f]"),
    Deviation("instructions this CPU does not offer", "exception exception_rip",
              opcodes="0f3[8a](c[89a-d]|d[b-f]|44|f[016]|[89ab])|0fae|0f01c[ab]",
              values=lambda theirs, ours: ours == UD or ours > 0x100),
    Deviation("POPA loads one register after the other: what came before a fault stays", "r??", instructions="popa*"),
    Deviation("LZCNT and TZCNT are not offered: they run as BSR and BSF", "*", instructions="lzcnt tzcnt"),
    Deviation("PAUSE with TF traps one instruction late", "exception exception_rip", instructions="pause",
              when=lambda case: bool(case.registers.get("rflags", 0) & TF)),
    Deviation("Bochs clears RF before INT pushes it", "frame_rflags frame_cs", instructions="int int1 int3 into",
              values=lambda theirs, ours: ours ^ theirs == 0x10000),
    Deviation("ENTER does not try the stack below", "*", instructions="enter"),
    Deviation("near branches out of canonical addresses fault at their target", "exception_rip exception ending",
              instructions="call ret jmp j*", modes="long*"),
    Deviation("66 in front of LEAVE in 64-bit mode counts; not on Bochs", "*", prefix=0x66, instructions="leave",
              modes="long*"),
    Deviation("66 in front of a near branch counts, as on AMD's", "*", prefix=0x66, opcodes="0f8|e[89b]|c[23]|7|ff",
              modes="long*"),
    Deviation("SYSRET and SYSCALL exist outside of 64-bit mode, as on AMD's", "exception exception_rip ending",
              opcodes="0f0[57]", modes="compatible* protected* pae* unpaged real v86"),
    Deviation("SYSRET to a non-canonical address faults at its target, as on AMD's", "exception exception_rip ending",
              modes="long0", instructions="sysretq",
              when=lambda case: case.registers.get("rcx", 0) >> 47 not in (0, 0x1FFFF)),
    Deviation("REX.R in front of a segment register is ignored; on Bochs it makes another register",
              "exception exception_rip ending", modes="long*", opcodes="8[ce]",
              values=lambda theirs, ours: theirs in (UD, SHUTDOWN) or theirs > 0x100),
    Deviation("DR6 tells of breakpoints that are not enabled", "dr6", values=lambda theirs, ours: (ours ^ theirs) < 16),
    Deviation("stack and save areas are touched in another order", "cr2 memory",
              instructions="pusha* popa* enter frstor fxsave fnsave fldenv fnstenv maskmov* iret* int* retf* lcall",
              values=lambda theirs, ours: abs(theirs - ours) < 512),
    Deviation("stack addresses are non-canonical for #SS by their base alone", "exception", opcodes=".",
              modes="long*", values=_is((GP, SS), (GP, SS))),
)  # fmt: skip


def _is_known(part: bytes, case: Case) -> bool:
    """Whether capstone knows an instruction, as the engine asks it."""
    return next(disassembler(MODES[case.mode].bits).disasm_lite(part, 0, 1), None) is not None


def instructions_of(case: Case) -> list[tuple[str, str]]:
    """Name and hexadecimal bytes (behind the prefixes) of each instruction of a case."""
    bits = MODES[case.mode].bits
    return [(mnemonic_and_length(part, bits)[0], part.lstrip(PREFIXES).hex()) for part in case.code]


def _is_only_undefined_flags(difference: Difference, names: Sequence[tuple[str, str]]) -> bool:
    if difference.name not in ("rflags", "frame_rflags"):
        return False
    undefined = 0
    for name, _code in names:
        undefined |= UNDEFINED.get(name, 0)
    return not (difference.theirs ^ difference.ours) & ~undefined


def rows_used(case: Case, differences: Sequence[Difference]) -> set[str]:
    """The reasons of the rows that explain the differences: for each the first row that does."""
    names = instructions_of(case)
    rows = (
        next((row.reason for row in DEVIATIONS if row.explains(difference, case, names)), None)
        for difference in differences
        if not _is_only_undefined_flags(difference, names)
    )
    return {reason for reason in rows if reason is not None}


def unexplained(case: Case, differences: Sequence[Difference]) -> list[Difference]:
    """Those differences that no row explains."""
    names = instructions_of(case)
    return [
        difference
        for difference in differences
        if not _is_only_undefined_flags(difference, names)
        and not any(row.explains(difference, case, names) for row in DEVIATIONS)
    ]


__all__ = ["DEVIATIONS", "Deviation", "instructions_of", "rows_used", "unexplained"]
