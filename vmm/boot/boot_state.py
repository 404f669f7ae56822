"""The state in which a guest starts: memory, and the architectural state of each mode that a boot protocol asks for.

Guest-state fields are written once from these tables, for a vCPU under the VMM and for a native core alike (the engine
keeps a core's registers in the same slots). Sources: Documentation/arch/x86/boot.rst, "32-bit" and "64-bit Boot
Protocol"; Multiboot 0.6.96, 3.2; Xen docs/misc/pvh.pandoc; real mode: SDM 3A table 9-1, but CS and IP of the image.
"""

from collections.abc import Iterator
from typing import NamedTuple

from emulator.engine import Engine
from emulator.vmx import fields as f
from emulator.vmx.vmcs import Vmcs
from emulator.x86 import GPR_NAMES
from vmm.boot.firmware import FIRMWARE_GPA, firmware_image
from vmm.boot.loaders import BootImage, EntryMode

RFLAGS_START = 0x2
CODE_64, CODE_32, DATA_FLAT = 0xA09B, 0xC09B, 0xC093
CODE_16, DATA_16 = 0x9B, 0x93
UNUSABLE = 0x1_0000
TSS_BUSY = 0x8B
TSS_LIMIT = 0x67


class Segment(NamedTuple):
    """A segment register."""

    name: str
    selector: int
    limit: int
    rights: int
    base: int = 0


class Start(NamedTuple):
    """Control and segment registers at the first instruction."""

    cr0: int
    cr4: int
    efer: int
    segments: tuple[Segment, ...]


_FLAT_DATA = (
    *(Segment(name, 0x18, 0xFFFF_FFFF, DATA_FLAT) for name in ("ES", "SS", "DS")),
    *(Segment(name, 0, 0, UNUSABLE) for name in ("FS", "GS", "LDTR")),
    Segment("TR", 0x20, TSS_LIMIT, TSS_BUSY),
)
# fmt: off
_STARTS = {  # CR0: PG, NE, ET, PE; CR4: PAE; EFER: LME, LMA
    EntryMode.LONG:      Start(0x8000_0031, 0x20, 0x500, (Segment("CS", 0x10, 0xFFFF_FFFF, CODE_64), *_FLAT_DATA)),
    EntryMode.PROTECTED: Start(0x0000_0031, 0x00, 0x000, (Segment("CS", 0x10, 0xFFFF_FFFF, CODE_32), *_FLAT_DATA)),
}
# fmt: on


def boot_memory(image: BootImage, cpu_count: int, *, has_messages: bool) -> Iterator[tuple[int, bytes]]:
    """(gpa, data) of all that is in memory: the segments of the image, and firmware's tables for such a board."""
    yield FIRMWARE_GPA, firmware_image(cpu_count, has_messages=has_messages)
    yield from image.segments


def _start(image: BootImage) -> tuple[Start, int]:
    """The state, and RIP."""
    if image.mode is not EntryMode.REAL:
        return _STARTS[image.mode], image.entry_gpa
    selector = 0 if image.entry_gpa < 0x10000 else image.entry_gpa >> 4
    return real_mode_start(selector), image.entry_gpa - (selector << 4)


def real_mode_start(cs_selector: int) -> Start:
    """Real mode with code segment `cs_selector`: after a boot sector was read, or a processor was started (SIPI)."""
    data = (Segment(name, 0, 0xFFFF, DATA_16) for name in ("ES", "SS", "DS", "FS", "GS"))
    code = Segment("CS", cs_selector, 0xFFFF, CODE_16, cs_selector << 4)
    return Start(0x30, 0, 0, (code, *data, Segment("LDTR", 0, 0xFFFF, UNUSABLE), Segment("TR", 0, 0xFFFF, TSS_BUSY)))


def write_boot_state(engine: Engine, vmcs: Vmcs, image: BootImage) -> None:
    """Set the registers of `engine` and the guest-state fields of `vmcs` for the first instruction of `image`."""
    for index in range(16):
        engine.gpr[index] = 0
    for name, value in image.registers.items():
        engine.gpr[GPR_NAMES.index(name)] = value
    start, rip = _start(image)
    for name, selector, limit, rights, base in start.segments:
        vmcs.write(getattr(f, f"GUEST_{name}_SELECTOR"), selector)
        vmcs.write(getattr(f, f"GUEST_{name}_LIMIT"), limit)
        vmcs.write(getattr(f, f"GUEST_{name}_ACCESS_RIGHTS"), rights)
        vmcs.write(getattr(f, f"GUEST_{name}_BASE"), base)
    for field, value in (
        (f.GUEST_CR0, start.cr0),
        (f.GUEST_CR3, image.cr3_gpa),
        (f.GUEST_CR4, start.cr4),
        (f.GUEST_IA32_EFER, start.efer),
        (f.GUEST_GDTR_BASE, image.gdt_gpa),
        (f.GUEST_GDTR_LIMIT, image.gdt_limit),
        (f.GUEST_IDTR_BASE, 0),
        (f.GUEST_IDTR_LIMIT, 0x3FF if image.mode is EntryMode.REAL else 0),
        (f.GUEST_RIP, rip),
        (f.GUEST_RSP, 0),
        (f.GUEST_RFLAGS, RFLAGS_START),
        (f.GUEST_ACTIVITY_STATE, 0),
        (f.GUEST_INTERRUPTIBILITY_STATE, 0),
    ):
        vmcs.write(field, value)
