"""The six modes of an 8254 counter as a table, and its clock: ticks of 1.193182 MHz against picoseconds.

Source: Intel 8254 data sheet (231164-005), "Mode Definitions".
"""

from dataclasses import dataclass

from emulator.events import PS_PER_SECOND

CLOCK_HZ = 1_193_182


@dataclass(frozen=True)
class Mode:
    """What tells one counter mode from another."""

    initial_out: bool  # OUT from the control word until a count is loaded
    periodic: bool  # reloads itself; gate low stops it with OUT high, gate high restarts it
    triggered: bool  # a rising gate loads the count, and the level of the gate does not matter
    strobe: bool  # one-shots: OUT is low for the tick where the count is 0, else low until it is 0


# fmt: off
MODES = (  # "Mode Definitions"; modes 2 and 3 decode with M2 = "don't care"
    Mode(initial_out=False, periodic=False, triggered=False, strobe=False),  # 0 interrupt on terminal count
    Mode(initial_out=True,  periodic=False, triggered=True,  strobe=False),  # 1 hardware retriggerable one-shot
    Mode(initial_out=True,  periodic=True,  triggered=False, strobe=False),  # 2 rate generator
    Mode(initial_out=True,  periodic=True,  triggered=False, strobe=False),  # 3 square wave
    Mode(initial_out=True,  periodic=False, triggered=False, strobe=True),   # 4 software triggered strobe
    Mode(initial_out=True,  periodic=False, triggered=True,  strobe=True),   # 5 hardware triggered strobe
)
# fmt: on
MODE_OF_BITS = (0, 1, 2, 3, 4, 5, 2, 3)
SQUARE_WAVE = 3


def ticks_in(duration_ps: int) -> int:
    """Whole CLK ticks in `duration_ps`."""
    return duration_ps * CLOCK_HZ // PS_PER_SECOND


def ps_of_tick(tick: int) -> int:
    """When CLK tick number `tick` comes, counted from the epoch: the first picosecond at or after it."""
    return -(-tick * PS_PER_SECOND // CLOCK_HZ)
