"""VMCALL: what a hypercall gets and returns, and who may make one."""

from emulator.vmx import fields as f
from emulator.x86 import GENERAL_PROTECTION, RAX, RDI, RSI
from tests.vmm.fakes import Bench, exception
from vmm.cost import paths
from vmm.exits.hypercalls import UNKNOWN, handle_vmcall
from vmm.outcome import AGAIN, NEXT
from vmm.vcpu import VCpu

NUMBER = 41
RING_3_DATA = 0xC0F3


def test_a_hypercall_gets_rdi_and_rsi_and_its_result_is_in_rax() -> None:
    bench = Bench()
    calls: list[tuple[VCpu, int, int]] = []

    def call(vcpu: VCpu, first: int, second: int) -> int:
        calls.append((vcpu, first, second))
        return 7

    bench.extensions.hypercalls[NUMBER] = call
    bench.gpr[RAX], bench.gpr[RDI], bench.gpr[RSI] = NUMBER, 3, 5
    assert handle_vmcall(bench.vcpu) is NEXT
    assert calls == [(bench.vcpu, 3, 5)]
    assert bench.gpr[RAX] == 7
    assert bench.meter.followed == [paths.HYPERCALL]


def test_an_unknown_number_returns_minus_enosys() -> None:
    bench = Bench()
    bench.gpr[RAX] = NUMBER
    assert handle_vmcall(bench.vcpu) is NEXT
    assert bench.gpr[RAX] == UNKNOWN & (1 << 64) - 1
    assert bench.injected is None


def test_a_negative_result_fills_rax() -> None:
    bench = Bench()
    bench.extensions.hypercalls[NUMBER] = lambda _vcpu, _first, _second: -1
    bench.gpr[RAX] = NUMBER
    handle_vmcall(bench.vcpu)
    assert bench.gpr[RAX] == (1 << 64) - 1


def test_from_ring_3_it_is_general_protection_and_nothing_is_called() -> None:
    bench = Bench()
    bench.set({f.GUEST_SS_ACCESS_RIGHTS: RING_3_DATA})
    bench.gpr[RAX] = NUMBER  # which is not known: RAX would change
    assert handle_vmcall(bench.vcpu) is AGAIN
    assert bench.injected == exception(GENERAL_PROTECTION, has_error_code=True)
    assert bench.gpr[RAX] == NUMBER
    assert bench.meter.followed == [paths.INJECT]
