"""Runs cases on both processors and tells how they differ, by names that say what differs.

exception_rip        the same exception, but of another instruction
exception            one of them raised another exception, or none (-1); everything else follows from that
ending               one halted, the other shut down or ran on
rax, cs_base, cr2    a register
frame_error_code     what the delivery of an exception pushed (frame_rip, frame_rflags, ...)
fsw_top, st3, xmm7   x87 and SSE state, from FXSAVE
memory               the first byte of memory that differs
"""

from dataclasses import dataclass

import numpy as np

from emulator.engine import FLUSH_ALL
from emulator.memory import HostMemory
from tests.emulator.engine.rig import UNUSABLE
from tests.fuzz.bochs import HALT, LIMIT, SHUTDOWN, Bochs
from tests.fuzz.engine_side import OurCpu
from tests.fuzz.instruction_cases import Case
from tests.fuzz.modes import (
    CODE,
    CODE_BYTES,
    HANDLERS,
    HLT,
    LOW_BYTES,
    MEMORY_BYTES,
    TABLES,
    TABLES_END,
    VECTOR_AFTER,
    VM,
    memory_image,
    vector_snippet,
)
from tests.fuzz.processor_state import NAMES, PLACE, State

LIMIT_INSTRUCTIONS = 300
REGIONS = ((0, LOW_BYTES), (TABLES, VECTOR_AFTER))
LOAD, SAVE = vector_snippet(0), vector_snippet(64)
WITH_ERROR_CODE = frozenset((8, 10, 11, 12, 13, 14, 17))
RIP, RSP, CR0, EFER, SS_BASE, SS_RIGHTS, RFLAGS = (
    PLACE[name] for name in ("rip", "rsp", "cr0", "efer", "ss_base", "ss_access_rights", "rflags")
)
STACK_OF_32_BITS = 1 << 14
# Parts of an FXSAVE image (SDM 1 10.5.1): name, offset, bytes, mask. FOP, FIP and FDP are left out.
VECTOR_PARTS = (
    ("fcw", 0, 2, 0xFFFF), ("fsw_exceptions", 2, 2, 0x80FF), ("fsw_conditions", 2, 2, 0x4700),
    ("fsw_top", 2, 2, 0x3800), ("ftw", 4, 1, 0xFF), ("mxcsr_exceptions", 24, 2, 0x3F), ("mxcsr", 24, 4, 0xFFFFFFC0),
    *((f"st{i}", 32 + 16 * i, 8, (1 << 64) - 1) for i in range(8)),
    *((f"st{i}_exponent", 40 + 16 * i, 2, 0xFFFF) for i in range(8)),
    *((f"xmm{i}", 160 + 16 * i, 16, (1 << 128) - 1) for i in range(16)),
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One thing: what Bochs has and what we have."""

    name: str
    theirs: int
    ours: int

    def __str__(self) -> str:
        return f"{self.name}: {self.theirs:#x}, ours {self.ours:#x}"


def _vector(how: int, state: State) -> int:
    """The exception in whose handler a run halted, or -1."""
    at = state[RIP] - HANDLERS - 1
    return at >> 4 if how == HALT and not at & 15 and 0 <= at < 0x1000 else -1


def _frame(vector: int, state: State) -> tuple[int, dict[str, int]]:
    """Bytes of each word of the frame that a delivery pushed, and their addresses."""
    width = 8 if state[EFER] & 0x400 else 4 if state[CR0] & 1 else 2
    names = ["rip", "cs", "rflags", "rsp", "ss"]
    if vector in WITH_ERROR_CODE and width > 2:
        names.insert(0, "error_code")
    wide_stack = width == 8 or state[SS_RIGHTS] & STACK_OF_32_BITS
    base = state[SS_BASE] + (state[RSP] if wide_stack else state[RSP] & 0xFFFF)
    return width, {name: base + width * i for i, name in enumerate(names)}


class Comparison:
    """Both processors, each with its memory."""

    def __init__(self) -> None:
        self.theirs = Bochs(MEMORY_BYTES)
        self.ours = OurCpu(MEMORY_BYTES)
        self.theirs.expect(CODE, CODE_BYTES, HANDLERS, LOW_BYTES, TABLES, TABLES_END)
        self.strayed = False  # see Bochs.has_strayed
        image = memory_image()
        self._image = [(start, end, image[start:end]) for start, end in ((0, LOW_BYTES), (TABLES, TABLES_END))]
        for memory in (self.theirs.memory, self.ours.memory):
            memory.write(0, image)

    def run(self, case: Case) -> list[Difference]:
        """Run a case on both: how they differ."""
        differences = self._run(case, vector=case.uses_vector_state)
        if differences and not case.uses_vector_state:
            differences = self._run(case, vector=True)  # it may have jumped into anything
        return differences

    def _prepare(self, case: Case) -> None:
        if self.strayed:
            for memory in (self.theirs.memory, self.ours.memory):
                memory.write(0, memory_image())
        code = b"".join(case.code) + HLT * 192
        for memory in (self.theirs.memory, self.ours.memory):
            for start, _, image in self._image:
                memory.write(start, image)
            memory.write(CODE, code)
            for at, data in case.memory.items():
                memory.write(at, data)
        self.ours.shared.flush_tlb = FLUSH_ALL

    def _run(self, case: Case, *, vector: bool) -> list[Difference]:
        self._prepare(case)
        if vector:
            self._run_snippet(LOAD)
        state = case.state()
        their_end, theirs = self.theirs.run(state, LIMIT_INSTRUCTIONS)
        self.strayed = self.theirs.has_strayed()
        our_end, ours = self.ours.run(state, LIMIT_INSTRUCTIONS)
        if their_end != our_end:
            return [Difference("ending", their_end, our_end)]
        if their_end in (LIMIT, SHUTDOWN):  # a shutdown leaves what its last, failed deliveries happened to do
            return []
        vectors = _vector(their_end, theirs), _vector(our_end, ours)
        if vectors[0] != vectors[1]:
            return [Difference("exception", *vectors)]
        rips = [self._return_rip(vectors[0], p.memory, s) for p, s in ((self.theirs, theirs), (self.ours, ours))]
        if rips[0] != rips[1]:
            return [Difference("exception_rip", *rips)]
        if vector:
            self._run_snippet(SAVE)
        differences = _register_differences(theirs, ours) if theirs != ours else []
        differences += self._memory_differences(vectors[0], ours)
        if vector:
            differences += self._vector_differences()
        return differences

    def _run_snippet(self, state: State) -> None:
        for processor in (self.theirs, self.ours):
            how, _state = processor.run(state, 10)
            assert how == HALT

    def _memory_differences(self, vector: int, state: State) -> list[Difference]:
        found: list[Difference] = []
        for start, end in REGIONS:
            theirs, ours = self.theirs.memory.map[start:end], self.ours.memory.map[start:end]
            if theirs == ours:
                continue
            differ = np.flatnonzero(np.frombuffer(theirs, np.uint8) != np.frombuffer(ours, np.uint8)) + start
            places = [int(at) for at in differ]
            found += self._frame_differences(vector, state, places)
            if places:
                at = places[0] - start
                found.append(Difference("memory", theirs[at] | places[0] << 8, ours[at] | places[0] << 8))
        return found

    def _return_rip(self, vector: int, memory: HostMemory, state: State) -> int:
        """The RIP that the delivery of `vector` pushed, or 0."""
        if vector < 0:
            return 0
        width, places = _frame(vector, state)
        return int.from_bytes(memory.read(places["rip"], width), "little")

    def _frame_differences(self, vector: int, state: State, places: list[int]) -> list[Difference]:
        """Take those places that lie in the frame of an exception out of `places`."""
        if vector < 0:
            return []
        found = []
        width, frame = _frame(vector, state)
        for name, at in frame.items():
            inside = [place for place in places if at <= place < at + width]
            if inside:
                values = [int.from_bytes(p.memory.read(at, width), "little") for p in (self.theirs, self.ours)]
                found.append(Difference(f"frame_{name}", *values))
                places[:] = [place for place in places if place not in inside]
        return found

    def _vector_differences(self) -> list[Difference]:
        theirs, ours = (p.memory.read(VECTOR_AFTER, 416) for p in (self.theirs, self.ours))
        if theirs == ours:
            return []
        found = []
        for name, at, size, mask in VECTOR_PARTS:
            values = [int.from_bytes(image[at : at + size], "little") & mask for image in (theirs, ours)]
            if values[0] != values[1]:
                found.append(Difference(name, *values))
        return found


def _register_differences(theirs: State, ours: State) -> list[Difference]:
    """Bochs tells the rights of real mode's CS as after a reset; those of an unusable segment mean nothing."""
    real_mode = not ours[CR0] & 1 or ours[RFLAGS] & VM
    found = []
    for name, their, our in zip(NAMES, theirs, ours, strict=True):
        if their == our or (name == "cs_access_rights" and real_mode):
            continue
        segment, _, part = name.partition("_")
        rights = PLACE.get(f"{segment}_access_rights")
        if rights is not None and part != "selector" and theirs[rights] & ours[rights] & UNUSABLE:
            continue
        found.append(Difference(name, their, our))
    return found
