"""Many guests blast each other through a switch that drops, over cables that lose: nothing is lost in silence.

8 guests on each of two hosts, each with a peer on the other; beside them a pair of which one is destroyed while it
sends, a guest that writes nonsense into its own rings, and one that has no interface and does nothing, whose memory is
the witness.
"""

import hashlib
import os
import re
from collections.abc import Sequence

import pytest

import sidecore
from vmm.outcome import End, EndKind

MIB = 1 << 20
PAIRS = 8
DOOMED, HOSTILE, WITNESS = PAIRS, PAIRS + 1, PAIRS + 2  # numbers of guests on the first host
LOSS_PPM = 106_000  # of each of two cables: a fifth on the way
QUEUE_BYTES = 4000
HEARD = 5  # frames of each of the pair, before one is destroyed
MOST_CYCLES = 20 * 10**9
WHOLE = pytest.mark.skipif("SIDECORE_SOAK" not in os.environ, reason="make soak runs it: a quarter of an hour")
FIGURE = re.compile(r"(\w+) (\d+)")


def describe(frames: int, seed: int) -> sidecore.World:
    world = sidecore.World()
    for number in range(2):
        host = world.add_host(
            sidecore.HostSpec(paging="ept", profile="nehalem", has_nic=True, pcpu_count=4, scheduler="credit")
        )
        for guest in range(PAIRS + 1):
            words = f"peer=02:5c:00:00:{1 - number:02x}:{guest:02x} frames={frames} quiet_ms=20"
            host.add_guest(sidecore.GuestSpec(image="vif_blast", has_vif=True, append=words, memory_bytes=32 * MIB))
    first = world.hosts[0]
    words = f"rounds={10 * frames} seed={seed} peer=02:5c:00:00:01:00"
    first.add_guest(sidecore.GuestSpec(image="vif_hostile", has_vif=True, append=words, memory_bytes=32 * MIB))
    first.add_guest(sidecore.GuestSpec(image="idle", memory_bytes=32 * MIB))
    world.add_switch(*world.hosts, loss_ppm=LOSS_PPM, seed=seed, queue_bytes=QUEUE_BYTES)
    return world


def figures(guest: sidecore.Guest, what: str) -> dict[str, int]:
    """The numbers of the line that begins with `~ what`."""
    (line,) = (line for line in guest.output.decode().splitlines() if line.startswith(f"~ {what}"))
    return {name: int(number) for name, number in FIGURE.findall(line)}


def digest(guest: sidecore.Guest) -> str:
    """Of all its memory."""
    domain = guest.built.domain  # type: ignore[attr-defined]  # it is under a VMM
    return hashlib.sha256(domain.read(0, 32 * MIB)).hexdigest()


def carry_out(world: sidecore.World) -> None:
    """Run it to its end, and destroy one guest while it sends."""
    first, second = world.hosts
    witness, doomed = first.guests[WITNESS], first.guests[DOOMED]
    world.build()
    for step in range(1, 200):
        assert world.run(sidecore.Limits(max_cycles=step * 5_000_000)) is sidecore.Stop.LIMIT
        if second.nic.vifs[DOOMED].counters.received > HEARD and first.nic.vifs[DOOMED].counters.received > HEARD:
            break
    before = digest(witness)
    assert doomed.end is None
    doomed.built.finish(End(EndKind.QUIT, detail="destroyed"))
    others = [guest for guest in world.guests if guest is not witness]
    while any(guest.end is None for guest in others):
        assert world.cycles < MOST_CYCLES
        world.run(sidecore.Limits(max_cycles=world.cycles + 50_000_000))
    assert digest(witness) == before


@pytest.mark.parametrize(
    ("frames", "seed"), [(60, 1), pytest.param(6250, 2, marks=[pytest.mark.slow, WHOLE])], ids=["960", "100000"]
)
def test_every_frame_of_a_flow_comes_once_and_in_order_or_is_counted_as_dropped(frames: int, seed: int) -> None:
    world = describe(frames, seed)
    carry_out(world)
    flows = [guest for host in world.hosts for guest in host.guests[:PAIRS]]
    missing = check_flows(flows, frames)
    check_sums(world)
    lost = sum(end.lost_count for end in world.ends)
    drops = sum(port.counts.queue_drops for port in world.switches[0].ports)
    drops += sum(figures(guest, "blast device")["drops"] for guest in flows)
    drops += sum(sum(host.nic.stats()["mac"]["drops"].values()) for host in world.hosts)
    assert 0 < missing <= lost + drops


def check_flows(flows: Sequence[sidecore.Guest], frames: int) -> int:
    """Each flow got what was not dropped, in order. Returns how many frames are missing in all."""
    missing = 0
    for guest in flows:
        assert guest.output.decode().splitlines()[-1].startswith("PASS: "), guest.output.decode()
        blast = figures(guest, "blast sent")
        assert blast["sent"] == frames == blast["received"] + blast["missing"]
        assert blast["errors"] == blast["disordered"] == blast["damaged"] == 0
        missing += blast["missing"]
    return missing


def check_sums(world: sidecore.World) -> None:
    """What leaves one place is lost, counted as dropped, or gets to the next."""
    (switch,) = world.switches
    for number, host in enumerate(world.hosts):
        (here, there), port, mac = (
            world.ends[2 * number : 2 * number + 2],
            switch.ports[number],
            host.nic.stats()["mac"],
        )
        assert mac["sent"] == here.sent_count == here.lost_count + port.counts.received
        assert port.counts.sent == there.sent_count == there.lost_count + mac["arrived"]
        assert port.counts.malformed_drops == here.dropped_count == there.dropped_count == 0
    received = sum(port.counts.received - port.counts.filtered for port in switch.ports)
    assert received == sum(port.counts.sent + port.counts.queue_drops for port in switch.ports)
