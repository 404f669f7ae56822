"""Many guests blast each other through a switch that drops, over cables that lose: nothing is lost in silence.

8 guests on each of two hosts, each with a peer on the other; beside them a pair of which one is destroyed while it
sends, a guest that writes nonsense into its own rings, and one that has no interface and does nothing, whose memory is
the witness. The NIC carries the frames, or a driver domain on a core of its own, which has the NIC's only interface.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import sidecore
from devices.nic.mac import Mac
from devices.nic.vif import Packet, Vif
from devices.switch import Port
from emulator.wire import WireEnd
from guest_images import linux_vif
from vmm.outcome import End, EndKind

MIB = 1 << 20
PAIRS = 8
DOOMED, HOSTILE, WITNESS = PAIRS, PAIRS + 1, PAIRS + 2  # numbers of guests on the first host
LOSS_PPM = 106_000  # of each of two cables: a fifth on the way
QUEUE_BYTES = 4000
STEP_CYCLES = 5_000_000  # in which there is one greeting at most
SENT = 5  # frames of each of the pair but its greetings, before one is destroyed
MOST_CYCLES = 20 * 10**9
WHOLE = [
    pytest.mark.slow,
    pytest.mark.skipif("SIDECORE_SOAK" not in os.environ, reason="make soak runs it: a quarter of an hour each"),
]
LINUX = [
    pytest.mark.slow,
    pytest.mark.skipif(not linux_vif.recipe().directory.exists(), reason="sidecore images build linux-vif makes it"),
]
NIC = "nic"
DRIVERS = {"bridge": b"~ bridge", "linux-vif": linux_vif.BRIDGE_LINE.encode()}  # driver domains: when they are ready
SEQUENCE, HELLO = slice(16, 20), b"\xff" * 4  # of a frame of vif_blast; a greeting is no frame of the flow
FIGURE = re.compile(r"(\w+) (\d+)")


class Drops:
    """Frames of each flow, by its two addresses, that one of the counters of drops has counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.frames: Counter[bytes] = Counter()
        self._listen(monkeypatch, WireEnd, "send", lambda end: end.lost_count)
        self._listen(monkeypatch, Port, "put", lambda port: port.counts.queue_drops)
        self._listen(monkeypatch, Mac, "receive", drops_of_receive)
        self._listen(monkeypatch, Vif, "count_drop", drops_of_vif)

    def _listen(self, monkeypatch: pytest.MonkeyPatch, place: type, name: str, count: Callable[[Any], int]) -> None:
        """The frame with which method `name` is called is dropped if the place has counted one more then."""
        method = getattr(place, name)

        def call(at: Any, carried: bytes | Packet, *others: Any) -> Any:
            before = count(at)
            answer = method(at, carried, *others)
            if count(at) > before:
                self._note(at, carried if isinstance(carried, bytes) else carried.frame)
            return answer

        monkeypatch.setattr(place, name, call)

    def _note(self, at: object, frame: bytes) -> None:
        is_other_copy = isinstance(at, Vif) and at.mac not in (frame[:6], frame[6:12])  # a bridge sends to all at first
        if not is_other_copy and frame[SEQUENCE] != HELLO:
            self.frames[frame[:12]] += 1


def drops_of_receive(mac: Mac) -> int:
    """Those of the frame that comes: the chip catches up first, and may find that an earlier one has no VIF."""
    return sum(count for cause, count in mac.drops.items() if cause != "no VIF")


def drops_of_vif(vif: Vif) -> int:
    """Of both queues."""
    return sum(sum(drops.values()) for drops in (vif.counters.send_drops, vif.counters.receive_drops))


@dataclass(frozen=True)
class Soak:
    """What is carried out, and by whom frames are carried: the NIC, or the image of a driver domain."""

    frames: int  # that each guest sends
    seed: int
    carrier: str = NIC

    def describe(self) -> sidecore.World:
        world = sidecore.World()
        for number in range(2):
            host = world.add_host(
                sidecore.HostSpec(paging="ept", profile="nehalem", has_nic=True, pcpu_count=4, scheduler="credit")
            )
            if self.carrier != NIC:
                host.add_guest(self._driver_domain(number))
            for guest in range(PAIRS + 1):
                words = f"peer={mac_text(1 - number, guest)} frames={self.frames} quiet_ms=20"
                self._add(host, "vif_blast", words, mac_text(number, guest))
        first = world.hosts[0]
        words = f"rounds={10 * self.frames} seed={self.seed} peer={mac_text(1, 0)}"
        self._add(first, "vif_hostile", words, mac_text(0, HOSTILE))
        first.add_guest(sidecore.GuestSpec(image="idle", memory_bytes=32 * MIB))
        world.add_switch(*world.hosts, loss_ppm=LOSS_PPM, seed=self.seed, queue_bytes=QUEUE_BYTES)
        return world

    def _driver_domain(self, host: int) -> sidecore.GuestSpec:
        return sidecore.GuestSpec(
            image=self.carrier,
            append="driver_domain quiet",
            memory_bytes=32 * MIB,
            cores=(0,),
            has_vif=True,
            mac=mac_text(host, 0xFF),
            is_backend=True,
        )

    def _add(self, host: sidecore.Host, image: str, words: str, mac: str) -> None:
        spec = sidecore.GuestSpec(image=image, has_vif=True, mac=mac, append=words, memory_bytes=32 * MIB)
        host.add_guest(spec, begins_later=self.carrier != NIC)

    def guests_of(self, host: sidecore.Host) -> list[sidecore.Guest]:
        """Those that are no driver domain."""
        return host.guests[0 if self.carrier == NIC else 1 :]

    def drivers_of(self, world: sidecore.World) -> list[sidecore.Guest]:
        """The driver domains."""
        return [] if self.carrier == NIC else [host.guests[0] for host in world.hosts]

    def begin(self, world: sidecore.World) -> None:
        """Guests begin when somebody carries their frames."""
        while not all(DRIVERS[self.carrier] in driver.output for driver in self.drivers_of(world)):
            assert world.cycles < MOST_CYCLES
            world.run(sidecore.Limits(max_cycles=world.cycles + 50_000_000))
        for guest in world.guests:
            if guest.begins_later:
                guest.begin()

    def posted(self, host: sidecore.Host, number: int) -> int:
        """Frames that a guest has sent."""
        return int(self._vifs(host, is_carried=self.carrier != NIC)[number]["posted"])

    def _vifs(self, host: sidecore.Host, *, is_carried: bool) -> list[dict[str, Any]]:
        """The counters of interfaces: those that a driver domain carries for, or those that the NIC has."""
        stats = host.guests[0].built.nic_stats()
        assert stats is not None
        return list((stats["vmm"]["carried"] if is_carried else stats["card"]["vifs"]).values())


def mac_text(host: int, guest: int) -> str:
    return f"02:5c:00:00:{host:02x}:{guest:02x}"


def figures(guest: sidecore.Guest, what: str) -> dict[str, int]:
    """The numbers of the line that begins with `~ what`."""
    (line,) = (line for line in guest.output.decode().splitlines() if line.startswith(f"~ {what}"))
    return {name: int(number) for name, number in FIGURE.findall(line)}


def digest(guest: sidecore.Guest) -> str:
    """Of all its memory."""
    domain = guest.built.domain  # type: ignore[attr-defined]  # it is under a VMM
    return hashlib.sha256(domain.read(0, 32 * MIB)).hexdigest()


def carry_out(soak: Soak, world: sidecore.World) -> None:
    """Run it to its end, and destroy one guest while it sends."""
    first = world.hosts[0]
    witness, doomed = soak.guests_of(first)[WITNESS], soak.guests_of(first)[DOOMED]
    world.build()
    soak.begin(world)
    begun_cycles = world.cycles
    for step in range(1, 200):
        assert world.run(sidecore.Limits(max_cycles=begun_cycles + step * STEP_CYCLES)) is sidecore.Stop.LIMIT
        if min(soak.posted(host, DOOMED) for host in world.hosts) > step + SENT:
            break
    before = digest(witness)
    assert doomed.end is None
    doomed.built.finish(End(EndKind.QUIT, detail="destroyed"))
    others = [guest for host in world.hosts for guest in soak.guests_of(host) if guest is not witness]
    while any(guest.end is None for guest in others):
        assert world.cycles < begun_cycles + MOST_CYCLES
        world.run(sidecore.Limits(max_cycles=world.cycles + 50_000_000))
    assert digest(witness) == before


@pytest.mark.parametrize(("frames", "seed"), [(60, 1), pytest.param(6250, 2, marks=WHOLE)], ids=["960", "100000"])
@pytest.mark.parametrize("carrier", [NIC, "bridge", pytest.param("linux-vif", marks=LINUX)])
def test_every_frame_of_a_flow_comes_once_and_in_order_or_is_counted_as_dropped(
    carrier: str, frames: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    soak = Soak(frames, seed, carrier)
    world = soak.describe()
    drops = Drops(monkeypatch)
    carry_out(soak, world)
    missing = check_flows(soak, world)
    check_sums(world)
    assert missing == {flow: drops.frames[flow] for flow in missing}
    assert all(missing.values())


def check_flows(soak: Soak, world: sidecore.World) -> dict[bytes, int]:
    """What came of each flow is in order. Returns how many frames of each are missing, by its two addresses."""
    missing = {}
    for number, host in enumerate(world.hosts):
        for index, guest in enumerate(soak.guests_of(host)[:PAIRS]):
            assert guest.output.decode().splitlines()[-1].startswith("PASS: "), guest.output.decode()
            blast = figures(guest, "blast sent")
            assert blast["sent"] == soak.frames == blast["received"] + blast["missing"]
            assert blast["errors"] == blast["disordered"] == blast["damaged"] == 0
            addresses = mac_text(number, index) + mac_text(1 - number, index)
            missing[bytes.fromhex(addresses.replace(":", ""))] = blast["missing"]
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
