"""A guest's memory as its virtual devices reach it: checked, paid for, and seen by everybody."""

from typing import cast

import pytest

from emulator.memory import HostMemory
from tests.vmm.fakes import BASE_HPA, MEMORY_BYTES, Bench
from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.paging.guest_dma import GuestDma
from vmm.vcpu import VCpu

GPA = 0x2000


class Copier:
    """The hypervisor: `bench`'s core pays; `told` are (gpa, length in bytes)."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.told: list[tuple[int, int]] = []

    def meter_for(self, vcpu: VCpu) -> Meter:
        assert vcpu is self.bench.vcpu
        return cast(Meter, self.bench.meter)

    def guest_memory_written(self, vcpu: VCpu, gpa: int, length_bytes: int) -> None:
        self.told.append((gpa, length_bytes))


class Rig:
    def __init__(self) -> None:
        self.bench = Bench()
        self.copier = Copier(self.bench)
        self.domain = self.bench.domain
        self.host: HostMemory = self.domain.machine.memory
        self.dma = GuestDma(self.domain.memory, self.bench.siblings, self.copier)


def test_what_is_written_is_in_the_guest_s_memory_and_all_are_told() -> None:
    rig = Rig()
    data = bytes(range(200)) * 7
    rig.dma.write(GPA, data)
    assert rig.host.read(BASE_HPA + GPA, len(data)) == data
    assert rig.dma.read(GPA, len(data)) == data
    assert rig.bench.paging.asked == [("guest_memory_written", GPA, len(data))]
    assert rig.copier.told == [(GPA, len(data))]


def test_reading_tells_nobody() -> None:
    rig = Rig()
    rig.dma.read(GPA, 64)
    assert (rig.bench.paging.asked, rig.copier.told) == ([], [])


@pytest.mark.parametrize("gpa", [MEMORY_BYTES, MEMORY_BYTES - 8, 0xFEC0_0000, 1 << 32, (1 << 64) - 16])
def test_beyond_the_guest_s_memory_it_reads_ones_and_changes_nothing(gpa: int) -> None:
    rig = Rig()
    before = bytes(rig.host.bytes)
    rig.dma.write(gpa, b"x" * 16)
    assert rig.dma.read(gpa, 16) == b"\xff" * 16
    assert bytes(rig.host.bytes) == before
    assert (rig.bench.paging.asked, rig.copier.told) == ([], [])


def test_the_core_that_copies_pays_for_it() -> None:
    rig = Rig()
    cycles = rig.bench.core.pcpu.clock.cycles
    rig.dma.write(GPA, bytes(1500))
    rig.dma.read(GPA, 1500)
    rig.bench.meter.commit()
    profile = rig.domain.machine.profile
    copy_cycles = paths.cycles_by_path(profile)[paths.GUEST_COPY]
    words_cycles = 188 * profile.caches.l1d_latency_cycles
    assert rig.bench.core.pcpu.clock.cycles - cycles == 2 * (copy_cycles + words_cycles)
