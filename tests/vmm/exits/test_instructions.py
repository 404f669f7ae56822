"""HLT, INVLPG, INVD, WBINVD, and the instructions that CPUID hides."""

from emulator.vmx import fields as f
from emulator.x86 import INVALID_OPCODE
from tests.vmm.fakes import Bench, exception
from vmm.cost import paths
from vmm.exits.instructions import handle_hidden_instruction, handle_hlt, handle_invlpg, handle_nothing_to_do
from vmm.outcome import AGAIN, NEXT, WAIT


def test_hlt_waits_and_leaves_the_sleep_to_the_loop() -> None:
    bench = Bench()
    assert handle_hlt(bench.vcpu) is WAIT
    assert bench.core.asked == []
    assert bench.meter.followed == []


def test_invlpg_goes_to_the_paging_with_its_address() -> None:
    bench = Bench()
    bench.set({f.EXIT_QUALIFICATION: 0xFFFF_8000_1234_5678})
    assert handle_invlpg(bench.vcpu) is NEXT
    assert bench.paging.asked == [("invlpg", 0xFFFF_8000_1234_5678)]
    assert bench.meter.followed == [paths.INVLPG]


def test_invd_and_wbinvd_do_nothing() -> None:
    bench = Bench()
    assert handle_nothing_to_do(bench.vcpu) is NEXT
    assert bench.paging.asked == []
    assert bench.meter.followed == []


def test_a_hidden_instruction_is_undefined() -> None:
    bench = Bench()
    assert handle_hidden_instruction(bench.vcpu) is AGAIN
    assert bench.injected == exception(INVALID_OPCODE)
    assert bench.meter.followed == [paths.INJECT]
