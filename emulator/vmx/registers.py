"""Bits of the processor registers that the VM-entry checks look at, and formats the checks share.

Source: Intel SDM volume 3, 2.3 (RFLAGS), 2.5 (control registers), 2.2.1 (IA32_EFER), 11.12 (PAT); 24.4.1, table 24-2
(segment access rights).

    31  17 16 15 14 13 12  11  8 7 6 5 4 3  0        access rights of a segment in the VMCS
    +-----+--+--+---+--+---+----+-+---+-+----+
    |  0  |un|G |D/B|L |AVL| 0  |P|DPL|S|type|       un: unusable, as after loading a null selector
    +-----+--+--+---+--+---+----+-+---+-+----+
"""

CR0_PE = 1 << 0
CR0_WP = 1 << 16
CR0_PG = 1 << 31
CR4_PAE = 1 << 5
CR4_PCIDE = 1 << 17
EFER_SCE = 1 << 0
EFER_LME = 1 << 8
EFER_LMA = 1 << 10
EFER_NXE = 1 << 11
EFER_DEFINED = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE
RFLAGS_RESERVED_1 = 1 << 1
RFLAGS_TF = 1 << 8
RFLAGS_IF = 1 << 9
RFLAGS_VM = 1 << 17
RFLAGS_RESERVED_0 = 0xFFFF_FFFF_FFC0_8028
DEBUGCTL_BTF = 1 << 1
DEBUGCTL_DEFINED = 0xFFC3  # volume 4, IA32_DEBUGCTL: LBR, BTF, bits 6 to 15

AR_TYPE = 0xF
AR_ACCESSED = 1 << 0  # type bits of a code or data segment
AR_READABLE = 1 << 1  # of code; writable, of data
AR_CODE = 1 << 3
AR_S = 1 << 4
AR_DPL_SHIFT = 5
AR_P = 1 << 7
AR_RESERVED_LOW = 0xF00
AR_L = 1 << 13
AR_D = 1 << 14
AR_G = 1 << 15
AR_UNUSABLE = 1 << 16
AR_RESERVED_HIGH = 0xFFFE_0000

SELECTOR_RPL = 3
SELECTOR_TI = 4

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
