"""What `sidecore bench fig4` runs: for each point two hosts on one timeline, joined, until every client is done.

Setup --World--> guests probe; NIC and VMM stamp --> PointResult: samples, signals of each host, hops
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks.fig4.flows import READY_MARK, Flow, flow_of
from benchmarks.fig4.hops import FlowHops, HostStamps, mean_hops_ns
from benchmarks.fig4.linux import RunUntil, measure_linux
from benchmarks.fig4.results import HostFigures, PointResult
from benchmarks.fig4.setup import DOM0_IMAGES, OWN_IMAGE, Setup
from benchmarks.fig4.world import build, describe, dropped_of, received_of
from benchmarks.harness.measurements import ProtocolError, nanoseconds
from benchmarks.harness.processes import run_in_processes
from emulator.errors import ConfigError
from emulator.pcpu import PCpu
from guest_images.images import resolve
from vmm.nic.backend import FIRST
from vmm.outcome import EndKind
from vmm.session.report.core_use import uses
from vmm.session.spec import Limits
from vmm.session.virtual_guest import VirtualGuest
from vmm.session.world import Guest, Host, World

SLICE_MS = 1
MAX_SECONDS = 100  # emulated, of a point


def measure(setups: Sequence[Setup]) -> Iterator[PointResult]:
    """The points, as they come, in as many processes as there are processors. Raises ConfigError."""
    for image in dict.fromkeys(image for setup in setups for image in (DOM0_IMAGES[setup.carrier], setup.image)):
        resolve(image)  # compiled once, and not by each process
    return run_in_processes(measure_point, setups)


def measure_point(setup: Setup) -> PointResult:
    """Raises ConfigError when a guest does not succeed."""
    world, flows = prepare(setup)
    run_until = partial(_run_until, world, setup)
    try:
        done = (measure_own if setup.image == OWN_IMAGE else measure_linux)(world, setup, run_until)
    except ProtocolError as error:
        raise ConfigError(f"{setup}: {error}") from None
    return _result(setup, world, done, flows, world.hosts[0].built.machine.profile.frequency_hz)


def measure_own(world: World, _setup: Setup, run_until: RunUntil) -> list[Flow]:
    """Until every client of our own kernel has its figures. Raises ProtocolError."""
    clients = world.hosts[0].guests[1:]
    waiting = set(range(len(clients)))
    for number, client in enumerate(clients):
        client.built.board.post.on_code = partial(_note_mark, waiting, number)
    run_until(lambda: not waiting)
    return [flow_of(bytes(client.output), _virtual(client).domain.read) for client in clients]


def _run_until(world: World, setup: Setup, is_over: Callable[[], bool]) -> None:
    """Run in slices. Raises ConfigError when it takes too long."""
    frequency_hz, limit_cycles = world.hosts[0].built.machine.profile.frequency_hz, world.cycles
    most_cycles = limit_cycles + frequency_hz * MAX_SECONDS
    while not is_over():
        for guest in world.guests:
            if guest.end is not None and guest.end.kind is EndKind.GUEST_ERROR:
                raise ConfigError(f"{setup}: {guest.end}")
        limit_cycles += frequency_hz * SLICE_MS // 1000
        if limit_cycles > most_cycles:
            raise ConfigError(f"{setup}: its flows do not come to their end within {MAX_SECONDS} s")
        world.run(Limits(max_cycles=limit_cycles))


def _note_mark(waiting: set[int], number: int, code: int) -> None:
    """A client wrote to its POST port."""
    if code == READY_MARK:
        waiting.discard(number)


def prepare(setup: Setup) -> tuple[World, list[FlowHops]]:
    """The two hosts, and who follows each flow through them."""
    world = describe(setup)
    flows = [FlowHops(skipped=setup.warm_up + 1, counted=setup.probes) for _ in range(setup.guests)]
    build(world)
    for number, host in enumerate(world.hosts):
        nic = host.guests[0].built.nic
        assert nic is not None, "the host has one"
        nic.observers.append(HostStamps(number, flows, first=0 if setup.carrier == "nic" else FIRST))
    return world, flows


def _virtual(guest: Guest) -> VirtualGuest:
    assert isinstance(guest.built, VirtualGuest), "it runs under the VMM"
    return guest.built


def _result(
    setup: Setup, world: World, done: Sequence[Flow], flows: Sequence[FlowHops], frequency_hz: int
) -> PointResult:
    samples = [sample for flow in done for sample in flow.samples]
    mean_ns = nanoseconds(sum(samples) / max(1, len(samples)), frequency_hz)
    return PointResult(
        setup,
        frequency_hz,
        tuple(flow.samples for flow in done),
        sum(flow.lost for flow in done),
        (_host_figures(world.hosts[0]), _host_figures(world.hosts[1])),
        mean_hops_ns(flows, mean_ns),
        world.cycles / frequency_hz,
    )


def _host_figures(host: Host) -> HostFigures:
    built = host.guests[0].built
    nic = built.nic_stats()
    assert nic is not None, "the host has one"
    channels = nic["vmm"]["domains"].values()
    return HostFigures(
        packets=sum(received_of(host)),
        signals=sum(counts["signals"] for counts in channels),
        redundant_signals=sum(counts["redundant"] for counts in channels),
        redundant_schedulings=sum(counts["redundant_schedulings"] for counts in channels),
        drops=dropped_of(host),
        core_use=tuple(_core_use(pcpu) for pcpu in built.machine.pcpus),
    )


def _core_use(pcpu: PCpu) -> dict[str, float]:
    """The shares of a core's time by use."""
    cycles = uses(pcpu.clock.book().by_owner())
    return {use: spent / max(1, sum(cycles.values())) for use, spent in cycles.items()}
