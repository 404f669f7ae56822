"""A device may store into the page that its guest shares with a sidecore: a request like any other."""

import pytest

from devices.pc import Pc
from devices.pci.function import IS_MASTER, PciFunction
from emulator.events import EventQueue
from emulator.machine import Machine
from emulator.profiles.profile import load_profile
from tests.guest.hostile_guest import MEMORY_BYTES, make_image
from vmm.hypervisor import Hypervisor, host_memory_bytes
from vmm.outcome import EndKind
from vmm.sidecore import abi

PAGE, SLOT = 0x10000, 1
WHEN_PS = 2_000_000_000
WAIT = f"""
    mov eax, {abi.CALL_REGISTER}
    mov edi, {PAGE}
    mov esi, 4
    vmcall
3:  mov eax, [{PAGE + SLOT * abi.SLOT_BYTES}]
    pause
    cmp eax, {abi.DONE}
    jne 3b
    mov al, 0
    out 0xf4, al
    jmp .
"""


class Poster:
    """A device that posts a null request, once."""

    def __init__(self, events: EventQueue) -> None:
        self.function = PciFunction([(0x04, 2, IS_MASTER, 0)])
        events.schedule(WHEN_PS, self._post)

    def _post(self) -> None:
        request = b"".join(word.to_bytes(4, "little") for word in (abi.POSTED, 1, 0, 0)) + bytes(48)
        self.function.bus_master.write(PAGE + SLOT * abi.SLOT_BYTES, request)


@pytest.mark.parametrize("jumps_spins", [True, False])
@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_a_request_that_a_device_posts_is_served_and_the_guest_that_waits_sees_the_answer(
    paging: str, jumps_spins: bool
) -> None:
    machine = Machine(load_profile("netburst-2006"), memory_bytes=host_memory_bytes([MEMORY_BYTES]), pcpu_count=2)
    hypervisor = Hypervisor(Pc(machine), paging=paging, sidecore_count=1, jumps_spins=jumps_spins)
    domain = hypervisor.create_domain(
        make_image(WAIT), memory_bytes=MEMORY_BYTES, transmit=lambda _byte: None, devices=[Poster]
    )
    hypervisor.advance(9_000_000)
    assert domain.end is not None
    assert domain.end.kind is EndKind.DEBUG_EXIT
    assert hypervisor.sidecores is not None
    page = hypervisor.sidecores.page_of(domain)
    assert page is not None
    assert page.counts.requests == 1
    assert machine.pcpus[0].clock.now_ps > WHEN_PS
