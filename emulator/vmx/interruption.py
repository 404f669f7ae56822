"""Interruption information: the event an exit reports, that was being delivered, or that an entry injects.

    31     30..13     12        11        10    8 7        0
    +-----+--------+---------+----------+--------+----------+
    |valid|   0    | NMI un- |error code| type   | vector   |     (type: 24.8.3, tables 24-13 to 24-16)
    |     |        | blocking| valid    |        |          |
    +-----+--------+---------+----------+--------+----------+

The same layout serves the VM-exit interruption information (24.9.2; bit 12 "NMI unblocking due to IRET"), the
IDT-vectoring information (24.9.3; bit 12 undefined) and, where bit 11 means "deliver error code" and bit 12 is
reserved, the VM-entry interruption information (24.8.3).
"""

from dataclasses import dataclass

EXTERNAL_INTERRUPT = 0
RESERVED_TYPE = 1
NMI = 2
HARDWARE_EXCEPTION = 3
SOFTWARE_INTERRUPT = 4  # INT n
PRIVILEGED_SOFTWARE_EXCEPTION = 5  # INT1
SOFTWARE_EXCEPTION = 6  # INT3, INTO
OTHER_EVENT = 7  # a pending MTF VM exit, when injected

VALID = 1 << 31
NMI_UNBLOCKING = 1 << 12
ERROR_CODE_VALID = 1 << 11
VECTOR_MASK = 0xFF
TYPE_SHIFT = 8
TYPE_MASK = 7

# Software events push the address of the next instruction, so an entry that injects one needs an instruction length.
SOFTWARE_TYPES = frozenset({SOFTWARE_INTERRUPT, PRIVILEGED_SOFTWARE_EXCEPTION, SOFTWARE_EXCEPTION})


@dataclass(frozen=True, slots=True)
class Interruption:
    """One event, valid or not; `has_error_code` means "valid" when reported and "deliver" when injected."""

    vector: int
    type: int
    has_error_code: bool = False
    is_nmi_unblocking: bool = False
    is_valid: bool = True

    def pack(self) -> int:
        """The 32-bit field."""
        return (
            self.vector & VECTOR_MASK
            | (self.type & TYPE_MASK) << TYPE_SHIFT
            | (ERROR_CODE_VALID if self.has_error_code else 0)
            | (NMI_UNBLOCKING if self.is_nmi_unblocking else 0)
            | (VALID if self.is_valid else 0)
        )


def unpack(information: int) -> Interruption:
    """The event in an interruption-information field; reserved bits are ignored."""
    return Interruption(
        vector=information & VECTOR_MASK,
        type=information >> TYPE_SHIFT & TYPE_MASK,
        has_error_code=bool(information & ERROR_CODE_VALID),
        is_nmi_unblocking=bool(information & NMI_UNBLOCKING),
        is_valid=bool(information & VALID),
    )
