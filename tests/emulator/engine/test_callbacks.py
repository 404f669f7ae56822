"""What a callback raises comes out of `run`, whichever callback it was, and the engine goes on afterwards."""

from typing import NoReturn

import pytest

from emulator.engine import LEAVE, Engine, Next
from emulator.engine.abi import Operation
from emulator.engine.operations import ANSWERS
from emulator.errors import GuestError
from emulator.memory import HostMemory
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason as R
from tests.emulator.engine.rig import CODE, DATA, MEMORY_BYTES, Exit, P, RecordingPlatform, Rig, W


class BrokenError(Exception):
    """Not an error this project knows."""


def fail(_: object) -> NoReturn:
    raise BrokenError


# callback of the platform, a program that calls it
CALLS = {
    "port_read": "in al, 0x10",
    "port_write": "out 0x10, al",
    "cpuid": "cpuid",
    "msr_read": "mov ecx, 0x8b\n rdmsr",
    "msr_write": "mov ecx, 0x8b\n wrmsr",
    "interrupt_vector": "sti\n nop\n nop",
}


@pytest.mark.parametrize("error", [BrokenError, KeyboardInterrupt, SystemExit, GuestError])
@pytest.mark.parametrize("name", CALLS)
def test_an_exception_of_the_platform_comes_out_of_run(
    name: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_it(*_: object) -> int:
        raise error

    rig = Rig(CALLS[name] + "\n 1: inc ebx\n jmp 1b")
    rig.shared.interrupt_pending = name == "interrupt_vector"
    with monkeypatch.context() as patch:
        patch.setattr(rig.platform, name, raise_it)
        with pytest.raises(error):
            rig.run()
    assert rig["rbx"] == 0, "it stopped at once"
    rig.shared.interrupt_pending = 0
    rig["rip"], rig["rsp"] = CODE, 0x30000
    rig.set_segment("cs", 8, 0xA09B)
    rig.platform.msrs[0x8B] = 0
    rig.run(100)
    assert rig["rbx"] > 10


def test_an_exception_of_the_exit_handler_comes_out_of_run_with_its_traceback() -> None:
    rig = Rig("cpuid\n inc ebx\n vmcall", non_root=True)
    rig.on_exit = fail
    with pytest.raises(BrokenError) as raised:
        rig.run()
    assert "fail" in [entry.name for entry in raised.traceback]
    assert rig["rip"] == CODE
    rig.on_exit = lambda seen: rig.step_over(seen) if seen.reason == 10 else LEAVE
    rig.run()
    assert rig["rbx"] == 1
    assert [seen.reason for seen in rig.exits] == [10, 10, 18]


def test_the_first_of_two_exceptions_is_the_one_that_comes_out() -> None:
    rig = Rig("sti\n in al, 0x10\n nop\n nop")

    def first(port: int) -> None:
        rig.shared.interrupt_pending = 1
        raise BrokenError

    rig.platform.on_port = first
    rig.platform.on_acknowledge = lambda: pytest.fail("it went on")
    with pytest.raises(BrokenError):
        rig.run()


def test_stop_from_a_callback_stops_before_the_next_instruction() -> None:
    rig = Rig("in al, 0x10\n inc ebx\n hlt")
    rig.platform.on_port = lambda port: rig.engine.stop()
    rig.run()
    assert (rig["rip"], rig["rbx"], rig.shared.instructions) == (CODE + 2, 0, 1)
    rig.run()
    assert (rig.is_halted, rig["rbx"]) == (True, 1)


@pytest.mark.parametrize("answer", Next)
def test_the_guest_goes_on_behind_an_exit_or_not_as_its_callback_answers(answer: Next) -> None:
    rig = Rig("cpuid\n inc ebx\n hlt", non_root=True)
    rig.on_exit = lambda seen: (rig.step_over(seen), answer)[1]
    rig.run()
    assert (rig["rbx"], rig.is_halted) == ((0, False) if answer is LEAVE else (1, True))
    rig.run()
    assert (rig["rbx"], rig.is_halted, len(rig.exits)) == (1, True, 1)


def test_what_waits_behind_an_exit_that_is_left_comes_in_the_next_run() -> None:
    rig = Rig("cpuid\n inc ebx\n hlt", non_root=True)
    rig["rflags"] = 0x202
    rig.shared.interrupt_pending = 1
    rig.vmcs.write(f.PIN_BASED_CONTROLS, c.PIN_EXTERNAL_INTERRUPT_EXITING)
    rig.on_exit = lambda seen: LEAVE
    reasons = [rig.run().exits[-1].reason for _ in range(2)]
    assert (reasons, rig["rip"], len(rig.exits)) == ([R.EXTERNAL_INTERRUPT] * 2, CODE, 2)


def test_a_deadline_that_a_callback_brings_nearer_counts() -> None:
    rig = Rig("in al, 0x10\n 1: inc ebx\n jmp 1b")
    rig.platform.on_port = lambda port: setattr(rig.shared, "deadline_cycles", int(rig.shared.clock_cycles) + 50)
    rig.run(10**9)
    assert 50 <= rig.shared.clock_cycles < 60


def test_cycles_that_a_callback_adds_count_against_the_deadline() -> None:
    rig = Rig("1: in al, 0x10\n inc ebx\n jmp 1b")

    def charge(port: int) -> None:
        rig.shared.clock_cycles += 1000

    rig.platform.on_port = charge
    rig.run(10_000)
    assert len(rig.platform.port_reads) == 10


def test_a_platform_answer_that_does_not_fit_is_an_error_not_a_crash() -> None:
    rig = Rig("in al, 0x10\n hlt")
    rig.platform.inputs[0x10] = 1 << 64
    with pytest.raises(OverflowError):
        rig.run()


def test_two_engines_over_one_memory_run_in_turns_and_keep_apart() -> None:
    """Each has its own registers; a store of one is seen by the other, as data and as code."""
    memory = HostMemory(MEMORY_BYTES)
    donor = Rig("1: mov eax, 1\n add ebx, eax\n jmp 1b")
    memory.write(0, donor.memory.read(0, 0x100000))
    rigs = [Engine(memory, RecordingPlatform()) for _ in range(2)]
    for engine in rigs:
        for slot in range(len(donor.engine.vmcs)):
            engine.vmcs[slot] = donor.engine.vmcs[slot]
    rigs[0].run(30)
    memory.write(CODE + 1, b"\x05")
    rigs[1].run(30)
    rigs[0].run(60)
    assert rigs[0].gpr[3] == 10 + 5 * 10
    assert rigs[1].gpr[3] == 5 * 10


def test_engines_can_be_closed_and_many_can_come_and_go() -> None:
    for _ in range(50):
        rig = Rig("hlt")
        rig.run()
        rig.engine.close()


def test_memory_at_a_linear_address_is_read_as_far_as_it_is_mapped() -> None:
    rig = Rig()
    rig.put(DATA + 0xFFE, b"abcd")
    assert rig.engine.read_linear(DATA + 0xFFE, 4) == b"abcd"
    rig.set_page(DATA + 0x1000, 0)
    assert rig.engine.read_linear(DATA + 0xFFE, 4) == b"ab"
    rig.set_page(DATA, (1 << 39) | P | W)
    assert rig.engine.read_linear(DATA, 4) == b""
    assert rig.engine.read_linear(-1, 4) == b""
    assert rig.engine.read_linear(DATA, 0) == b""


def test_code_at_rip_during_an_exit_is_what_exits() -> None:
    rig = Rig("nop\n cpuid\n hlt", non_root=True)
    seen: list[bytes] = []

    def look(_exit: Exit) -> Next:
        seen.append(rig.engine.code_at_rip())
        return LEAVE

    rig.on_exit = look
    rig.run()
    assert seen[0].startswith(b"\x0f\xa2\xf4")
    assert len(seen[0]) == 15


def test_an_exit_without_a_handler_is_an_error() -> None:
    rig = Rig("vmcall", non_root=True)
    rig.engine.on_exit = None
    with pytest.raises(AssertionError):
        rig.run()


def test_every_operation_has_an_answer() -> None:
    assert list(ANSWERS) == list(Operation)
