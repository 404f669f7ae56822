"""Python is told before each instruction that it watches, and nothing else changes."""

from collections.abc import Sequence

import pytest

from tests.emulator.engine.rig import CODE, DATA, Rig

ALL = (0, (1 << 64) - 1)
LOOP = f"mov rdi, {DATA}\n mov ecx, 3\n again: inc rax\n mov [rdi], rax\n dec ecx\n jnz again\n hlt"


def watched(rig: Rig, spans: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
    """RIP, RAX, RCX, and ZF before each instruction that lies in `spans`."""
    seen: list[tuple[int, ...]] = []
    rig.engine.on_instruction = lambda: seen.append((rig["rip"] - CODE, rig["rax"], rig["rcx"], rig["rflags"] >> 6 & 1))
    rig.engine.watch_instructions(spans)
    rig.run(10**6)
    return seen


def test_registers_and_flags_are_those_before_each_instruction() -> None:
    seen = watched(Rig(LOOP), [ALL])
    rounds = [
        [(12, n, 3 - n, 0), (15, n + 1, 3 - n, 0), (18, n + 1, 3 - n, 0), (20, n + 1, 2 - n, int(n == 2))]
        for n in range(3)
    ]
    flat = [line for lines in rounds for line in lines]
    assert [line[:3] for line in seen] == [(0, 0, 0), (7, 0, 0), *(line[:3] for line in flat), (22, 3, 0)]
    assert [line for line in seen if line[0] == 20] == [line for line in flat if line[0] == 20]


def test_only_instructions_of_the_spans_are_told() -> None:
    assert [line[0] for line in watched(Rig(LOOP), [(CODE + 15, CODE + 15), (CODE + 22, CODE + 30)])] == [
        15,
        15,
        15,
        22,
    ]


def test_rip_is_an_offset_in_a_segment_with_a_base() -> None:
    rig = Rig("nop\n hlt", bits=16)
    rig["cs_base"], rig["rip"] = CODE - 0x100, 0x100
    seen: list[int] = []
    rig.engine.on_instruction = lambda: seen.append(rig["rip"])
    rig.engine.watch_instructions([ALL])
    rig.run(1000)
    assert seen == [0x100, 0x101]


def test_what_is_written_meanwhile_is_lost() -> None:
    rig = Rig("mov eax, 1\n hlt")

    def scribble() -> None:
        rig["rax"], rig["rip"], rig.shared.cr2 = 99, 0, 77

    rig.engine.on_instruction = scribble
    rig.engine.watch_instructions([ALL])
    rig.run(1000)
    assert (rig["rax"], rig["rip"], int(rig.shared.cr2)) == (1, CODE + 6, 0)


def test_an_error_of_who_is_told_comes_out_of_the_run() -> None:
    rig = Rig(LOOP)

    def fail() -> None:
        raise KeyError("mine")

    rig.engine.on_instruction = fail
    rig.engine.watch_instructions([(CODE + 12, CODE + 12)])
    with pytest.raises(KeyError, match="mine"):
        rig.run(1000)


def test_there_is_a_limit_to_spans() -> None:
    rig = Rig()
    rig.engine.watch_instructions([(1, 1)] * 64)
    with pytest.raises(ValueError, match="65 spans"):
        rig.engine.watch_instructions([(1, 1)] * 65)


@pytest.mark.parametrize("count", [20, 100, 400, 1000])
def test_a_long_block_takes_as_long(count: int) -> None:
    def run(spans: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
        rig = Rig(f"mov rdi, {DATA}\n" + "add [rdi], rax\n" * count + "hlt")
        return len(watched(rig, spans)), int(rig.shared.clock_cycles), int(rig.shared.instructions)

    assert run([ALL]) == (count + 2, *run([])[1:])


def test_spans_that_grow_inside_a_block_count_at_once() -> None:
    rig = Rig(LOOP)
    seen: list[int] = []

    def tell() -> None:
        seen.append(rig["rip"] - CODE)
        if len(seen) == 1:
            rig.engine.watch_instructions([ALL])

    rig.engine.on_instruction = tell
    rig.engine.watch_instructions([(CODE + 15, CODE + 15)])
    rig.run(10**6)
    assert seen == [15, 18, 20, 12, 15, 18, 20, 12, 15, 18, 20, 22]
