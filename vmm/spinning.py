"""A guest that spins: it loads a word that others will change again and again.

    load --> from where, finding what, with which registers? as last time --> the time in between was spin
                                                             twice the same --> rounds can be jumped over

Time between two loads that find the line and all registers as they were is booked as spin. If the loop has no effect
but on registers, and two rounds took the same with all branches predicted, rounds that nobody could end may be jumped
over: all counters are what they would be had each been executed. Until when nobody could, is for the page's owner to
say (sidecore/access.py, nic/access.py).
"""

from collections.abc import Callable
from typing import NamedTuple

import capstone

from emulator.clock import ENGINE_COUNTERS
from emulator.ledger import RUNNING, Category
from emulator.vmx import fields as f
from vmm.vcpu import VCpu

LOOP_MAX_BYTES = 64
LOOPS_MAX = 64  # remembered
REGISTERS = slice(0, 16)
IN_64THS = (("guest_cycles", "work_64ths"), ("memory_cycles", "stall_64ths"))  # counters with a fraction of a cycle
LOOP_INSTRUCTIONS = frozenset({"mov", "movzx", "cmp", "test", "and", "pause", "nop"})


class Counters(NamedTuple):
    """The engine's counters at a load; the first two in 64ths of a cycle."""

    guest_64ths: int
    memory_64ths: int
    walk_cycles: int
    branch_cycles: int
    event_cycles: int
    instructions: int
    clock_cycles: int


class Load(NamedTuple):
    """A load of a shared word: where from, what it found, and the registers."""

    rip: int
    hpa: int
    line: bytes
    registers: bytes
    rsp: int
    rflags: int


class Spin(NamedTuple):
    """Rounds of a loop that can be jumped over: the load they begin with, and by what each makes the counters grow."""

    load: Load
    took: tuple[int, ...]


class Spinning:
    """Whether `vcpu` spins on a page it shares. `read_line(hpa)` is the line with that address."""

    def __init__(self, vcpu: VCpu, read_line: Callable[[int], bytes]) -> None:
        self._vcpu = vcpu
        self._read_line = read_line
        self._last: tuple[Load, Counters] | None = None
        self._round: tuple[int, ...] | None = None  # what the last round of a spin took
        self._loops: dict[tuple[int, bytes], int] = {}  # (RIP, code) -> instructions of a round; 0: it is no loop

    def forget(self) -> None:
        """The guest does something else."""
        self._last = None

    def watch(self, hpa: int) -> Spin | None:
        """The guest loads a word now: the rounds that it would spin, if they can be jumped over."""
        load, now = self._load(hpa), self._counters()
        last, self._last = self._last, (load, now)
        if last is None or last[0] != load:
            self._round = None
            return None
        took = tuple(new - old for new, old in zip(now, last[1], strict=True))
        if took[-1] == 0:
            return None  # the same load, put off
        if not self._is_quiet(last[1], now):
            self._round = None
            return None
        self._book(last[1], now)
        before, self._round = self._round, took[:-1]
        return Spin(load, took) if before == self._round and self._can_jump(load, took) else None

    def _can_jump(self, load: Load, took: tuple[int, ...]) -> bool:
        is_steady = took[2] == took[3] == 0  # no walk, no wrong prediction, twice: the predictor is as it will stay
        return is_steady and not self._vcpu.shared.interrupt_pending and self._loop_instructions(load.rip) == took[5]

    def rounds_until(self, limit_cycles: int, spin: Spin) -> int:
        """How many rounds end before `limit_cycles` for sure, but for one."""
        fractions_cycles, took = 2, spin.took
        return 64 * (limit_cycles - int(self._vcpu.shared.clock_cycles) - fractions_cycles) // (took[0] + took[1]) - 1

    def skip(self, spin: Spin, limit_cycles: int) -> None:
        """Jump over the rounds that end before `limit_cycles`."""
        shared, rounds = self._vcpu.shared, self.rounds_until(limit_cycles, spin)
        if rounds <= 0:
            return
        old = self._counters()
        grown = [before + rounds * growth for before, growth in zip(old, spin.took, strict=True)]
        for number, (cycles, fraction) in enumerate(IN_64THS):
            setattr(shared, cycles, grown[number] >> 6)
            setattr(shared, fraction, grown[number] & 63)
        shared.instructions = grown[5]
        new = self._counters()
        shared.clock_cycles += sum(self._whole(new)) - sum(self._whole(old))
        new = self._counters()
        self._book(old, new)
        self._last = (spin.load, new)

    def _load(self, hpa: int) -> Load:
        vcpu = self._vcpu
        return Load(
            vcpu.rip,
            hpa,
            self._read_line(hpa),
            bytes(vcpu.gpr[REGISTERS]),
            vcpu.vmcs.read(f.GUEST_RSP),
            vcpu.vmcs.read(f.GUEST_RFLAGS),
        )

    def _counters(self) -> Counters:
        s = self._vcpu.shared
        return Counters(
            64 * s.guest_cycles + s.work_64ths,
            64 * s.memory_cycles + s.stall_64ths,
            s.walk_cycles,
            s.branch_cycles,
            s.event_cycles,
            s.instructions,
            s.clock_cycles,
        )

    @staticmethod
    def _whole(counters: Counters) -> tuple[int, int, int, int, int]:
        """Cycles by counter, as the engine books them."""
        return (counters[0] >> 6, counters[1] >> 6, counters[2], counters[3], counters[4])

    def _is_quiet(self, old: Counters, new: Counters) -> bool:
        """Whether nothing but the guest's own instructions took time in between: no exit, no event."""
        guest_cycles = sum(self._whole(new)) - sum(self._whole(old))
        return new.clock_cycles - old.clock_cycles == guest_cycles and new.event_cycles == old.event_cycles

    def _book(self, old: Counters, new: Counters) -> None:
        """What the counters grew by was spin."""
        pcpu = self._vcpu.pcpu
        account = pcpu.clock.book().account(self._vcpu.engine.owner, RUNNING)
        counters = zip(ENGINE_COUNTERS[:-1], self._whole(new), self._whole(old), strict=True)  # siblings took nothing
        for (_, category), after, before in counters:
            account[category] -= after - before
            account[Category.SPIN] += after - before

    def _loop_instructions(self, rip: int) -> int:
        """How many instructions the loop around RIP has, if it does nothing but load and compare; else 0."""
        code = self._vcpu.engine.read_linear(rip - LOOP_MAX_BYTES, 2 * LOOP_MAX_BYTES)
        key = (rip, code)
        if key not in self._loops:
            if len(self._loops) >= LOOPS_MAX:
                self._loops.clear()
            self._loops[key] = _count_loop(rip, code) if len(code) == 2 * LOOP_MAX_BYTES else 0
        return self._loops[key]


def _count_loop(rip: int, code: bytes) -> int:
    """Instructions from the target of the first jump back, over `rip`, to that jump; 0 if one of them may store."""
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    end = 0
    for insn in decoder.disasm(code[LOOP_MAX_BYTES:], rip):
        if capstone.CS_GRP_JUMP in insn.groups:
            target = insn.operands[0]
            if target.type != capstone.x86.X86_OP_IMM:
                return 0
            if target.imm <= rip:
                start, end = target.imm, insn.address + insn.size
                break
        elif not _is_harmless(insn):
            return 0
    if not end or start < rip - LOOP_MAX_BYTES:
        return 0
    body = list(decoder.disasm(code[start - rip + LOOP_MAX_BYTES : end - rip + LOOP_MAX_BYTES], start))
    covers = bool(body) and body[-1].address + body[-1].size == end and any(insn.address == rip for insn in body)
    harmless = all(_is_harmless(insn) or insn.id != capstone.x86.X86_INS_JMP or insn is body[-1] for insn in body)
    stores = any(not _is_harmless(insn) and capstone.CS_GRP_JUMP not in insn.groups for insn in body)
    return len(body) if covers and harmless and not stores else 0


def _is_harmless(insn: capstone.CsInsn) -> bool:
    """Whether it changes registers and flags only."""
    if insn.mnemonic not in LOOP_INSTRUCTIONS:
        return False
    first = insn.operands[0] if insn.operands else None
    return first is None or insn.mnemonic in ("cmp", "test") or first.type == capstone.x86.X86_OP_REG
