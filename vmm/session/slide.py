"""How far a Linux lies from where it was linked (KASLR), and so its symbols.

A running kernel says so by its IDT: vector 14 leads to a function whose linked address the symbols have. The kernel
moves by multiples of 2 MiB within a GiB, so any other difference means that another function is there, as it is early
in the boot.
"""

from emulator.vmx import fields as f
from emulator.vmx.vmcs import Vmcs
from emulator.x86 import PAGE_FAULT
from vmm.session.symbols import Symbols

GATE_BYTES = 16
STEP_BYTES, REACH_BYTES = 2 << 20, 1 << 30
HANDLERS = ("asm_exc_page_fault", "page_fault")  # of vector 14, since Linux 5.8 and before
EARLY_HANDLERS = "early_idt_handler_array"
EARLY_HANDLER_BYTES = (9, 13)  # of each vector, without and with ENDBR


def gate_address(vmcs: Vmcs) -> int:
    """Where a processor's gate of vector 14 is: GATE_BYTES at this linear address, which `slide_of` takes."""
    return vmcs.read(f.GUEST_IDTR_BASE) + GATE_BYTES * PAGE_FAULT & (1 << 64) - 1


def running_symbols(symbols: Symbols, gate: bytes | None) -> Symbols:
    """`symbols` where the kernel lies whose IDT has this `gate`; as they are while it does not tell."""
    slide = slide_of(symbols, gate)
    return symbols.moved(slide) if slide else symbols


def slide_of(symbols: Symbols, gate: bytes | None) -> int:
    """How many bytes further up the kernel lies than it was linked for; 0, too, when that is not known."""
    if gate is None or len(gate) < GATE_BYTES:
        return 0
    handler = int.from_bytes(gate[0:2] + gate[6:12], "little")
    for linked in _handlers(symbols):
        slide = handler - linked
        if slide % STEP_BYTES == 0 and abs(slide) < REACH_BYTES:
            return slide
    return 0


def _handlers(symbols: Symbols) -> list[int]:
    """Where vector 14 may lead to, as the kernel was linked."""
    found = [address for name in HANDLERS if (address := symbols.address_of(name)) is not None]
    early = symbols.address_of(EARLY_HANDLERS)
    return found + ([] if early is None else [early + PAGE_FAULT * size for size in EARLY_HANDLER_BYTES])
