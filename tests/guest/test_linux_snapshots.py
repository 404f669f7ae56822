"""Linux saved while it boots goes on bit-identically; many clones of a booted one are cheap."""

import json
import random
from pathlib import Path

import pytest

from guest_images import linux_small
from vmm.session.boot_plan import BootPlan
from vmm.session.guest import Guest
from vmm.session.plan import plan
from vmm.session.run import collect_stats
from vmm.session.snapshot import SaveableGuest, Snapshot, read_snapshot, write_snapshot
from vmm.session.spec import PAGING_MODES, GuestSpec, HostSpec

MEMORY_BYTES = 32 << 20
END_CYCLES = 1_200_000_000
CLONES = 32
SEED = 2007
PROMPT = b"/root # "

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not linux_small.recipe().directory.exists(), reason="sidecore images build linux-small makes it"
    ),
]


def plan_of(paging: str) -> BootPlan:
    return plan(HostSpec(paging=paging), GuestSpec(image="linux-small", memory_bytes=MEMORY_BYTES))  # type: ignore[arg-type]


def state(guest: Guest) -> tuple[str, bytes]:
    """The statistics and all memory."""
    return json.dumps(collect_stats(guest, 0.0), sort_keys=True), bytes(guest.machine.memory.bytes)


@pytest.mark.parametrize("paging", PAGING_MODES)
def test_linux_goes_on_as_if_it_had_not_been_saved(paging: str, tmp_path: Path) -> None:
    boot_plan, output = plan_of(paging), bytearray()
    whole = SaveableGuest.build(boot_plan, output.append).guest
    whole.advance(END_CYCLES)
    for at_cycles in sorted(random.Random(SEED).sample(range(END_CYCLES), 3)):
        again = bytearray()
        saveable = SaveableGuest.build(boot_plan, again.append)
        saveable.guest.advance(at_cycles)
        write_snapshot(saveable.snapshot(), tmp_path / "saved")
        guest = SaveableGuest.clone(read_snapshot(tmp_path / "saved"), again.append).guest
        guest.advance(END_CYCLES)
        assert again == output, f"seed {SEED}, cut at {at_cycles}"
        assert state(guest) == state(whole), f"seed {SEED}, cut at {at_cycles}"


def booted(paging: str) -> Snapshot:
    output = bytearray()
    saveable = SaveableGuest.build(plan_of(paging), output.append)
    while PROMPT not in output:
        assert saveable.guest.end is None
        saveable.guest.advance(saveable.guest.pcpu.clock.cycles + 50_000_000)
    return saveable.snapshot()


def test_clones_of_a_booted_linux_share_its_memory_and_go_their_own_ways() -> None:
    snapshot = booted("shadow")
    outputs = [bytearray() for _ in range(CLONES)]
    before_kib = private_kib()
    guests = [SaveableGuest.clone(snapshot, output.append).guest for output in outputs]
    assert private_kib() - before_kib < 1 << 20
    for number, (guest, output) in enumerate(zip(guests[:3], outputs, strict=False)):
        guest.run_timers()
        guest.board.uart.receive(b"echo clone $((40 + %d))\n" % number)
        guest.advance(guest.pcpu.clock.cycles + 400_000_000)
        assert b"clone %d\r\n" % (40 + number) in output
    assert not any(outputs[3:])


def private_kib() -> int:
    """Memory that this process has for itself."""
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Private_"))
