"""However a run is sliced into deadlines, the state and the clock are the same; and changed code is noticed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.engine.rig import CODE, DATA, HANDLERS, Rig, assemble

IRETQ = b"\x48\xcf"
# Everything that leaves a block early, in one program; R15 counts the interrupts.
PROGRAM = f"""
    mov r8, 12
again:
    mov ecx, 7
1:  add rax, 3
    imul rbx, rax, 5
    push rax
    pop rdx
    dec ecx
    jnz 1b
    cpuid
    mov edi, {DATA}
    mov ecx, 9
    rep stosb
    mov esi, {DATA}
    mov ecx, 4
    mov edx, 0x80
    rep outsb
    in eax, 0x10
    int 0x30
    mov rax, cr3
    mov cr3, rax
    rdtsc
    mov [{DATA + 64}], eax
    ud2
    sti
    nop
    cli
    mov eax, [0x80000000]
    lea rdi, [rip + 2f + 1]
    add byte ptr [rdi], 3
2:  mov al, 1
    add r9, rax
    dec r8
    jnz again
    hlt
"""
SKIP_UD2 = "add qword ptr [rsp], 2\n iretq"
SKIP_PF = "add rsp, 8\n add qword ptr [rsp], 7\n iretq"


def make() -> Rig:
    rig = Rig(PROGRAM)
    rig.put(HANDLERS + 0x300, IRETQ)
    for vector, text in ((6, SKIP_UD2), (14, SKIP_PF)):
        target = HANDLERS + 0x2000 + vector * 64
        rig.put(target, assemble(text, 64, target))
        rig.set_gate(vector, target=target)
    return rig


def state_of(rig: Rig) -> tuple[object, ...]:
    shared = rig.shared
    return (
        list(rig.engine.gpr), list(rig.engine.vmcs), rig.memory.read(0, 0x80000), rig.platform.port_writes,
        int(shared.clock_cycles), int(shared.instructions), int(shared.guest_cycles), int(shared.cr2),
    )  # fmt: skip


REFERENCE = state_of(make().run(1_000_000))


def test_the_reference_ends_where_it_should() -> None:
    rig = make().run(1_000_000)
    assert rig.is_halted
    assert rig["r8"] == 0
    assert len(rig.platform.port_writes) == 48
    assert state_of(rig) == REFERENCE


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_slicing_changes_nothing(steps: list[int]) -> None:
    rig = make()
    for i in range(100_000):
        rig.run(steps[i % len(steps)])
        if rig.is_halted:
            break
    assert state_of(rig) == REFERENCE


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=10))
def test_a_deadline_is_overrun_by_less_than_a_block(steps: list[int]) -> None:
    rig = make()
    longest_block = 32
    for step in steps * 5:
        before = int(rig.shared.clock_cycles)
        rig.run(step)
        assert rig.is_halted or before + step <= rig.shared.clock_cycles < before + step + longest_block


def test_a_deadline_that_is_past_runs_nothing() -> None:
    rig = make()
    rig.engine.run(0)
    assert (rig["rip"], rig.shared.instructions) == (CODE, 0)
