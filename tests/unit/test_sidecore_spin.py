"""Jumped-over polling and spinning change nothing: clocks, ledgers, trace and output are those of executed ones."""

import pytest

from emulator.timing.core_timing import Fidelity
from vmm.boot import BootOptions, Paging, build_guest, plan
from vmm.virtual_guest import VirtualGuest


def run(paging: Paging, timing: Fidelity, *, jumps: bool, slice_cycles: int = 10**9) -> tuple[object, ...]:
    output = bytearray()
    options = BootOptions(
        image="sidecall_null", paging=paging, has_sidecore=True, jumps_spins=jumps, timing=timing, memory_bytes=64 << 20
    )
    guest = build_guest(plan(options), output.append)
    assert isinstance(guest, VirtualGuest)
    while guest.domain.end is None:
        guest.advance(guest.pcpu.clock_cycles + slice_cycles)
    served = guest.machine.pcpus[1]
    spin = {key: account for key, account in served.book().accounts.items() if key[0] != "host"}
    return (
        bytes(output),
        guest.pcpu.clock_cycles,
        guest.pcpu.instructions,
        guest.pcpu.book().by_owner(),
        guest.exit_statistics(),
        spin,
    )


@pytest.mark.parametrize("timing", ["fast", "detailed"])
@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_a_jumped_spin_is_an_executed_one(paging: Paging, timing: Fidelity) -> None:
    jumped = run(paging, timing, jumps=True)
    executed = run(paging, timing, jumps=False)
    assert jumped == executed
    assert b"PASS: all" in bytes(jumped[0])  # type: ignore[call-overload]
    assert "VMCALL" in jumped[4]  # type: ignore[operator]


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_slices_change_nothing(paging: Paging) -> None:
    assert run(paging, "fast", jumps=True, slice_cycles=3_001) == run(paging, "fast", jumps=True)
