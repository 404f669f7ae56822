"""Idle guests cost little memory of the workstation's, and that changes no cycle."""

import ctypes
from pathlib import Path

import pytest

from devices.pc import Pc
from emulator.machine import Machine
from emulator.profiles.profile import load_profile
from tests.guest.hostile_guest import MEMORY_BYTES, make_image
from vmm.hypervisor import Hypervisor, host_memory_bytes
from vmm.resting import Resting
from vmm.scheduler.credit import CreditScheduler

PROFILE = load_profile("netburst-2006", ("core.frequency_hz=100_000_000",))
CYCLES_PER_MS = 100_000
ENGINE_MAX_BYTES = 8 << 20
BUSY_THEN_IDLE = """
    mov ecx, 3
3:  .rept 20000
    jmp 1f
    nop
1:
    .endr
    dec ecx
    jz 2f
    jmp 3b
2:  sti
    hlt
    jmp 2b
"""


def resident_bytes(machine: Machine) -> int:
    """What this process has in memory but for the machine's own."""
    start = ctypes.addressof(ctypes.c_char.from_buffer(machine.memory.map))
    end, total_kib, is_machine = start + machine.memory.end_hpa, 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            first, last = (int(text, 16) for text in words[0].split("-"))
            is_machine = first < end and start < last
        elif words[0] == "Rss:" and not is_machine:
            total_kib += int(words[1])
    return total_kib << 10


class Host:
    """Guests that are busy with much code, then idle for ever, on one core."""

    def __init__(self, guest_count: int, paging: str = "shadow") -> None:
        self.machine = Machine(PROFILE, memory_bytes=host_memory_bytes([MEMORY_BYTES] * guest_count))
        self.hypervisor = Hypervisor(Pc(self.machine), paging=paging, scheduler=CreditScheduler(1))
        for _ in range(guest_count):
            self.add()

    def add(self) -> None:
        self.hypervisor.create_domain(
            make_image(BUSY_THEN_IDLE), memory_bytes=MEMORY_BYTES, transmit=lambda _byte: None
        )

    def cached_bytes(self) -> list[int]:
        hypervisor = self.hypervisor
        return [vcpu.engine.cached_bytes for domain in hypervisor.domains for vcpu in hypervisor.vcpus_of(domain)]


def test_an_idle_guest_s_engine_has_at_most_8_mib() -> None:
    first, others = Host(1), Host(9)
    first.hypervisor.advance(100 * CYCLES_PER_MS)  # what Python itself needs is there
    before = resident_bytes(others.machine)
    opened = Host(8)
    opened_bytes = resident_bytes(opened.machine) - before
    others.hypervisor.advance(2_000 * CYCLES_PER_MS)
    ran_bytes = resident_bytes(others.machine) - before - opened_bytes
    assert max(others.cached_bytes()) < 1 << 20
    assert opened_bytes / 8 + ran_bytes / 9 <= ENGINE_MAX_BYTES


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_resting_changes_no_cycle(paging: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rested, kept = Host(2, paging), Host(2, paging)
    rested.hypervisor.advance(2_000 * CYCLES_PER_MS)
    monkeypatch.setattr(Resting, "settle", lambda self, now_ps: None)
    kept.hypervisor.advance(2_000 * CYCLES_PER_MS)
    accounts = [host.machine.pcpus[0].clock.book().accounts for host in (rested, kept)]
    assert accounts[0] == accounts[1]
    assert min(kept.cached_bytes()) > 2 << 20 > max(rested.cached_bytes())
