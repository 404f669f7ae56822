"""The test kernels that have a VIF: alone, and with a peer on another host whose card is at the other end of a link."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

import sidecore

MEMORY_BYTES = 64 << 20
MODES: tuple[sidecore.Paging, ...] = ("shadow", "ept")
MACS = ("02:5c:00:00:00:00", "02:5c:00:00:01:00")  # the first guest of the first host, and of the second
HOST = sidecore.HostSpec(has_nic=True, profile="nehalem")
LIMITS = sidecore.Limits(max_cycles=3_000_000_000)
FIGURE = re.compile(r"(\w+) (\d+)")


def run(image: str, *appends: str, host: sidecore.HostSpec = HOST, loss_ppm: int = 0) -> list[sidecore.Guest]:
    """A host with one guest for each of `appends`, joined if there are two; all run to their ends."""
    world = sidecore.World()
    for append in appends:
        guest = sidecore.GuestSpec(image=image, has_vif=True, append=append, memory_bytes=MEMORY_BYTES)
        world.add_host(host).add_guest(guest)
    if len(appends) > 1:
        world.add_link(*world.hosts, loss_ppm=loss_ppm)
    assert world.run(LIMITS) is sidecore.Stop.ENDED, [bytes(guest.output) for guest in world.guests]
    return world.guests


def claims(guest: sidecore.Guest) -> list[str]:
    """The lines that do not depend on time; the last has to be the verdict of success."""
    lines = [line for line in guest.output.decode("ascii").splitlines() if not line.startswith("~")]
    assert lines[-1].startswith("PASS: "), [line for line in lines if not line.startswith("PASS ")]
    return lines


def figures(guest: sidecore.Guest, what: str) -> dict[str, int]:
    """The numbers of the line that begins with `~ what`."""
    (line,) = (line for line in guest.output.decode("ascii").splitlines() if line.startswith(f"~ {what}"))
    return {name: int(number) for name, number in FIGURE.findall(line)}


@pytest.mark.parametrize("paging", MODES)
def test_frames_to_its_own_address_come_back_inside_the_card(paging: sidecore.Paging) -> None:
    (guest,) = run("vif", "", host=replace(HOST, paging=paging))
    assert len(claims(guest)) > 30


VIF_HOSTS = [
    replace(HOST, paging="shadow"),
    replace(HOST, paging="ept"),
    replace(HOST, paging="ept", nic_signal="msix"),
    replace(HOST, paging="ept", sidecore_count=1),
]


@pytest.mark.parametrize("host", VIF_HOSTS, ids=["shadow", "ept", "msix", "sidecore"])
def test_a_vif_does_what_its_header_says_however_signals_come(host: sidecore.HostSpec) -> None:
    guest, echo = run("vif", f"peer={MACS[1]}", "role=echo", host=host)
    assert len(claims(guest)) > 30
    claims(echo)


@pytest.mark.parametrize("paging", MODES)
def test_round_trips_are_timed_and_printed_so_that_a_program_can_read_them(paging: sidecore.Paging) -> None:
    words = ("role=client peer=02:5c:00:00:01:00 probes=40 warmup=3 think_us=20", "role=server")
    client, server = run("psapp", *words, host=replace(HOST, paging=paging))
    claims(client), claims(server)
    counts = figures(client, "psapp client:")
    assert (counts["sent"], counts["answered"], counts["lost"], counts["damaged"]) == (43, 43, 0, 0)
    assert counts["tsc_khz"] == pytest.approx(client.stats["frequency_hz"] / 1000, rel=0.01)
    samples = samples_of(client.output.decode("ascii").splitlines())
    assert len(samples) == 40
    assert all(1_000 < sample < 1_000_000 for sample in samples)
    assert figures(server, "psapp server:")["answered"] >= 45


def samples_of(lines: Sequence[str]) -> list[int]:
    """The round trips of psapp's client in cycles."""
    start = next(i for i, line in enumerate(lines) if line.startswith("~ psapp samples"))
    end = lines.index("~ psapp end")
    return [int(word, 16) for line in lines[start + 1 : end] for word in line.removeprefix("~").split()]


def test_a_probe_that_is_lost_is_given_up_and_the_next_one_goes() -> None:
    words = (f"role=client peer={MACS[1]} probes=40 warmup=0 timeout_ms=2", "role=server quiet_ms=100")
    client, _ = run("psapp", *words, loss_ppm=100_000)
    claims(client)
    counts = figures(client, "psapp client:")
    assert counts["sent"] == 40 == counts["answered"] + counts["lost"]
    assert counts["lost"] > 0


@pytest.mark.parametrize("loss_ppm", [0, 200_000])
def test_frames_of_two_guests_at_full_speed_come_in_order_or_are_counted(loss_ppm: int) -> None:
    guests = run("vif_blast", *(f"peer={mac} frames=600" for mac in reversed(MACS)), loss_ppm=loss_ppm)
    for guest, other in (guests, guests[::-1]):
        claims(guest)
        mine, here, there = figures(guest, "blast sent"), figures(guest, "blast device"), figures(other, "blast device")
        lost_on_wire = there["sent"] - here["received"] - here["drops"]
        greetings = there["sent"] - 600  # of which any may be lost
        assert mine["received"] + mine["missing"] == 600
        assert 0 <= lost_on_wire + here["drops"] - mine["missing"] <= greetings
        assert (lost_on_wire > 0) == (loss_ppm > 0)


@pytest.mark.parametrize("seed", [1, 2])
def test_nonsense_in_rings_and_registers_ends_nothing_but_its_own_frames(seed: int) -> None:
    words = f"rounds=2000 seed={seed} peer="
    for guest in run("vif_hostile", words + MACS[1], words + MACS[0]):
        claims(guest)
