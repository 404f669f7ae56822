"""Claims about captures: what is in the file, with which times, and that other programs read it."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

import sidecore
from emulator.errors import ConfigError
from vmm.session.observe.pcap import Capture

NS = 1000
PROBE = "sent 12 answered 12 lost 0"


def frames_of(path: Path) -> list[tuple[int, bytes]]:
    """(nanoseconds since power-on, frame), by nothing but the format's description (draft-ietf-opsawg-pcap)."""
    data = path.read_bytes()
    magic, major, minor, zone, figures, longest, link = struct.unpack_from("<IHHiIII", data)
    assert (magic, major, minor, zone, figures, longest, link) == (0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    offset, frames = 24, []
    while offset < len(data):
        seconds, ns, kept, length = struct.unpack_from("<IIII", data, offset)
        assert kept == length
        assert ns < 10**9
        frames.append((seconds * 10**9 + ns, data[offset + 16 : offset + 16 + kept]))
        offset += 16 + kept
    return frames


def test_frames_are_in_order_of_time_though_one_that_leaves_is_told_early(tmp_path: Path) -> None:
    path = tmp_path / "f.pcap"
    with Capture(path) as capture:
        capture.take(b"leaves", 5_000 * NS, 1_000 * NS)
        capture.take(b"comes", 3_000 * NS, 3_000 * NS)
        capture.take(b"comes later", 2_000_000_123 * NS + 1, 2_000_000_123 * NS + 1)
    assert frames_of(path) == [(3_000, b"comes"), (5_000, b"leaves"), (2_000_000_123, b"comes later")]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write the capture '.*': Is a directory"):
        Capture(tmp_path)
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(ConfigError, match=r"cannot write the capture '.*full': No space left on device"):
        Capture(tmp_path / "full")


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of both ends of a link."""
    folder = tmp_path_factory.mktemp("captures")
    world = sidecore.World()
    for number, role in enumerate(("client", "server")):
        host = world.add_host(sidecore.HostSpec(paging="ept", has_nic=True))
        host.capture(folder / f"{role}.pcap")
        words = f"role={role} peer=02:5c:00:00:{1 - number:02x}:00 probes=10 warmup=2 quiet_ms=2"
        host.add_guest(sidecore.GuestSpec(image="psapp", has_vif=True, append=words, memory_bytes=32 << 20))
    world.add_link(*world.hosts, latency_ns=700)
    world.run()
    assert PROBE in world.guests[0].output.decode()
    return folder / "client.pcap", folder / "server.pcap"


def test_both_ends_of_a_link_see_the_same_frames_as_far_apart_as_the_cable_is_long(
    captures: tuple[Path, Path],
) -> None:
    client, server = map(frames_of, captures)
    assert len(client) == len(server) >= 24
    assert sorted(frame for _, frame in client) == sorted(frame for _, frame in server)
    times = {frame: when_ns for when_ns, frame in server}
    late_ns = [times[frame] - when_ns for when_ns, frame in client if len(times) == len(server)]
    assert {abs(ns) for ns in late_ns} <= {699, 700, 701}
    assert [when_ns for when_ns, _ in client] == sorted(when_ns for when_ns, _ in client)


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")
def test_tcpdump_reads_it(captures: tuple[Path, Path]) -> None:
    command = ["tcpdump", "-n", "-e", "-tt", "--nano", "-r", str(captures[0])]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line for line in output.splitlines() if line[0].isdecimal()]  # the others are its bytes
    seen = frames_of(captures[0])
    assert len(lines) == len(seen)
    first_ns, frame = seen[0]
    assert lines[0].startswith(f"{first_ns // 10**9}.{first_ns % 10**9:09} {frame[6:12].hex(':')} > ")


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_reads_it(captures: tuple[Path, Path]) -> None:
    command = ["tshark", "-r", str(captures[0]), "-T", "fields", "-e", "eth.src", "-e", "frame.len"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split("\t") for line in lines] == [
        [frame[6:12].hex(":"), str(len(frame))] for _, frame in frames_of(captures[0])
    ]
