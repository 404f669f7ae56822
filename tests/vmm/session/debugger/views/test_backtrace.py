"""Stacks: by frame pointers, by guesses, of the VMM; and stacks that make no sense."""

import sys

import pytest

import sidecore
from emulator.vmx import fields as f
from emulator.x86 import RBP
from tests.vmm.session.debugger.views.rig import MIB, Watcher, check_view, looked_at, stopped
from vmm.cost.meter import Charge, Meter
from vmm.session.debugger.views.backtrace import Backtrace, backtrace
from vmm.session.debugger.views.subject import Subject
from vmm.vcpu import Exit, VCpu

STACK, CODE = 28 * MIB, 29 * MIB  # that the kernel does not use
CALL, INDIRECT, OTHER = b"\xe8\0\0\0\0", b"\x90\x90\x90\xff\xd0", b"\x90" * 5


def with_stack(words: dict[int, int], *, rbp: int) -> Subject:
    """A stack with these words at these offsets; behind CODE + 16, 32 and 48 are two calls, and none."""
    subject = stopped("default", "ept", 2_000_000)
    subject.symbols = type(subject.symbols)()
    for place, code in ((16, CALL), (32, INDIRECT), (48, OTHER)):
        subject.memory.write(CODE + place - 5, code)
    subject.memory.write(STACK, bytes(4096))
    for offset, word in words.items():
        subject.memory.write(STACK + offset, (word & (1 << 64) - 1).to_bytes(8, "little"))
    subject.vmcs.save(f.GUEST_RSP, STACK)
    subject.engine.gpr[RBP] = rbp
    return subject


def found(subject: Subject) -> list[tuple[int, bool]]:
    shown = backtrace(subject)
    check_view(shown)
    return [(frame.address - CODE, frame.is_certain) for frame in shown.guest[1:]]


def test_frame_pointers_are_certain_and_the_rest_are_guesses() -> None:
    words = {8: CODE + 32, 16: STACK + 64, 24: CODE + 16, 40: CODE + 48, 64: 0, 72: CODE + 32}
    assert found(with_stack(words, rbp=STACK + 16)) == [(32, False), (16, True), (32, True)]


def test_without_frame_pointers_there_are_guesses_only() -> None:
    assert found(with_stack({8: CODE + 16, 16: CODE + 48, 24: CODE + 32}, rbp=5)) == [(16, False), (32, False)]


@pytest.mark.parametrize("next_frame", [STACK + 16, STACK, 0, (1 << 64) - 8, 1 << 47, STACK + (1 << 20)])
def test_a_chain_that_does_not_grow_ends(next_frame: int) -> None:
    assert found(with_stack({16: next_frame, 24: CODE + 16}, rbp=STACK + 16)) == [(16, True)]


def test_a_stack_that_is_not_mapped_has_only_rip() -> None:
    subject = with_stack({}, rbp=1 << 63)
    subject.vmcs.save(f.GUEST_RSP, 1 << 47)
    assert found(subject) == []


def test_a_kernel_of_ours_shows_who_called() -> None:
    subject = stopped("default", "shadow", 2_000_000)
    names = [frame.symbol.partition("+")[0] for frame in backtrace(subject).guest]
    assert names == ["print_list", "print", "guest_main", "guest_start", "image_start"]


class Caller(Watcher):
    """The stack at the first VMREAD of the qualification."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Backtrace | None = None
        self._vcpu: VCpu | None = None

    def exit_began(self, vcpu: VCpu, exit: Exit) -> None:
        self._vcpu = vcpu

    def charged(self, meter: Meter, charge: Charge) -> None:
        if self.seen is None and self._vcpu is not None and charge.what == "VMREAD EXIT_QUALIFICATION":
            self.seen = backtrace(self.subjects[0], sys._getframe())


def test_the_vmms_frames_end_where_the_exit_began() -> None:
    caller = Caller()
    looked_at(caller, "apic", "ept").run(sidecore.Limits(max_cycles=1_000_000))
    assert caller.seen is not None
    check_view(caller.seen)
    names = [frame.function for frame in caller.seen.vmm]
    assert names[0] == "Caller.charged"
    assert names[-2:] == ["handle_io", "ExitLoop.on_exit"]
    assert caller.seen.vmm[-1].file == "vmm/exits/loop.py"
    assert caller.seen.vmm[-1].code == "outcome = handler(vcpu)"
    lines = caller.seen.text().splitlines()
    assert lines[len(names)] == "--- VM exit IO_INSTRUCTION ---"
    assert lines[len(names) + 1].startswith("#0 ")
