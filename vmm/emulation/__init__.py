"""The VMM's x86 instruction emulator, for stores to write-protected page tables and for memory-mapped I/O.

    decode (capstone) -> table: mnemonic -> form -> closures over operands and arithmetic -> emulate

Read state.py (the interface), emulator.py, table.py, forms.py, operands.py, arithmetic.py. Instructions on segment,
control, x87 or vector registers are `Unhandled`.
"""

from vmm.emulation.emulator import emulate
from vmm.emulation.state import CpuState, Emulated, PageFault, Unhandled

__all__ = ["CpuState", "Emulated", "PageFault", "Unhandled", "emulate"]
