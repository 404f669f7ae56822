"""Hosts that a link joins: exact whatever the slices, and in a snapshot with all that is on its way."""

from pathlib import Path

import pytest

import sidecore
from emulator.events import EventQueue

MIB = 1 << 20
LAST = 40
# slot 2's register 0x10 is the address in RAX; xor ebx, ebx; mov dword ptr [rax], 1; 1: mov edx, [rax]; cmp edx, ebx;
# je 1b; mov ebx, edx; cmp ebx, 40; jae 2f; lea edx, [rbx + 1]; mov [rax], edx; jmp 1b; 2: mov al, bl; out 0xf4, al
PING = bytes.fromhex(
    "66baf80c b810100080 ef 66bafc0c ed 24f0"
    "31db c70001000000 8b10 39da 74fa 89d3 83fb28 7307 8d5301 8910 ebec 88d8 e6f4"
)


class Port:
    """Sends the byte that is written; reads the last that came, 0 before."""

    widths_bytes: tuple[int, ...] = (4,)

    def __init__(self, events: EventQueue) -> None:
        rows = ((0x00, 2, 0x1234, 0), (0x02, 2, 0x4243, 0), (0x04, 2, 0, sidecore.DECODES_MEMORY))
        self.function = sidecore.PciFunction(rows, regions=[sidecore.Region(self, 4096)])
        self.end: sidecore.WireEnd | None = None
        self._events = events
        self._received = 0

    def read(self, _offset: int, _size_bytes: int) -> int:
        return self._received

    def write(self, _offset: int, _size_bytes: int, value: int) -> None:
        assert self.end is not None
        self.end.send(bytes([value & 0xFF]), self._events.now_ps)

    def receive(self, frame: bytes) -> None:
        self._received = frame[0]


def connect(end: sidecore.WireEnd, host: sidecore.Host, other: sidecore.WireEnd, other_host: sidecore.Host) -> None:
    for here, there in ((end, host), (other, other_host)):
        (port,) = there.guests[0].built.board.pci_devices
        assert isinstance(port, Port)
        port.end, here.on_receive = here, port.receive


def describe(folder: Path, *, paging: sidecore.Paging = "ept", others: int = 0) -> sidecore.World:
    """Two hosts of four cores; a guest of each plays ping-pong, `others` beside it share the cores."""
    (folder / "ping.bin").write_bytes(PING)
    world = sidecore.World()
    for number in range(2):
        profile = "nehalem" if number == 0 else "netburst-2006"  # of another frequency
        host = world.add_host(
            sidecore.HostSpec(paging=paging, pcpu_count=None if paging == "native" else 4, profile=profile)
        )
        host.add_device("port", Port)
        ping = folder / "ping.bin@0x100000:64"
        host.add_guest(sidecore.GuestSpec(kernel=ping, devices=("port",), memory_bytes=16 * MIB))
        for other in range(others):
            image = ("interrupts", "hlt_wake", "fpu_sse", "paging_page_table_writes")[other % 4]
            host.add_guest(sidecore.GuestSpec(image=image, memory_bytes=16 * MIB))
    world.add_link(*world.hosts, latency_ns=20_000, bits_per_second=10**9, connect=connect)
    return world


def facts(world: sidecore.World) -> list[object]:
    return [(bytes(guest.output), str(guest.end), guest.stats) for guest in world.guests]


def finished(world: sidecore.World, slice_cycles: int = 50_000_000) -> list[object]:
    assert world.run(sidecore.Limits(slice_cycles=slice_cycles)) is sidecore.Stop.ENDED
    return facts(world)


@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_an_answer_takes_at_least_the_latency_there_and_back(paging: sidecore.Paging, tmp_path: Path) -> None:
    world = describe(tmp_path, paging=paging)
    finished(world)
    for guest in world.guests:
        assert guest.end is not None
        assert guest.end.value == LAST
        seconds = guest.stats["cycles"] / guest.built.machine.profile.frequency_hz
        assert LAST * 20e-6 <= seconds < LAST * 25e-6


@pytest.mark.parametrize("slice_cycles", [1_009, 100_003])
def test_slices_change_nothing(slice_cycles: int, tmp_path: Path) -> None:
    assert finished(describe(tmp_path), slice_cycles) == finished(describe(tmp_path))


@pytest.mark.parametrize("others", [3, pytest.param(31, marks=pytest.mark.slow)])
def test_both_hosts_go_on_from_a_snapshot_as_if_they_had_not_been_stopped(others: int, tmp_path: Path) -> None:
    whole = finished(describe(tmp_path, others=others))
    world = describe(tmp_path, others=others)
    for max_cycles in (300_000, 1_000_000, 3_000_000):
        world.run(sidecore.Limits(max_cycles=max_cycles))
        saved = world.snapshot()
        assert finished(saved.clone()) == whole
    saved.write(tmp_path / "saved")
    additions = [host.additions for host in world.hosts]
    assert finished(sidecore.World.restore(tmp_path / "saved", additions).clone()) == whole
    assert finished(world) == whole


def test_a_timeline_goes_back_to_a_frame_on_its_way(tmp_path: Path) -> None:
    past = sidecore.Timeline(describe(tmp_path), every_cycles=500_000)
    past.run()
    again = past.seek(cycle=700_001)
    assert finished(again) == facts(past.world)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"latency_ns": 0}, "latency of 0 ns is not possible"),
        ({"latency_ns": 1, "bits_per_second": 0}, "0 bits per second is not possible"),
    ],
    ids=str,
)
def test_an_impossible_link_is_a_mistake_of_one_line(wrong: dict[str, int], line: str) -> None:
    world = sidecore.World()
    first, second = world.add_host(), world.add_host()
    with pytest.raises(sidecore.ConfigError, match=line):
        world.add_link(first, second, latency_ns=wrong["latency_ns"], bits_per_second=wrong.get("bits_per_second"))


def test_a_link_joins_two_hosts_of_its_world() -> None:
    world, other = sidecore.World(), sidecore.World()
    first, foreign = world.add_host(), other.add_host()
    for pair in ((first, foreign), (first, first)):
        with pytest.raises(sidecore.ConfigError, match="a link joins two hosts"):
            world.add_link(*pair, latency_ns=1)
