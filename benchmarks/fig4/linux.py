"""Guests that are Linux (`linux-vif`): one boots, the others are its copies, each is told psapp; all print at the end.

held --copies, line--> psapp counts --"~ psapp ready"--> goes on, so that other flows are pressed --line--> prints

Whoever printed earlier would disturb the others.
"""

from collections.abc import Callable, Sequence

from benchmarks.fig4.flows import Flow
from benchmarks.fig4.setup import Setup
from benchmarks.harness.measurements import ProtocolError
from guest_images.linux_vif import HOLDING_LINE
from vmm.session.virtual_guest import VirtualGuest
from vmm.session.world import Guest, World

SAMPLES, READY, END = b"~ psapp samples ", b"~ psapp ready", b"~ psapp end"
COUNTS = b"~ psapp client: "
RunUntil = Callable[[Callable[[], bool]], None]


def measure_linux(world: World, setup: Setup, run_until: RunUntil) -> list[Flow]:
    """Let the guests boot and probe; what the clients measured. Raises ProtocolError."""
    first, *others = _guests(world)
    run_until(lambda: HOLDING_LINE.encode() in first.output and _virtual(first).vcpu.is_blocked)
    for other in others:
        other.begin_as(first)
    for host, number in ((host, number) for host in range(2) for number in range(setup.guests)):
        world.hosts[host].guests[1 + number].send(f"{setup.words(host, number)}\n".encode())
    clients = world.hosts[0].guests[1:]
    run_until(lambda: _have_all(clients, READY))
    for client in clients:
        client.send(b"\n")
    run_until(lambda: _have_all(clients, END))
    return [linux_flow(bytes(client.output)) for client in clients]


def _virtual(guest: Guest) -> VirtualGuest:
    assert isinstance(guest.built, VirtualGuest), "it runs under the VMM"
    return guest.built


def _guests(world: World) -> list[Guest]:
    return [guest for host in world.hosts for guest in host.guests[1:]]


def _have_all(guests: Sequence[Guest], text: bytes) -> bool:
    return all(text in guest.output for guest in guests)


def linux_flow(output: bytes) -> Flow:
    """From what a client printed. Raises ProtocolError."""
    lines = output.replace(b"\r", b"").split(b"\n")
    try:
        counts = next(line for line in lines if line.startswith(COUNTS)).removeprefix(COUNTS).split()
        numbers = {name: int(number) for name, number in zip(counts[::2], counts[1::2], strict=True)}
        start = next(i for i, line in enumerate(lines) if line.startswith(SAMPLES))
        words = [word for line in lines[start + 1 : lines.index(END)] for word in line.removeprefix(b"~").split()]
        samples = tuple(int(word, 16) for word in words)
        if len(samples) != int(lines[start].removeprefix(SAMPLES)):
            raise ValueError("samples are missing")
        return Flow(samples, numbers[b"lost"], numbers[b"damaged"])
    except (StopIteration, ValueError, KeyError) as error:
        raise ProtocolError(f"psapp printed no figures ({error}); it said {output[-80:]!r} last") from None
