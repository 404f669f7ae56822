"""The cycle ledger: for every cycle of a core, what it went to. The sum over the categories is the core's clock.

Guest instructions are counted by the engine (it adds them to the clock itself); everything else is charged here.
"""

from enum import StrEnum


class Category(StrEnum):
    """What cycles go to."""

    GUEST = "guest"  # instructions the guest retired
    PORT = "port access"  # IN and OUT that reach a device of the host
    EXIT = "exit hardware"  # VM exits
    ENTRY = "entry hardware"  # VM entries
    VMCS = "vmcs access"  # VMREAD and VMWRITE
    IDLE = "idle"  # halted, waiting for an event
    SPIN = "spin"  # polling memory that another core will write


class Ledger:
    """Cycles by category of one core."""

    def __init__(self) -> None:
        self.cycles = dict.fromkeys(Category, 0)

    @property
    def total_cycles(self) -> int:
        """Sum over the categories: the clock of the core."""
        return sum(self.cycles.values())
