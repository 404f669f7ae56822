"""The interrupt command register of a local APIC: which interrupt it sends, and to whom (SDM 3A 10.6.1).

63 .. 56      19 18       15      14      12       11       10 9 8         7 .. 0
destination   shorthand   level   assert  status   logical  delivery mode  vector
"""

from dataclasses import dataclass

from devices.interrupts.interrupt_bus import DeliveryMode, InterruptMessage
from devices.interrupts.lapic_registers import ILLEGAL_VECTORS

LOGICAL, ASSERT, LEVEL = 1 << 11, 1 << 14, 1 << 15
TO_DESTINATION, TO_SELF, TO_ALL, TO_OTHERS = range(4)  # shorthands
WITH_VECTOR = (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY)


@dataclass(frozen=True, slots=True)
class IcrCommand:
    """A write to the low half of ICR."""

    message: InterruptMessage
    shorthand: int
    is_valid: bool  # False: nothing is sent

    @property
    def has_illegal_vector(self) -> bool:
        """Vectors 0 to 15 cannot be sent."""
        return self.message.delivery_mode in WITH_VECTOR and self.message.vector < ILLEGAL_VECTORS


def decode_icr(low: int, high: int) -> IcrCommand:
    """Both halves of ICR, decoded."""
    mode, shorthand = low >> 8 & 7, low >> 18 & 3
    # SDM 3A table 10-3: with "self" and "all" only fixed interrupts are valid.
    is_valid = mode == DeliveryMode.FIXED or shorthand in (TO_DESTINATION, TO_OTHERS)
    if mode == DeliveryMode.INIT and low & LEVEL and not low & ASSERT:
        is_valid = False  # INIT level de-assert set arbitration IDs, before the Pentium 4
    message = InterruptMessage(low & 0xFF, mode, high >> 24, bool(low & LOGICAL))
    return IcrCommand(message, shorthand, is_valid)
