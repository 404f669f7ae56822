"""Debian's memtest86+ finds the guest's memory and tests it, in every mode."""

import pytest

from tests.guest.running import MODES
from vmm.session.build import build_guest
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec, Paging

pytestmark = pytest.mark.slow

MAX_CYCLES = 6_000_000_000
SLICE_CYCLES = 50_000_000
FIRST_TEST, SECOND_TEST = b"[Address test, walking ones, no cache]", b"0xffffffffffffffff"


@pytest.mark.parametrize("paging", MODES)
@pytest.mark.parametrize("vcpus", [1, 4])
def test_memtest_tests_the_memory_without_errors(vcpus: int, paging: Paging) -> None:
    output = bytearray()
    guest = build_guest(
        plan(HostSpec(paging=paging), GuestSpec(image="memtest", memory_bytes=16 << 20, vcpu_count=vcpus)),
        output.append,
    )
    while guest.end is None and guest.pcpu.clock.cycles < MAX_CYCLES and SECOND_TEST not in output:
        guest.advance(guest.pcpu.clock.cycles + SLICE_CYCLES)
    assert guest.end is None
    assert b"Memtest86+" in output
    assert b"SMP: %dT" % vcpus in output or vcpus == 1
    assert FIRST_TEST in output
    assert SECOND_TEST in output, "the pattern of the second pass"
    assert b"Errors: 0 " in output
