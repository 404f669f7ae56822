"""The guest's accesses to its page of slots: in order of time, with what the lines take; and its spinning.

    load or store --> trap (emulator/engine/watched_page.c) --> now? --> the line's cost --> the access itself
                                                                |
                                              no: another core is behind; again in another turn

A guest that waits for an answer loads the same word again and again. Time between two loads that find the line and all
registers as they were is booked as spin. If its loop has no effect but on registers, and two rounds took the same with
all branches predicted, the rounds that nobody could end are jumped over: all counters are what they would be had each
been executed.
"""

from functools import partial
from typing import NamedTuple

import capstone

from emulator.clock import ENGINE_COUNTERS
from emulator.ledger import RUNNING, Category
from emulator.timing.shared_lines import SharedLines
from emulator.vmx import fields as f
from vmm.line_access import LineAccess
from vmm.sidecore import abi
from vmm.sidecore.service import Sidecore
from vmm.sidecore.slots import SlotPage
from vmm.vcpu import VCpu

LINE_MASK = abi.SLOT_BYTES - 1
LOOP_MAX_BYTES = 64
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
    """A load of a slot: where from, what it found, and the registers."""

    rip: int
    hpa: int
    line: bytes
    registers: bytes
    rsp: int
    rflags: int


class GuestAccess:
    """Accesses of `vcpu` to `page`, which `sidecore` serves. `jumps` False: every spin is executed."""

    def __init__(
        self, vcpu: VCpu, page: SlotPage, sidecore: Sidecore, lines: SharedLines, *, jumps: bool = True
    ) -> None:
        self._vcpu = vcpu
        self._page = page
        self._sidecore = sidecore
        self._access = LineAccess(vcpu, lines)
        self._jumps = jumps
        self._stored: tuple[int, int] | None = None  # (hpa, visible from)
        self._last: tuple[Load, Counters] | None = None
        self._round: tuple[int, ...] | None = None  # what the last round of a spin took
        self._loops: dict[tuple[int, bytes], int] = {}  # (RIP, code) -> instructions of a round; 0: it is no loop

    def begin(self, hpa: int, is_store: bool) -> bool:
        """May the access take place now? Charges what it takes."""
        access = self._access
        if not access.is_due:
            return False
        if is_store:
            self._last = None
            self._stored = (hpa, access.store(hpa))
            return True
        if access.load(hpa):
            self._last = None
            if not access.is_in_turn:
                return False
        self._watch_spin(hpa)
        return not self._vcpu.pcpu.waiting.is_spinning

    def finish_store(self) -> None:
        """A store has taken place: it may have posted a request."""
        assert self._stored is not None
        hpa, visible_cycles = self._stored
        slot = self._page.slot_at(hpa)
        if slot is not None:
            self._sidecore.notice(slot, visible_cycles)
            if self._sidecore.is_on_duty:
                self._vcpu.pcpu.bound_by(self._sidecore.pcpu)

    # --- spinning ----------------------------------------------------------------------------------------------------

    def _watch_spin(self, hpa: int) -> None:
        load, now = self._load(hpa), self._counters()
        last, self._last = self._last, (load, now)
        if last is None or last[0] != load:
            self._round = None
            return
        took = tuple(new - old for new, old in zip(now, last[1], strict=True))
        if took[-1] == 0:
            return  # the same load, put off
        if not self._is_quiet(last[1], now):
            self._round = None
            return
        self._book_spin(last[1], now)
        if took[:-1] == self._round and self._jumps:
            self._jump(load, took)
        self._round = took[:-1]

    def _load(self, hpa: int) -> Load:
        vcpu, at = self._vcpu, (hpa & ~LINE_MASK) - self._page.hpa
        words = vcpu.vmcs
        return Load(
            vcpu.rip,
            hpa,
            self._page.domain.read(self._page.gpa + at, abi.SLOT_BYTES),
            bytes(vcpu.gpr[REGISTERS]),
            words.read(f.GUEST_RSP),
            words.read(f.GUEST_RFLAGS),
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

    def _book_spin(self, old: Counters, new: Counters) -> None:
        """What the counters grew by was spin."""
        pcpu = self._vcpu.pcpu
        account = pcpu.clock.book().account(self._vcpu.engine.owner, RUNNING)
        counters = zip(ENGINE_COUNTERS[:-1], self._whole(new), self._whole(old), strict=True)  # siblings took nothing
        for (_, category), after, before in counters:
            account[category] -= after - before
            account[Category.SPIN] += after - before

    def _jump(self, load: Load, took: tuple[int, ...]) -> None:
        """Jump over the rounds that end before anybody else can do anything to the line."""
        is_steady = took[2] == took[3] == 0  # no walk, no wrong prediction, twice: the predictor is as it will stay
        if not is_steady or self._vcpu.shared.interrupt_pending or self._loop_instructions(load.rip) != took[5]:
            return
        slot, pcpu = self._page.slot_at(load.hpa), self._vcpu.pcpu
        if slot is None or len(self._page.vcpus) > 1 or not self._sidecore.will_wake(slot):
            self._skip(load, took, self._next_change_cycles())
        elif slot.answer_cycles is None:
            pcpu.waiting.spin(partial(self._skip, load, took))
        elif self._rounds_until(slot.answer_cycles, took) > 0:
            pcpu.waiting.spin(partial(self._skip, load, took))
            pcpu.waiting.end_spin(slot.answer_cycles - 1)

    def _rounds_until(self, limit_cycles: int, took: tuple[int, ...]) -> int:
        """How many rounds end before `limit_cycles` for sure, but for one."""
        fractions_cycles = 2
        return 64 * (limit_cycles - int(self._vcpu.shared.clock_cycles) - fractions_cycles) // (took[0] + took[1]) - 1

    def _skip(self, load: Load, took: tuple[int, ...], limit_cycles: int) -> None:
        """Jump over the rounds that end before `limit_cycles`."""
        shared, rounds = self._vcpu.shared, self._rounds_until(limit_cycles, took)
        if rounds <= 0:
            return
        old = self._counters()
        grown = [before + rounds * growth for before, growth in zip(old, took, strict=True)]
        for number, (cycles, fraction) in enumerate(IN_64THS):
            setattr(shared, cycles, grown[number] >> 6)
            setattr(shared, fraction, grown[number] & 63)
        shared.instructions = grown[5]
        new = self._counters()
        shared.clock_cycles += sum(self._whole(new)) - sum(self._whole(old))
        new = self._counters()
        self._book_spin(old, new)
        self._last = (load, new)

    def _next_change_cycles(self) -> int:
        """Until when the line stays as it is, and no interrupt comes.

        Of a guest with one processor only the sidecore changes it, by an event, or after it goes on; so other guests
        that are behind do not matter, though this core gets ahead of them.
        """
        shared, pcpu, ready = self._vcpu.shared, self._vcpu.pcpu, self._sidecore.pcpu.waiting.ready_cycles
        limit_cycles = min(int(shared.deadline_cycles), pcpu.clock.horizon_cycles)
        if ready is None or len(self._page.vcpus) > 1:
            return limit_cycles
        next_cycles = pcpu.timeline.next_event_cycles()
        return max(limit_cycles, ready if next_cycles is None else min(ready, next_cycles))

    def _loop_instructions(self, rip: int) -> int:
        """How many instructions the loop around RIP has, if it does nothing but load and compare; else 0."""
        code = self._vcpu.engine.read_linear(rip - LOOP_MAX_BYTES, 2 * LOOP_MAX_BYTES)
        key = (rip, code)
        if key not in self._loops:
            if len(self._loops) >= abi.SLOTS_MAX:
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
