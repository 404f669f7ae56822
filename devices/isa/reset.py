"""Registers whose purpose is to reset the machine: each calls `on_reset`. (Port 0x92 is in system_control.py.)

- port 0x64, the 8042's: command 0xfe pulses the reset line (IBM PC AT technical reference, "8042");
- port 0xcf9, reset control (Intel 82371AB, 4.1.10 "RC"): bit 1 chooses a hard reset, a rising bit 2 does it.
"""

from collections.abc import Callable

KEYBOARD_PULSE_RESET = 0xFE
RESET_CPU, FULL_RESET, HARD_RESET = 0x04, 0x08, 0x02

# MODEL: there is no keyboard controller. Its status reads 0xff, which boot code and Linux's i8042 driver take as
# "absent" after at most 32 reads; its data port 0x60 floats too; of its commands only the reset works.
# MODEL: soft, hard and full reset are the same `on_reset`; its owner decides what a reset clears.


class KeyboardResetPort:
    """Port 0x64 of the absent keyboard controller."""

    WIRED = ("on_reset",)

    widths_bytes: tuple[int, ...] = (1,)

    def __init__(self, on_reset: Callable[[], None]) -> None:
        self.on_reset = on_reset

    def read(self, offset: int, size_bytes: int) -> int:
        """All ones: nothing drives the bus."""
        return 0xFF

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Reset on the command 0xfe, drop everything else."""
        if value == KEYBOARD_PULSE_RESET:
            self.on_reset()


class ResetControl:
    """Port 0xcf9."""

    WIRED = ("on_reset",)

    widths_bytes: tuple[int, ...] = (1,)

    def __init__(self, on_reset: Callable[[], None]) -> None:
        self.on_reset = on_reset
        self.control = 0

    def read(self, offset: int, size_bytes: int) -> int:
        """The three bits as written."""
        return self.control

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store the bits; bit 2 going from 0 to 1 resets."""
        rises = value & ~self.control & RESET_CPU
        self.control = value & (HARD_RESET | RESET_CPU | FULL_RESET)
        if rises:
            self.on_reset()
