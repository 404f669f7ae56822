"""Message-signalled interrupts: a device's write of 32 bits to 0xFEExxxxx is a message to local APICs (SDM 3A 10.11).

    address   31..20 0xfee | 19..12 destination | 3 redirection hint | 2 logical destination
    data      15 level-triggered | 14 assert | 10..8 delivery mode | 7..0 vector

With the hint, one of those addressed gets it: that of the lowest priority.
"""

from devices.interrupts.interrupt_bus import DeliveryMode, InterruptMessage

MESSAGE_BYTES = 4
_WINDOW, _WINDOW_SHIFT = 0xFEE, 20
_HINT, _LOGICAL = 1 << 3, 1 << 2
_LEVEL, _ASSERT = 1 << 15, 1 << 14
_MODES = frozenset(DeliveryMode) - {DeliveryMode.START_UP}  # 3 and 6 are reserved (SDM 3A 10.11.2)


def is_message_address(address: int) -> bool:
    """Whether a write there is an interrupt, and no write to memory."""
    return address >> _WINDOW_SHIFT == _WINDOW


def decode_message(address: int, data: int) -> InterruptMessage | None:
    """The interrupt that a write of `data` sends; None: none. What vectors there are, the local APIC checks."""
    mode, is_level = data >> 8 & 7, bool(data & _LEVEL)
    if mode not in _MODES or (is_level and not data & _ASSERT):
        return None
    if address & _HINT and mode == DeliveryMode.FIXED:
        mode = DeliveryMode.LOWEST_PRIORITY
    return InterruptMessage(
        vector=data & 0xFF,
        delivery_mode=mode,
        destination=address >> 12 & 0xFF,
        is_logical=bool(address & _LOGICAL),
        is_level=is_level,
    )
