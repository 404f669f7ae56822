"""The state of a guest in text, for the moment it cannot go on: registers and the code around RIP."""

import capstone

from emulator.vmx import fields as f
from emulator.x86 import AR_D, AR_L, EFER_LMA, GPR_NAMES, RSP
from vmm.session.guest import Guest

INSTRUCTION_COUNT = 6
INSTRUCTION_MAX_BYTES = 15
REGISTERS_PER_LINE = 4


CONTROL_REGISTERS = (
    ("cr0", f.GUEST_CR0),
    ("cr3", f.GUEST_CR3),
    ("cr4", f.GUEST_CR4),
    ("efer", f.GUEST_IA32_EFER),
    ("cs", f.GUEST_CS_SELECTOR),
    ("ss", f.GUEST_SS_SELECTOR),
    ("gdtr", f.GUEST_GDTR_BASE),
    ("idtr", f.GUEST_IDTR_BASE),
)


def guest_report(guest: Guest) -> str:
    """Where the guest is, its registers, and the instructions from RIP on."""
    rip, rflags = guest.vmcs.read(f.GUEST_RIP), guest.vmcs.read(f.GUEST_RFLAGS)
    head = f"at rip {rip:#x}, rflags {rflags:#x}, cycle {guest.pcpu.clock.cycles:,}"
    return "\n".join((head, *_register_lines(guest), *_code_lines(guest, rip)))


def _register_lines(guest: Guest) -> list[str]:
    values = [(name, int(guest.engine.gpr[index])) for index, name in enumerate(GPR_NAMES)]
    values[RSP] = ("rsp", guest.vmcs.read(f.GUEST_RSP))
    values += [(name, guest.vmcs.read(field)) for name, field in CONTROL_REGISTERS]
    values.append(("cr2", int(guest.engine.shared.cr2)))
    cells = [f"{name:>4} {value:016x}" for name, value in values]
    return [" ".join(cells[i : i + REGISTERS_PER_LINE]) for i in range(0, len(cells), REGISTERS_PER_LINE)]


def _code_lines(guest: Guest, rip: int) -> list[str]:
    linear = rip if _code_bits(guest) == 64 else rip + guest.vmcs.read(f.GUEST_CS_BASE) & 0xFFFF_FFFF
    code = guest.engine.read_linear(linear, INSTRUCTION_COUNT * INSTRUCTION_MAX_BYTES)
    if not code:
        return ["no code is mapped there"]
    mode = {64: capstone.CS_MODE_64, 32: capstone.CS_MODE_32, 16: capstone.CS_MODE_16}[_code_bits(guest)]
    decoder = capstone.Cs(capstone.CS_ARCH_X86, mode)
    lines = []
    for address, size, name, operands in decoder.disasm_lite(code, rip, INSTRUCTION_COUNT):
        encoding = code[address - rip :][:size].hex(" ")
        lines.append(f"{'=>' if address == rip else '  '} {address:#x}: {encoding:<24} {name} {operands}")
    return lines or [f"=> {rip:#x}: {code[:INSTRUCTION_MAX_BYTES].hex(' ')} (no instruction)"]


def _code_bits(guest: Guest) -> int:
    rights = guest.vmcs.read(f.GUEST_CS_ACCESS_RIGHTS)
    if guest.vmcs.read(f.GUEST_IA32_EFER) & EFER_LMA and rights & AR_L:
        return 64
    return 32 if rights & AR_D else 16
