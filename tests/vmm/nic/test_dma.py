"""The NIC reaches the memory of a VIF's guest, and no other; everybody who uses that memory follows."""

import pytest

from emulator.dma import HostDma
from tests.vmm.fakes import Bench
from vmm.cost.meter import Unpaid
from vmm.nic.dma import VifPort
from vmm.vcpu import VCpu


class Told:
    """Who shares pages with the guest."""

    def __init__(self) -> None:
        self.stores: list[tuple[int, int]] = []

    def device_stored(self, _vcpu: VCpu, gpa: int, length_bytes: int) -> None:
        self.stores.append((gpa, length_bytes))


def port() -> tuple[VifPort, Bench, Told]:
    bench, told = Bench(), Told()
    machine = bench.domain.machine
    host = HostDma(machine.memory, machine.timing)
    return VifPort(bench.domain.memory, host, bench.siblings, [told], Unpaid(machine.pcpus[0])), bench, told


def test_what_is_stored_is_in_the_guests_memory_and_no_core_pays() -> None:
    vif_port, bench, told = port()
    before_cycles = bench.core.pcpu.clock.cycles
    vif_port.write(0x1000, b"frame")
    assert bench.domain.read(0x1000, 5) == vif_port.read(0x1000, 5) == b"frame"
    assert told.stores == [(0x1000, 5)]
    assert ("guest_memory_written", 0x1000, 5) in bench.paging.asked
    assert bench.core.pcpu.clock.cycles == before_cycles


@pytest.mark.parametrize("gpa", [1 << 40, (1 << 64) - 8, 0xFEE0_0000])
def test_elsewhere_reads_are_all_ones_and_stores_are_dropped(gpa: int) -> None:
    vif_port, bench, told = port()
    before = bytes(bench.domain.machine.memory.bytes[:])
    vif_port.write(gpa, b"frame")
    assert vif_port.read(gpa, 4) == b"\xff" * 4
    assert not vif_port.is_ram(gpa, 4)
    assert bytes(bench.domain.machine.memory.bytes[:]) == before
    assert told.stores == []
