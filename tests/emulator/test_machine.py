"""Claims about a machine: two of them share nothing."""

from emulator.ledger import Category
from emulator.machine import Machine
from emulator.profiles.profile import load_profile

PROFILE = load_profile("netburst-2006")


def test_machines_share_nothing() -> None:
    first, second = (Machine(PROFILE, memory_bytes=8192, pcpu_count=2) for _ in range(2))
    first.memory.write(0, b"x")
    first.pcpus[0].clock.charge(Category.EXIT, 1000)
    first.events.schedule(5, lambda: None)
    assert second.memory.read(0, 1) == b"\0"
    assert second.pcpus[0].clock.cycles == first.pcpus[1].clock.cycles == 0
    assert second.events.next_ps() is None
    assert [pcpu.number for pcpu in first.pcpus] == [0, 1]
