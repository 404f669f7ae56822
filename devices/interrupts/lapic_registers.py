"""Registers of a local APIC: a table of the whole page, and the layouts of those with fields (SDM 3A 10.4.1, 10.5).

A register is 32 bits at a multiple of 16; ISR, TMR and IRR are eight registers each, 32 vectors a piece.
"""

from typing import NamedTuple

ID, VERSION, TPR, APR, PPR, EOI, RRD = 0x020, 0x030, 0x080, 0x090, 0x0A0, 0x0B0, 0x0C0
LDR, DFR, SVR, ISR, TMR, IRR, ESR = 0x0D0, 0x0E0, 0x0F0, 0x100, 0x180, 0x200, 0x280
ICR_LOW, ICR_HIGH = 0x300, 0x310
LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR = 0x320, 0x330, 0x340, 0x350, 0x360, 0x370
TIMER_INITIAL, TIMER_CURRENT, TIMER_DIVIDE = 0x380, 0x390, 0x3E0

READ_WRITE, READ_ONLY, WRITE_ONLY = "RW", "RO", "WO"


class Register(NamedTuple):
    """Access, value after reset, and which bits a write changes."""

    access: str
    reset: int = 0
    writable: int = 0


# LVT:  18 17   16     15      14           13        12       10 9 8        7 .. 0
#       mode    mask   level   remote IRR   polarity  status   delivery mode vector     RO: remote IRR, status
LVT_VECTOR, LVT_MODE_SHIFT, LVT_REMOTE_IRR, LVT_LEVEL, LVT_MASKED = 0xFF, 8, 1 << 14, 1 << 15, 1 << 16
LVT_TIMER_MODE_SHIFT = 17

SVR_ENABLED = 1 << 8
DFR_FLAT = 0xF
ILLEGAL_VECTORS = 16  # vectors 0 to 15 belong to exceptions

ESR_SEND_ILLEGAL, ESR_RECEIVED_ILLEGAL, ESR_ILLEGAL_ADDRESS = 1 << 5, 1 << 6, 1 << 7

LVT_COUNT = 6
VERSION_VALUE = 0x14 | (LVT_COUNT - 1) << 16  # an integrated APIC; no EOI-broadcast suppression

# fmt: off
REGISTERS: dict[int, Register] = {
    ID:              Register(READ_WRITE, 0, 0xFF00_0000),  # reset: the CPU's number
    VERSION:         Register(READ_ONLY, VERSION_VALUE),
    TPR:             Register(READ_WRITE, 0, 0xFF),
    APR:             Register(READ_ONLY),                   # MODEL: 0; there is no arbitration
    PPR:             Register(READ_ONLY),
    EOI:             Register(WRITE_ONLY),
    RRD:             Register(READ_ONLY),                   # MODEL: 0; remote reads do not exist since the Pentium 4
    LDR:             Register(READ_WRITE, 0, 0xFF00_0000),
    DFR:             Register(READ_WRITE, 0xFFFF_FFFF, 0xF000_0000),
    SVR:             Register(READ_WRITE, 0xFF, 0x1FF),
    **{base + 16 * i: Register(READ_ONLY) for base in (ISR, TMR, IRR) for i in range(8)},
    ESR:             Register(READ_WRITE),
    ICR_LOW:         Register(READ_WRITE, 0, 0xC_CFFF),
    ICR_HIGH:        Register(READ_WRITE, 0, 0xFF00_0000),
    LVT_TIMER:       Register(READ_WRITE, LVT_MASKED, 0x7_00FF),
    LVT_THERMAL:     Register(READ_WRITE, LVT_MASKED, 0x1_07FF),
    LVT_PERFORMANCE: Register(READ_WRITE, LVT_MASKED, 0x1_07FF),
    LVT_LINT0:       Register(READ_WRITE, LVT_MASKED, 0x1_A7FF),
    LVT_LINT1:       Register(READ_WRITE, LVT_MASKED, 0x1_A7FF),
    LVT_ERROR:       Register(READ_WRITE, LVT_MASKED, 0x1_00FF),
    TIMER_INITIAL:   Register(READ_WRITE, 0, 0xFFFF_FFFF),
    TIMER_CURRENT:   Register(READ_ONLY),
    TIMER_DIVIDE:    Register(READ_WRITE, 0, 0xB),
}
# fmt: on
LVTS = (LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR)

# What firmware leaves behind on the boot CPU: virtual-wire mode (MP specification 1.4, 3.6.2.2 and example A.1).
VIRTUAL_WIRE = (
    (SVR, SVR_ENABLED | 0xFF),
    (LVT_LINT0, 7 << LVT_MODE_SHIFT),  # ExtINT: the 8259s
    (LVT_LINT1, 4 << LVT_MODE_SHIFT),  # NMI
)

# IA32_APIC_BASE (SDM 3A figure 10-5)
BASE_BOOT_CPU, BASE_ENABLED = 1 << 8, 1 << 11
DEFAULT_BASE = 0xFEE0_0000
