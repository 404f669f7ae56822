"""The architecture's own numbers: registers and their bits, exceptions, page-table entries, MSRs. Nothing else is here.

Source: Intel SDM volume 3: 2.2.1 (IA32_EFER), 2.3 (RFLAGS), 2.5 (control registers), 4.5 (paging), 6.15 (exceptions),
11.12 (PAT), 24.4.1 (access rights); volume 4 (MSRs). What only one file needs stands there.
"""

# --- registers: numbers as instructions encode them -------------------------------------------------------------------

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)
GPR_NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{i}" for i in range(8, 16)))
ES, CS, SS, DS, FS, GS = range(6)

# --- control registers, IA32_EFER, RFLAGS, DR6, IA32_DEBUGCTL ---------------------------------------------------------

CR0_PE = 1 << 0  # protected mode
CR0_MP = 1 << 1
CR0_EM = 1 << 2
CR0_TS = 1 << 3  # x87 and SSE instructions raise #NM
CR0_ET = 1 << 4  # always 1
CR0_NE = 1 << 5
CR0_WP = 1 << 16  # supervisors too obey read-only pages
CR0_AM = 1 << 18
CR0_NW = 1 << 29
CR0_CD = 1 << 30
CR0_PG = 1 << 31
CR0_DEFINED = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG

CR4_PSE = 1 << 4  # 4-Mbyte pages
CR4_PAE = 1 << 5
CR4_PGE = 1 << 7  # global pages
CR4_VMXE = 1 << 13
CR4_PCIDE = 1 << 17
CR4_SMEP = 1 << 20  # supervisors may not execute users' pages

EFER_SCE = 1 << 0  # SYSCALL
EFER_LME = 1 << 8  # IA-32e mode when paging is on
EFER_LMA = 1 << 10  # IA-32e mode
EFER_NXE = 1 << 11
EFER_DEFINED = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE

RFLAGS_CF = 1 << 0
RFLAGS_RESERVED_1 = 1 << 1  # always 1
RFLAGS_PF = 1 << 2
RFLAGS_AF = 1 << 4
RFLAGS_ZF = 1 << 6
RFLAGS_SF = 1 << 7
RFLAGS_TF = 1 << 8  # #DB behind every instruction
RFLAGS_IF = 1 << 9  # interrupts are taken
RFLAGS_DF = 1 << 10  # string instructions go downwards
RFLAGS_OF = 1 << 11
RFLAGS_IOPL = 3 << 12
RFLAGS_NT = 1 << 14
RFLAGS_RF = 1 << 16
RFLAGS_VM = 1 << 17  # virtual-8086 mode
RFLAGS_AC = 1 << 18
RFLAGS_RESERVED_0 = 0xFFFF_FFFF_FFC0_8028

DR6_BD = 1 << 13  # an access to a debug register
DR6_BS = 1 << 14  # a single step
DR6_BT = 1 << 15  # a task switch, to a TSS with T set

DEBUGCTL_BTF = 1 << 1
DEBUGCTL_DEFINED = 0xFFC3  # LBR, BTF, bits 6 to 15

# --- exceptions: vectors, and which push an error code. MODEL: without CET, so no #CP (21). ---------------------------

DIVIDE_ERROR = 0
DEBUG_EXCEPTION = 1
NMI_VECTOR = 2
BREAKPOINT = 3
OVERFLOW = 4
BOUND_RANGE_EXCEEDED = 5
INVALID_OPCODE = 6
DEVICE_NOT_AVAILABLE = 7
DOUBLE_FAULT = 8
INVALID_TSS = 10
SEGMENT_NOT_PRESENT = 11
STACK_FAULT = 12
GENERAL_PROTECTION = 13
PAGE_FAULT = 14
X87_ERROR = 16
ALIGNMENT_CHECK = 17
MACHINE_CHECK = 18
SIMD_EXCEPTION = 19
ERROR_CODE_VECTORS = frozenset(
    {DOUBLE_FAULT, INVALID_TSS, SEGMENT_NOT_PRESENT, STACK_FAULT, GENERAL_PROTECTION, PAGE_FAULT, ALIGNMENT_CHECK}
)
CONTRIBUTORY_VECTORS = frozenset(  # two in a row are a double fault, table 6-5
    {DIVIDE_ERROR, INVALID_TSS, SEGMENT_NOT_PRESENT, STACK_FAULT, GENERAL_PROTECTION}
)

# Error code of a page fault: the page was present; the access was a write, a user's, hit a reserved bit, was a fetch.
PF_PRESENT, PF_WRITE, PF_USER, PF_RESERVED, PF_FETCH = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4

# --- pages ------------------------------------------------------------------------------------------------------------
#
#     63 62..52 51........12 11..9  8  7  6 5 4   3   2 1 0      an entry of a page table
#     NX        address             G  PS D A PCD PWT U W P      (PS: LARGE, in tables above the lowest)

PAGE_BYTES = 4096
PRESENT, WRITABLE, USER, ACCESSED, DIRTY, LARGE, GLOBAL = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7, 1 << 8
NO_EXECUTE = 1 << 63

# --- MSRs -------------------------------------------------------------------------------------------------------------

IA32_TIME_STAMP_COUNTER = 0x10
IA32_PLATFORM_ID = 0x17
IA32_APIC_BASE = 0x1B
IA32_BIOS_SIGN_ID = 0x8B
IA32_SYSENTER_CS = 0x174
IA32_SYSENTER_ESP = 0x175
IA32_SYSENTER_EIP = 0x176
IA32_MISC_ENABLE = 0x1A0
IA32_PAT = 0x277
IA32_TSC_DEADLINE = 0x6E0
IA32_EFER = 0xC000_0080
IA32_STAR = 0xC000_0081
IA32_LSTAR = 0xC000_0082
IA32_CSTAR = 0xC000_0083
IA32_FMASK = 0xC000_0084
IA32_FS_BASE = 0xC000_0100
IA32_GS_BASE = 0xC000_0101
IA32_KERNEL_GS_BASE = 0xC000_0102
IA32_TSC_AUX = 0xC000_0103

MISC_ENABLE_MONITOR = 1 << 18

# --- segments: access rights in the VMCS (table 24-2) and selectors ---------------------------------------------------
#
#     31  17 16 15 14 13 12  11  8 7 6 5 4 3  0
#     +-----+--+--+---+--+---+----+-+---+-+----+
#     |  0  |un|G |D/B|L |AVL| 0  |P|DPL|S|type|       un: unusable, as after loading a null selector
#     +-----+--+--+---+--+---+----+-+---+-+----+

AR_TYPE = 0xF
AR_ACCESSED = 1 << 0  # type bits of a code or data segment
AR_READABLE = 1 << 1  # of code; writable, of data
AR_EXPAND_DOWN = 1 << 2  # of data; conforming, of code
AR_CODE = 1 << 3
AR_S = 1 << 4
AR_DPL_SHIFT = 5
AR_P = 1 << 7
AR_RESERVED_LOW = 0xF00
AR_L = 1 << 13  # 64-bit code
AR_D = 1 << 14
AR_G = 1 << 15
AR_UNUSABLE = 1 << 16
AR_RESERVED_HIGH = 0xFFFE_0000

SELECTOR_RPL = 3
SELECTOR_TI = 4

# --- what a register can hold -----------------------------------------------------------------------------------------

_PAT_TYPES = frozenset({0, 1, 4, 5, 6, 7})  # UC, WC, WT, WP, WB, UC-


def dpl(access_rights: int) -> int:
    """Descriptor privilege level in a segment's access rights."""
    return access_rights >> AR_DPL_SHIFT & 3


def is_canonical(address: int, linear_address_bits: int) -> bool:
    """Whether all bits above the top implemented one equal it."""
    return address >> (linear_address_bits - 1) in (0, (1 << (65 - linear_address_bits)) - 1)


def is_physical(address: int, physical_address_bits: int, *, alignment_bits: int = 12) -> bool:
    """Whether `address` is aligned to 2^`alignment_bits` bytes and within the physical-address width."""
    return address & ((1 << alignment_bits) - 1) == 0 and address >> physical_address_bits == 0


def is_pat(value: int) -> bool:
    """Whether each of the eight bytes is a memory type."""
    return all(value >> shift & 0xFF in _PAT_TYPES for shift in range(0, 64, 8))
