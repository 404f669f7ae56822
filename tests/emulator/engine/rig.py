"""A bench for the CPU engine: 4 MiB of memory, tables, a platform that records, and tiny programs put into it.

    0x01000 PML4 | PDPT | PD | PT      identity map: 4-KiB pages below 2 MiB, one 2-MiB page above; all user, writable
    0x06000 GDT  | 0x07000 IDT | 0x08000 TSS | 0x09000 TSS of 16 bits
    0x10000 the program | 0x20000 + 16 * vector: a HLT per interrupt vector, where all gates lead
    0x30000 top of the ring 0 stack | 0x34000 IST 1 | 0x38000 user stack | 0x40000 data
    0x50000 I/O bitmaps A, B | 0x52000 MSR bitmap | 0x60000 EPT tables

A test says what differs from that. Programs are assembly text, in Intel syntax, assembled by binutils.
"""

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from emulator.engine import LEAVE, RESUME, Engine, Next
from emulator.memory import HostMemory
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason
from emulator.vmx.vmcs import Vmcs
from emulator.x86 import GPR_NAMES

MEMORY_BYTES = 4 << 20
PML4, PDPT, PD, PT = 0x1000, 0x2000, 0x3000, 0x4000
GDT, IDT, TSS, TSS16 = 0x6000, 0x7000, 0x8000, 0x9000
CODE, HANDLERS, STACK0, IST1, STACK3, DATA, STACK16 = 0x10000, 0x20000, 0x30000, 0x34000, 0x38000, 0x40000, 0xF000
IO_BITMAP_A, IO_BITMAP_B, MSR_BITMAP, EPT = 0x50000, 0x51000, 0x52000, 0x60000
P, W, U, A, D, PS, NX = 1, 2, 4, 0x20, 0x40, 0x80, 1 << 63

# selectors
CODE64_0, DATA_0, CODE32_3, DATA_3, CODE64_3, TSS_64, CODE32_0, CODE64_CONFORMING = (
    0x08,
    0x10,
    0x1B,
    0x23,
    0x2B,
    0x30,
    0x40,
    0x48,
)
CODE16_0, TSS_32, TSS_16, CODE32_CONFORMING, ABSENT_CODE = 0x50, 0x58, 0x60, 0x68, 0x70
# access bytes and flags of the descriptors, as bits 55..40
_DESCRIPTORS = {
    CODE64_0: 0xA09B, DATA_0: 0xC093, CODE32_3: 0xC0FB, DATA_3: 0xC0F3, CODE64_3: 0xA0FB, CODE32_0: 0xC09B,
    CODE64_CONFORMING: 0xA09F, CODE16_0: 0x009B, CODE32_CONFORMING: 0xC09F, ABSENT_CODE: 0xA01B,
}  # fmt: skip
GDT_LIMIT = 0x7F
UNUSABLE = 0x10000


@cache
def assemble(text: str, bits: int = 64, origin: int = CODE) -> bytes:
    """Machine code of Intel-syntax assembly `text`, linked to run at `origin`."""
    with tempfile.TemporaryDirectory() as folder:
        source, object_, flat = (str(Path(folder) / name) for name in ("a.s", "a.o", "a.bin"))
        Path(source).write_text(f".intel_syntax noprefix\n.code{bits}\n.globl _start\n_start:\n{text}\n")
        subprocess.run(["as", "--64", "-o", object_, source], check=True, capture_output=True, text=True)
        link = ["ld", "-m", "elf_x86_64", "-Ttext", hex(origin), "--oformat", "binary", "-o", flat, object_]
        subprocess.run(link, check=True, capture_output=True, text=True)
        return Path(flat).read_bytes()


def descriptor(rights: int, *, base: int = 0, limit: int = 0xFFFFF) -> int:
    """A segment descriptor; `rights` in VMCS format, `limit` as the 20-bit field."""
    low = limit & 0xFFFF | (base & 0xFFFFFF) << 16 | (rights & 0xF0FF) << 40
    return low | (limit >> 16 & 0xF) << 48 | (base >> 24 & 0xFF) << 56


class RecordingPlatform:
    """Answers with what a test put in, and notes what was asked."""

    def __init__(self) -> None:
        self.inputs: dict[int, int] = {}
        self.port_reads: list[tuple[int, int]] = []
        self.port_writes: list[tuple[int, int, int]] = []
        self.mmio_reads: list[tuple[int, int]] = []
        self.mmio_writes: list[tuple[int, int, int]] = []
        self.mmio: dict[int, int] = {}  # address -> what is read there
        self.on_mmio: Callable[[int], None] = lambda hpa: None
        self.cr8 = 0
        self.cpuids: list[tuple[int, int]] = []
        self.msrs: dict[int, int] = {}
        self.vectors: list[int] = []
        self.on_port: Callable[[int], None] = lambda port: None
        self.on_acknowledge: Callable[[], None] = lambda: None

    def port_read(self, port: int, size_bytes: int) -> int:
        self.port_reads.append((port, size_bytes))
        self.on_port(port)
        return self.inputs.get(port, 0)

    def port_write(self, port: int, size_bytes: int, value: int) -> None:
        self.port_writes.append((port, size_bytes, value))
        self.on_port(port)

    def mmio_read(self, hpa: int, size_bytes: int) -> int:
        self.mmio_reads.append((hpa, size_bytes))
        self.on_mmio(hpa)
        return self.mmio.get(hpa, (1 << 8 * size_bytes) - 1)

    def mmio_write(self, hpa: int, size_bytes: int, value: int) -> None:
        self.mmio_writes.append((hpa, size_bytes, value))
        self.on_mmio(hpa)

    def cr8_read(self) -> int:
        return self.cr8

    def cr8_write(self, value: int) -> None:
        self.cr8 = value

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        self.cpuids.append((leaf, subleaf))
        return 0xAAAA0001, 0xBBBB0002, 0xCCCC0003, 0xDDDD0004

    def msr_read(self, index: int) -> int | None:
        return self.msrs.get(index)

    def msr_write(self, index: int, value: int) -> bool:
        if index not in self.msrs:
            return False
        self.msrs[index] = value
        return True

    def interrupt_vector(self) -> int:
        self.on_acknowledge()
        return self.vectors.pop(0)


@dataclass(frozen=True)
class Exit:
    """What a VM exit reported."""

    reason: int
    qualification: int
    instruction_bytes: int
    information: int
    error_code: int
    vectoring: int
    vectoring_error_code: int
    rip: int
    gpa: int
    linear: int
    instruction_information: int
    instructions: int


class Rig:
    """One engine with a program in it. `on_exit` is called with each `Exit`; by default the first one ends the run."""

    def __init__(self, code: str | bytes = "hlt", *, bits: int = 64, cpl: int = 0, non_root: bool = False) -> None:
        self.memory = HostMemory(MEMORY_BYTES)
        self.platform = RecordingPlatform()
        self.engine = Engine(self.memory, self.platform)
        self.engine.on_exit = self._record
        self.shared = self.engine.shared
        self.vmcs = Vmcs(self.engine.vmcs)
        self.exits: list[Exit] = []
        self.on_exit: Callable[[Exit], Next] = lambda seen: LEAVE
        self.bits = bits
        self._fill_tables()
        self._fill_registers(cpl)
        self.put(CODE, assemble(code, bits) if isinstance(code, str) else code)
        if non_root:
            self.enter_non_root()

    # --- memory ------------------------------------------------------------------------------------------------------

    def put(self, hpa: int, data: bytes) -> None:
        self.memory.write(hpa, data)

    def word(self, hpa: int, size_bytes: int = 8) -> int:
        return int.from_bytes(self.memory.read(hpa, size_bytes), "little")

    def put_word(self, hpa: int, value: int, size_bytes: int = 8) -> None:
        self.memory.write(hpa, value.to_bytes(size_bytes, "little"))

    def words(self, hpa: int, count: int, size_bytes: int = 8) -> list[int]:
        return [self.word(hpa + size_bytes * i, size_bytes) for i in range(count)]

    def set_page(self, linear: int, entry: int) -> None:
        """Put `entry` in the page table for a page below 2 MiB."""
        self.put_word(PT + (linear >> 12) * 8, entry)

    def set_gate(
        self, vector: int, *, target: int | None = None, selector: int | None = None, kind: int = 14, dpl: int = 0,
        ist: int = 0, present: bool = True,
    ) -> None:  # fmt: skip
        """Write the IDT's gate of `vector`; by default an interrupt gate to the HLT of that vector."""
        target = HANDLERS + vector * 16 if target is None else target
        selector = (CODE64_0 if self.bits == 64 else CODE32_0) if selector is None else selector
        low = target & 0xFFFF | selector << 16 | ist << 32 | kind << 40 | dpl << 45 | present << 47
        low |= (target >> 16 & 0xFFFF) << 48
        if self.bits == 64:
            self.put_word(IDT + vector * 16, low)
            self.put_word(IDT + vector * 16 + 8, target >> 32)
        else:
            self.put_word(IDT + vector * 8, low)

    def _fill_tables(self) -> None:
        self.put_word(PML4, PDPT | P | W | U)
        self.put_word(PDPT, PD | P | W | U)
        self.put_word(PD, PT | P | W | U)
        self.put_word(PD + 8, 0x200000 | P | W | U | PS)
        for page in range(512):
            self.put_word(PT + page * 8, page << 12 | P | W | U)
        for selector, rights in _DESCRIPTORS.items():
            self.put_word(GDT + (selector & ~7), descriptor(rights))
        self.put_word(GDT + TSS_64, descriptor(0x8B, base=TSS, limit=0x67))
        self.put_word(GDT + TSS_32, descriptor(0x8B, base=TSS, limit=0x67))
        self.put_word(GDT + TSS_16, descriptor(0x83, base=TSS16, limit=0x2B))
        if self.bits == 64:
            self.put_word(TSS + 4, STACK0)
            self.put_word(TSS + 0x24, IST1)
        else:
            self.put_word(TSS + 4, STACK0, 4)
            self.put_word(TSS + 8, DATA_0, 4)
        self.put_word(TSS16 + 2, STACK16, 2)
        self.put_word(TSS16 + 4, DATA_0, 2)
        self.put_word(TSS + 0x66, 0x68, 2)  # no I/O permission map
        for vector in range(256):
            self.set_gate(vector)
            self.put(HANDLERS + vector * 16, b"\xf4")

    # --- registers ---------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> int:
        """A register by name: rax .. r15, rip, rsp, rflags, cr0, cr3, cr4, efer, or a VMCS guest field."""
        if name in GPR_NAMES and name != "rsp":
            return self.engine.gpr[GPR_NAMES.index(name)]
        return self.vmcs.read(_field(name))

    def __setitem__(self, name: str, value: int) -> None:
        if name in GPR_NAMES and name != "rsp":
            self.engine.gpr[GPR_NAMES.index(name)] = value
        else:
            assert self.vmcs.write(_field(name), value) is None

    def set_segment(self, name: str, selector: int, rights: int, *, base: int = 0, limit: int = 0xFFFFFFFF) -> None:
        self[f"{name}_selector"], self[f"{name}_access_rights"] = selector, rights
        self[f"{name}_base"], self[f"{name}_limit"] = base, limit

    def _fill_registers(self, cpl: int) -> None:
        data, data_rights = (DATA_3, 0xC0F3) if cpl == 3 else (DATA_0, 0xC093)
        for name in ("es", "ss", "ds", "fs", "gs"):
            self.set_segment(name, data, data_rights)
        selector = {64: (CODE64_0, CODE64_3), 32: (CODE32_0, CODE32_3), 16: (CODE16_0, 0)}[self.bits][cpl == 3]
        self.set_segment("cs", selector, _DESCRIPTORS[selector], limit=0xFFFF if self.bits == 16 else 0xFFFFFFFF)
        self.set_segment("ldtr", 0, UNUSABLE)
        self.set_segment("tr", TSS_64 if self.bits == 64 else TSS_32, 0x8B, base=TSS, limit=0x67)
        self["gdtr_base"], self["gdtr_limit"], self["idtr_base"], self["idtr_limit"] = GDT, GDT_LIMIT, IDT, 0xFFF
        self["cr0"] = 0x80010031 if self.bits == 64 else 0x31
        self["cr3"] = PML4 if self.bits == 64 else 0
        self["cr4"] = 0x20 if self.bits == 64 else 0
        self["efer"] = 0xD01 if self.bits == 64 else 0
        self["rip"], self["rflags"], self["rsp"] = CODE, 2, STACK3 if cpl == 3 else STACK0

    # --- running -----------------------------------------------------------------------------------------------------

    def enter_non_root(self) -> None:
        """VMX non-root operation, no optional exits, all bitmaps zero."""
        self.shared.non_root = 1
        for field, value in (
            (
                f.PRIMARY_PROCESSOR_BASED_CONTROLS,
                1 << 28 | 1 << 25 | 1 << 31,
            ),  # MSR and I/O bitmaps, secondary controls
            (f.IO_BITMAP_A_ADDRESS, IO_BITMAP_A),
            (f.IO_BITMAP_B_ADDRESS, IO_BITMAP_B),
            (f.MSR_BITMAP_ADDRESS, MSR_BITMAP),
        ):
            self.vmcs.write(field, value)

    def set_control(self, field: int, mask: int) -> None:
        self.vmcs.write(field, self.vmcs.read(field) | mask)

    def clear_control(self, field: int, mask: int) -> None:
        self.vmcs.write(field, self.vmcs.read(field) & ~mask)

    def run(self, cycles: int = 10_000) -> "Rig":
        """Run for at most `cycles`, or until it halts, shuts down or a callback stops it."""
        self.engine.run(self.shared.clock_cycles + cycles)
        return self

    def _record(self) -> Next:
        read = self.vmcs.read
        seen = Exit(
            read(f.EXIT_REASON), read(f.EXIT_QUALIFICATION), read(f.VM_EXIT_INSTRUCTION_LENGTH),
            read(f.VM_EXIT_INTERRUPTION_INFORMATION), read(f.VM_EXIT_INTERRUPTION_ERROR_CODE),
            read(f.IDT_VECTORING_INFORMATION), read(f.IDT_VECTORING_ERROR_CODE), read(f.GUEST_RIP),
            read(f.GUEST_PHYSICAL_ADDRESS), read(f.GUEST_LINEAR_ADDRESS), read(f.VM_EXIT_INSTRUCTION_INFORMATION),
            int(self.shared.instructions),
        )  # fmt: skip
        self.exits.append(seen)
        return self.on_exit(seen)

    def step_over(self, seen: Exit) -> Next:
        """An `on_exit` that goes on behind the instruction."""
        self["rip"] += seen.instruction_bytes
        return RESUME

    def frame(self, *, has_error: bool) -> dict[str, int]:
        """What a 64-bit delivery pushed, by name."""
        names = (["error"] if has_error else []) + ["rip", "cs", "rflags", "rsp", "ss"]
        return dict(zip(names, self.words(self["rsp"], len(names)), strict=True))

    @property
    def is_halted(self) -> bool:
        return self.vmcs.read(f.GUEST_ACTIVITY_STATE) == 1

    @property
    def halted_in(self) -> int | None:
        """The vector whose handler it halted in, if it did."""
        behind = self["rip"] - 1 - HANDLERS
        return behind // 16 if self.is_halted and behind % 16 == 0 and 0 <= behind < 0x1000 else None


@cache
def _field(name: str) -> int:
    return int(getattr(f, {"efer": "GUEST_IA32_EFER"}.get(name, f"GUEST_{name.upper()}")))


def exits_of(rig: Rig) -> list[Exit]:
    """The exits of a run, without the VMCALL at its end; each instruction that exits is stepped over."""

    rig.on_exit = lambda seen: LEAVE if seen.reason == ExitReason.VMCALL else rig.step_over(seen)
    rig.run()
    assert rig.exits, "the program did not reach its end"
    assert rig.exits[-1].reason == ExitReason.VMCALL
    return rig.exits[:-1]


def guest(text: str, **changes: object) -> Rig:
    """A program behind a NOP, in non-root operation; it ends with VMCALL, which exits in any mode."""
    return Rig("nop\n" + text + "\n vmcall", non_root=True, **changes)  # type: ignore[arg-type]
