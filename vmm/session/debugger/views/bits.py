"""Names of bits, as the SDM has them: a table for each register and each kind of entry.

Source: Intel SDM volume 3: 2.2.1 (IA32_EFER), 2.3 (RFLAGS), 2.5 (control registers), 4.5 (paging), 4.7 (page-fault
error codes), 17.2 (debug registers), 24.4.2 (interruptibility), 28.2.2 (EPT).
"""

from collections.abc import Sequence

Bits = Sequence[tuple[int, str]]  # (bit number, name), in the order in which they are said

# fmt: off
CR0: Bits = ((31, "PG"), (30, "CD"), (29, "NW"), (18, "AM"), (16, "WP"), (5, "NE"), (4, "ET"), (3, "TS"), (2, "EM"),
             (1, "MP"), (0, "PE"))
CR4: Bits = ((21, "SMAP"), (20, "SMEP"), (18, "OSXSAVE"), (17, "PCIDE"), (16, "FSGSBASE"), (14, "SMXE"), (13, "VMXE"),
             (12, "LA57"), (11, "UMIP"), (10, "OSXMMEXCPT"), (9, "OSFXSR"), (8, "PCE"), (7, "PGE"), (6, "MCE"),
             (5, "PAE"), (4, "PSE"), (3, "DE"), (2, "TSD"), (1, "PVI"), (0, "VME"))
EFER: Bits = ((11, "NXE"), (10, "LMA"), (8, "LME"), (0, "SCE"))
RFLAGS: Bits = ((21, "ID"), (20, "VIP"), (19, "VIF"), (18, "AC"), (17, "VM"), (16, "RF"), (14, "NT"), (11, "OF"),
                (10, "DF"), (9, "IF"), (8, "TF"), (7, "SF"), (6, "ZF"), (4, "AF"), (2, "PF"), (0, "CF"))
DR6: Bits = ((16, "RTM"), (15, "BT"), (14, "BS"), (13, "BD"), (3, "B3"), (2, "B2"), (1, "B1"), (0, "B0"))
DR7: Bits = ((13, "GD"), (11, "RTM"), (9, "GE"), (8, "LE"), (7, "G3"), (6, "L3"), (5, "G2"), (4, "L2"), (3, "G1"),
             (2, "L1"), (1, "G0"), (0, "L0"))
ENTRY: Bits = ((63, "NX"), (8, "G"), (7, "PS"), (6, "D"), (5, "A"), (4, "PCD"), (3, "PWT"), (2, "U"), (1, "W"),
               (0, "P"))
EPT_ENTRY: Bits = ((7, "PS"), (2, "X"), (1, "W"), (0, "R"))
PAGE_FAULT: Bits = ((4, "fetch"), (3, "reserved bit"), (2, "user"), (1, "write"), (0, "present"))
INTERRUPTIBILITY: Bits = ((3, "blocking by NMI"), (2, "blocking by SMI"), (1, "blocking by MOV SS"),
                          (0, "blocking by STI"))
# fmt: on


def bit_names(bits: Bits, value: int) -> list[str]:
    """Names of the bits that are set; of a bit without a name its number."""
    names = [name for number, name in bits if value >> number & 1]
    known = sum(1 << number for number, _ in bits)
    rest = value & ~known
    return names + [f"bit {number}" for number in range(64) if rest >> number & 1]


def known_names(bits: Bits, value: int) -> list[str]:
    """Names of the bits that are set and have one."""
    return [name for number, name in bits if value >> number & 1]
