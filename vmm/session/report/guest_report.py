"""The state of a guest on one screen of 80 columns, for the moment it does not go on.

where it is, registers, control registers, the code around RIP, the first of a chain of faults, the last events
(VM exits, exceptions, interrupts), words of the stack with what they may be return addresses into
"""

from collections.abc import Callable
from functools import partial

import capstone

from emulator.vmx import fields as f
from emulator.x86 import AR_D, AR_L, EFER_LMA, GPR_NAMES, PAGE_BYTES, RSP, is_canonical
from vmm.paging.guest_walk import PagingMode, Translation, walk_tables
from vmm.session.guest import Guest, Processor, Ram
from vmm.session.report.recent import chain_line, recent_events, recent_lines
from vmm.session.slide import GATE_BYTES, gate_address, running_symbols
from vmm.session.symbols import Symbols

COLUMNS = 80
INSTRUCTION_COUNT = 3  # from RIP on
BEFORE_COUNT = 2
INSTRUCTION_MAX_BYTES = 15
BEFORE_BYTES = 24  # enough to be in step with the instructions that end at RIP
ENCODING_BYTES = 8  # that a line has room for
EVENT_COUNT = 5
STACK_WORDS = 8
CALLER_WORDS = 64  # of the stack that are looked at for return addresses
CPUS_SHOWN = 4
NO_SYMBOLS = Symbols()
LINEAR_BITS, ADDRESS_MASK = 48, (1 << 64) - 1
Read = Callable[[int, int], bytes]  # linear address, length
ACTIVITIES = ("runs", "halted", "shut down", "waits for SIPI")


def guest_report(guest: Guest, symbols: Symbols = NO_SYMBOLS) -> str:
    """The state of the processor that ended the run, and where the others are."""
    number = guest.end.cpu if guest.end is not None else 0
    cpu, mode = guest.processors[number], guest.mode_of(number)
    read = partial(_read, guest.memory, mode)
    symbols = running_symbols(symbols, read(gate_address(cpu.vmcs), GATE_BYTES))
    events = recent_events(cpu.engine)
    chain = chain_line(events, symbols)
    lines = [
        _head(cpu, number, symbols),
        *_register_lines(cpu),
        *_control_lines(cpu, mode),
        *_code_lines(cpu, read),
        *([chain] if chain else []),
        *(["last events, by cycle:"] if events else []),
        *recent_lines(events, symbols, EVENT_COUNT),
        *_stack_lines(cpu, read, symbols),
        *_other_lines(guest, number, symbols),
    ]
    return "\n".join(line[:COLUMNS].rstrip() for line in lines)


def _read(memory: Ram, mode: PagingMode, linear: int, length_bytes: int) -> bytes:
    """Memory by the guest's own tables, as far as it is mapped; nothing is changed by it."""
    data = b""
    while len(data) < length_bytes:
        address = linear + len(data) & ADDRESS_MASK
        found = None
        if not mode.is_long or is_canonical(address, LINEAR_BITS):
            found = walk_tables(memory, mode, address, probe=True)
        here = min(length_bytes - len(data), PAGE_BYTES - address % PAGE_BYTES)
        if not isinstance(found, Translation) or not memory.is_ram(found.gpa, here):
            break
        data += memory.read(found.gpa, here)
    return data


def _head(cpu: Processor, number: int, symbols: Symbols) -> str:
    rip, cpl = cpu.vmcs.read(f.GUEST_RIP), cpu.vmcs.read(f.GUEST_SS_ACCESS_RIGHTS) >> 5 & 3
    place = " ".join(filter(None, (f"{rip:#x}", symbols.name_of(rip))))
    return f"cpu {number} at {place}, ring {cpl}, {_code_bits(cpu)} bits, cycle {cpu.pcpu.clock.cycles:,}"


def _register_lines(cpu: Processor) -> list[str]:
    values = [(name, int(cpu.engine.gpr[index])) for index, name in enumerate(GPR_NAMES)]
    values[RSP] = ("rsp", cpu.vmcs.read(f.GUEST_RSP))
    values += [("rip", cpu.vmcs.read(f.GUEST_RIP)), ("flg", cpu.vmcs.read(f.GUEST_RFLAGS))]
    return _rows(values, per_line=3)


def _control_lines(cpu: Processor, mode: PagingMode) -> list[str]:
    read = cpu.vmcs.read
    tables = [
        f"{name} {read(base):016x}:{read(limit):04x}"
        for name, base, limit in (
            ("gdt", f.GUEST_GDTR_BASE, f.GUEST_GDTR_LIMIT),
            ("idt", f.GUEST_IDTR_BASE, f.GUEST_IDTR_LIMIT),
        )
    ]
    selectors = f"cs {read(f.GUEST_CS_SELECTOR):04x}  ss {read(f.GUEST_SS_SELECTOR):04x}"
    return [
        *_rows([("cr2", int(cpu.engine.shared.cr2)), ("cr3", mode.cr3)], per_line=3),
        f"cr0 {mode.cr0:08x}  cr4 {mode.cr4:08x}  efer {mode.efer:04x}  {selectors}",
        "  ".join(tables),
    ]


def _rows(values: list[tuple[str, int]], *, per_line: int) -> list[str]:
    cells = [f"{name:<3} {value:016x}" for name, value in values]
    return ["  ".join(cells[i : i + per_line]) for i in range(0, len(cells), per_line)]


def _code_lines(cpu: Processor, read: Read) -> list[str]:
    rip, bits = cpu.vmcs.read(f.GUEST_RIP), _code_bits(cpu)
    base = 0 if bits == 64 else cpu.vmcs.read(f.GUEST_CS_BASE)
    code = read(_linear(base + rip, bits), INSTRUCTION_COUNT * INSTRUCTION_MAX_BYTES)
    if not code:
        return ["no code is mapped there"]
    mode = {64: capstone.CS_MODE_64, 32: capstone.CS_MODE_32, 16: capstone.CS_MODE_16}[bits]
    decoder = capstone.Cs(capstone.CS_ARCH_X86, mode)
    lines: list[str] = []
    for start in (max(0, rip - BEFORE_BYTES), max(rip & ~(PAGE_BYTES - 1), rip - BEFORE_BYTES)):
        before = read(_linear(base + start, bits), rip - start)
        if not lines and len(before) == rip - start:
            lines = _before_lines(decoder, before, start)
    after = [_code_line(code[row[0] - rip :], rip, *row) for row in decoder.disasm_lite(code, rip, INSTRUCTION_COUNT)]
    return lines + (after or [f"=> {rip:#x}: {code[:INSTRUCTION_MAX_BYTES].hex(' ')} (no instruction)"])


def _before_lines(decoder: capstone.Cs, code: bytes, start: int) -> list[str]:
    """The instructions that end at RIP, as far as one can tell."""
    end = start + len(code)
    for skipped in range(len(code)):
        rows = list(decoder.disasm_lite(code[skipped:], start + skipped))
        if rows and rows[-1][0] + rows[-1][1] == end:
            return [_code_line(code[row[0] - start :], end, *row) for row in rows[-BEFORE_COUNT:]]
    return []


def _code_line(code: bytes, rip: int, address: int, size: int, name: str, operands: str) -> str:
    encoding = code[: min(size, ENCODING_BYTES)].hex(" ")
    return f"{'=>' if address == rip else '  '} {address:#x}: {encoding:<24} {name} {operands}"


def _stack_lines(cpu: Processor, read: Read, symbols: Symbols) -> list[str]:
    bits, rsp = _code_bits(cpu), cpu.vmcs.read(f.GUEST_RSP)
    width = bits // 8
    base = 0 if bits == 64 else cpu.vmcs.read(f.GUEST_SS_BASE)
    data = read(_linear(base + rsp, bits), CALLER_WORDS * width)
    words = [int.from_bytes(data[at : at + width], "little") for at in range(0, len(data) - width + 1, width)]
    if not words:
        return ["no stack is mapped at rsp"]
    cells = [f"{word:0{2 * width}x}" for word in words[:STACK_WORDS]]
    lines = [f"rsp+{n * width:<3x} {' '.join(cells[n : n + 4])}" for n in range(0, len(cells), 4)]
    callers = [symbol for word in words if (symbol := symbols.at(word)) is not None and symbol.is_code]
    names = list(dict.fromkeys(symbol.name for symbol in callers))
    return lines + (["code on the stack: " + ", ".join(names)] if names else [])


def _other_lines(guest: Guest, number: int, symbols: Symbols) -> list[str]:
    others = [(n, cpu) for n, cpu in enumerate(guest.processors) if n != number]
    lines = []
    for n, cpu in others[:CPUS_SHOWN]:
        rip = cpu.vmcs.read(f.GUEST_RIP)
        activity = ACTIVITIES[cpu.vmcs.read(f.GUEST_ACTIVITY_STATE) & 3]
        lines.append(" ".join(filter(None, (f"cpu {n} at {rip:#x}", symbols.name_of(rip), activity))))
    left = len(others) - CPUS_SHOWN
    return [*lines, f"and {left} more processors"] if left > 0 else lines


def _linear(address: int, bits: int) -> int:
    return address if bits == 64 else address & 0xFFFF_FFFF


def _code_bits(cpu: Processor) -> int:
    rights = cpu.vmcs.read(f.GUEST_CS_ACCESS_RIGHTS)
    if cpu.vmcs.read(f.GUEST_IA32_EFER) & EFER_LMA and rights & AR_L:
        return 64
    return 32 if rights & AR_D else 16
