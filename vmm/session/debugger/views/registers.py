"""Registers of a processor, flags by name. Under a VMM a control register has two values: the guest's, the processor's.

MODEL: of the MSRs only those that are fields of the VMCS are shown.
"""

from dataclasses import dataclass

from emulator.vmx import fields as f
from emulator.vmx.guest_state import ACTIVITY_HLT, ACTIVITY_SHUTDOWN, ACTIVITY_WAIT_FOR_SIPI
from emulator.x86 import AR_CODE, AR_D, AR_L, AR_P, AR_S, AR_UNUSABLE, CR0_PE, CR0_PG, EFER_LMA, RFLAGS_VM, dpl
from vmm.session.debugger.views import bits
from vmm.session.debugger.views.subject import Subject
from vmm.session.debugger.views.values import Hex, View, lines_text, wrapped

SEGMENTS = ("ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR")  # their fields follow each other
ACTIVITIES = {ACTIVITY_HLT: "halted", ACTIVITY_SHUTDOWN: "shut down", ACTIVITY_WAIT_FOR_SIPI: "waits for SIPI"}


@dataclass(frozen=True)
class Segment:
    """A segment register with what it has loaded."""

    name: str
    selector: Hex
    base: Hex
    limit: Hex
    access_rights: Hex

    @property
    def kind(self) -> str:
        """What its access rights say."""
        rights = int(self.access_rights)
        if rights & AR_UNUSABLE:
            return "unusable"
        if not rights & AR_S:
            what = f"system {rights & 0xF:#x}"
        elif rights & AR_CODE:
            what = f"code{64 if rights & AR_L else 32 if rights & AR_D else 16}"
        else:
            what = "data"
        return f"{what} dpl {dpl(rights)}" + ("" if rights & AR_P else " not present")


@dataclass(frozen=True)
class ControlRegister:
    """A control register: as the guest believes it, and as the processor has it."""

    name: str
    value: Hex
    flags: tuple[str, ...]
    hardware: Hex


@dataclass(frozen=True)
class Registers(View):
    """All registers of one processor."""

    processor: str
    mode: str
    cpl: int
    cycles: int
    general: dict[str, Hex]
    rip: Hex
    rip_symbol: str
    rflags: Hex
    flags: tuple[str, ...]
    segments: tuple[Segment, ...]
    gdtr: tuple[Hex, Hex]  # base and limit
    idtr: tuple[Hex, Hex]
    control: tuple[ControlRegister, ...]
    debug: dict[str, Hex]
    debug_flags: dict[str, tuple[str, ...]]
    sysenter: dict[str, Hex]
    activity: str
    blocking: tuple[str, ...]

    def text(self) -> str:
        """All of them."""
        symbol = f" <{self.rip_symbol}>" if self.rip_symbol else ""
        state = ", ".join((self.mode, f"CPL {self.cpl}", *((self.activity,) if self.activity else ()), *self.blocking))
        cells = [f"{name:<4} {value:016x}" for name, value in self.general.items()]
        lines = [f"{self.processor}: {state}, cycle {self.cycles:,}"]
        lines += ["  ".join(cells[row : row + 3]) for row in range(0, len(cells), 3)]
        lines += [f"rip  {self.rip:016x}{symbol}", f"rflags {self.rflags:x} [{' '.join(self.flags)}]"]
        for s in self.segments:
            lines.append(f"{s.name.lower():<4} {s.selector:04x}  base {s.base:016x}  limit {s.limit:08x}  {s.kind}")
        for name, (base, limit) in (("gdtr", self.gdtr), ("idtr", self.idtr)):
            lines.append(f"{name}       base {base:016x}  limit {limit:08x}")
        for register in self.control:
            words = list(register.flags)
            if register.hardware != register.value:
                words.append(f"(the processor has {register.hardware:x})")
            lines += wrapped(f"{register.name:<4} {register.value:x}", words, indent=15)
        lines += _debug_lines(self)
        lines.append("sysenter " + "  ".join(f"{name} {value:x}" for name, value in self.sysenter.items()))
        return lines_text(lines)


def _debug_lines(registers: Registers) -> list[str]:
    cells = [f"{name} {value:x}" for name, value in registers.debug.items() if name[2] in "0123"]
    flagged = [f"{name} {registers.debug[name]:x} [{' '.join(flags)}]" for name, flags in registers.debug_flags.items()]
    return ["  ".join(cells), "  ".join(flagged)]


def registers(subject: Subject) -> Registers:
    """The registers of a processor."""
    read = subject.read
    shared = subject.engine.shared
    rflags, dr6, dr7 = read(f.GUEST_RFLAGS), int(shared.dr6), read(f.GUEST_DR7)
    debug = {f"dr{number}": Hex(shared.dr[number]) for number in range(4)}
    iopl = rflags >> 12 & 3
    return Registers(
        processor=subject.name,
        mode=mode_text(subject),
        cpl=subject.cpl,
        cycles=subject.cycles,
        general={name: Hex(value) for name, value in subject.gprs().items()},
        rip=Hex(subject.rip),
        rip_symbol=subject.symbols.name_of(subject.linear_rip),
        rflags=Hex(rflags),
        flags=(*bits.known_names(bits.RFLAGS, rflags), *((f"IOPL={iopl}",) if iopl else ())),
        segments=tuple(_segment(subject, number, name) for number, name in enumerate(SEGMENTS)),
        gdtr=(Hex(read(f.GUEST_GDTR_BASE)), Hex(read(f.GUEST_GDTR_LIMIT))),
        idtr=(Hex(read(f.GUEST_IDTR_BASE)), Hex(read(f.GUEST_IDTR_LIMIT))),
        control=_control_registers(subject),
        debug={**debug, "dr6": Hex(dr6), "dr7": Hex(dr7)},
        debug_flags={
            "dr6": tuple(bits.known_names(bits.DR6, dr6 ^ 1 << 16)),  # RTM is 0 where there was a transaction
            "dr7": tuple(bits.known_names(bits.DR7, dr7)),
        },
        sysenter={
            "cs": Hex(read(f.GUEST_IA32_SYSENTER_CS)),
            "esp": Hex(read(f.GUEST_IA32_SYSENTER_ESP)),
            "eip": Hex(read(f.GUEST_IA32_SYSENTER_EIP)),
        },
        activity=ACTIVITIES.get(read(f.GUEST_ACTIVITY_STATE), "halted" if _is_blocked(subject) else ""),
        blocking=tuple(bits.known_names(bits.INTERRUPTIBILITY, read(f.GUEST_INTERRUPTIBILITY_STATE))),
    )


def _is_blocked(subject: Subject) -> bool:
    return subject.vcpu is not None and subject.vcpu.is_blocked


def _segment(subject: Subject, number: int, name: str) -> Segment:
    return Segment(
        name,
        Hex(subject.read(f.GUEST_ES_SELECTOR + 2 * number)),
        Hex(subject.read(f.GUEST_ES_BASE + 2 * number)),
        Hex(subject.read(f.GUEST_ES_LIMIT + 2 * number)),
        Hex(subject.read(f.GUEST_ES_ACCESS_RIGHTS + 2 * number)),
    )


def _control_registers(subject: Subject) -> tuple[ControlRegister, ...]:
    mode, hardware = subject.mode, subject.hardware_mode
    cr2 = int(subject.engine.shared.cr2)
    rows: tuple[tuple[str, int, bits.Bits, int], ...] = (
        ("cr0", mode.cr0, bits.CR0, hardware.cr0),
        ("cr2", cr2, (), cr2),
        ("cr3", mode.cr3, (), hardware.cr3),
        ("cr4", mode.cr4, bits.CR4, hardware.cr4),
        ("efer", mode.efer, bits.EFER, hardware.efer),
    )
    return tuple(
        ControlRegister(name, Hex(value), tuple(bits.known_names(names, value)), Hex(processors))
        for name, value, names, processors in rows
    )


def mode_text(subject: Subject) -> str:
    """The mode of operation, in words."""
    mode = subject.mode
    if mode.efer & EFER_LMA:
        return "64-bit mode" if subject.code_bits == 64 else f"compatibility mode, {subject.code_bits} bits"
    if not mode.cr0 & CR0_PE:
        return "real mode"
    if subject.read(f.GUEST_RFLAGS) & RFLAGS_VM:
        return "virtual-8086 mode"
    return f"protected mode, {subject.code_bits} bits" + ("" if mode.cr0 & CR0_PG else ", no paging")
