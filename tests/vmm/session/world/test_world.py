"""Claims about worlds: what is described is built, runs, pauses, can be built again, and is its host's alone."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sidecore
from devices.pci.edu import Edu
from tests.vmm.session import tiny_kernels as tiny
from vmm.sidecore.abi import CALL_NULL, CPUID_LEAF, OP_CPUID, Answer
from vmm.sidecore.worker import Worker

MIB = 1 << 20


def tiny_world(
    folder: Path, code: bytes, *, paging: sidecore.Paging = "native"
) -> tuple[sidecore.World, sidecore.Guest]:
    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(paging=paging))
    return world, host.add_guest(sidecore.GuestSpec(kernel=tiny.write_kernel(folder, code), memory_bytes=16 * MIB))


def kernel_that_says(folder: Path, value: int) -> Path:
    (folder / str(value)).mkdir()
    return tiny.write_kernel(folder / str(value), tiny.debug_exit(value))


def test_several_guests_share_the_cores_of_a_host(tmp_path: Path) -> None:
    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(paging="ept", pcpu_count=1))
    kernels = [kernel_that_says(tmp_path, value) for value in (1, 2, 3)]
    guests = [host.add_guest(sidecore.GuestSpec(kernel=kernel, memory_bytes=16 * MIB)) for kernel in kernels]
    assert world.run() is sidecore.Stop.ENDED
    assert [guest.end.value if guest.end else None for guest in guests] == [1, 2, 3]


def test_hosts_are_run_together(tmp_path: Path) -> None:
    world = sidecore.World()
    for value in (1, 2):
        kernel = kernel_that_says(tmp_path, value)
        world.add_host().add_guest(sidecore.GuestSpec(kernel=kernel, memory_bytes=16 * MIB))
    assert world.run() is sidecore.Stop.ENDED
    assert [str(host.guests[0].end)[-1] for host in world.hosts] == ["1", "2"]


@pytest.mark.parametrize("paging", ["native", "ept"])
def test_a_run_pauses_at_its_limits_and_goes_on(tmp_path: Path, paging: sidecore.Paging) -> None:
    world, guest = tiny_world(tmp_path, tiny.say(b"abcabd") + tiny.HANG, paging=paging)
    assert world.run(sidecore.Limits(until="abc")) is sidecore.Stop.UNTIL
    assert guest.output == b"abc"
    assert guest.end is None
    assert world.run(sidecore.Limits(until="abd")) is sidecore.Stop.UNTIL
    assert guest.output == b"abcabd"
    before = guest.stats["cycles"]
    assert world.run(sidecore.Limits(max_cycles=before + 5000)) is sidecore.Stop.LIMIT
    assert before + 5000 <= guest.stats["cycles"] < before + 10_000
    assert world.run(sidecore.Limits(max_seconds=0.01, slice_cycles=1000)) is sidecore.Stop.LIMIT


def test_a_guest_that_nothing_can_wake_is_asleep_until_somebody_types(tmp_path: Path) -> None:
    world, _ = tiny_world(tmp_path, tiny.SLEEP)
    assert world.run() is sidecore.Stop.ASLEEP


def test_ctrl_c_pauses_a_world(tmp_path: Path) -> None:
    world, guest = tiny_world(tmp_path, tiny.HANG)
    threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        world.run()
    assert guest.end is None
    assert world.run(sidecore.Limits(max_cycles=guest.stats["cycles"] + 1000)) is sidecore.Stop.LIMIT


def test_a_world_is_built_again_from_its_spec() -> None:
    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(sidecore_count=1))
    host.add_sidecall(100, "double", double)
    host.add_guest(sidecore.GuestSpec(image="sidecall_operation"))
    again = sidecore.World(world.spec)
    assert again.spec == world.spec
    assert [world.run(), again.run()] == [sidecore.Stop.ENDED] * 2
    first, second = (each.hosts[0].guests[0] for each in (world, again))
    assert (first.stats, first.output) == (second.stats, second.output)
    assert b"operation 100 of 21: status 0, 42" in first.output


def test_what_is_added_belongs_to_one_host() -> None:
    world = sidecore.World()
    hosts = [world.add_host(sidecore.HostSpec(sidecore_count=1)) for _ in range(2)]
    hosts[0].add_sidecall(100, "double", double)
    guests = [host.add_guest(sidecore.GuestSpec(image="sidecall_operation")) for host in hosts]
    world.run()
    assert b"operation 100 of 21: status 0, 42" in guests[0].output
    assert b"operation 100 of 21: status -1" in guests[1].output


def double(worker: Worker, arguments: tuple[int, int, int]) -> Answer:
    return Answer(sidecore.OK, (2 * arguments[0], 0, 0))


def null(_vcpu: sidecore.VCpu, _first: int, _second: int) -> int:
    return 0


def test_mistakes_are_one_line_each(tmp_path: Path) -> None:
    world, guest = tiny_world(tmp_path, tiny.debug_exit(0))
    host = world.hosts[0]
    with pytest.raises(sidecore.ConfigError, match="the guest is not built yet"):
        guest.exit_table()
    with pytest.raises(sidecore.ConfigError, match="999 is no exit reason"):
        host.add_exit_handler(999, sidecore.EXIT_HANDLERS[sidecore.ExitReason.CPUID])
    host.add_hypercall(7, null)
    with pytest.raises(sidecore.ConfigError, match="7 was added already"):
        host.add_hypercall(7, null)
    world.run()
    with pytest.raises(sidecore.ConfigError, match="the host is built already"):
        host.add_guest()
    with pytest.raises(sidecore.ConfigError, match="the host has no guest"):
        sidecore.World().add_host().build()
    native = sidecore.World().add_host(sidecore.HostSpec(paging="native"))
    native.add_guest()
    native.add_guest()
    with pytest.raises(sidecore.ConfigError, match="takes one guest, not 2"):
        native.build()


def test_numbers_and_names_of_the_vmm_are_taken(tmp_path: Path) -> None:
    def build(add: Callable[[sidecore.Host], None]) -> None:
        world, _ = tiny_world(tmp_path, tiny.debug_exit(0), paging="ept")
        add(world.hosts[0])
        world.build()

    for add, line in (
        (lambda host: host.add_hypercall(CALL_NULL, null), f"hypercall {CALL_NULL} is there already"),
        (lambda host: host.add_cpuid_leaf(CPUID_LEAF, (0, 0, 0, 0)), "CPUID leaf 0x40000001 is not free"),
        (lambda host: host.add_cpuid_leaf(1, (0, 0, 0, 0)), "CPUID leaf 0x1 is not free"),
        (lambda host: host.add_sidecall(OP_CPUID, "mine", double), "sidecall 1 is there already"),
        (lambda host: host.add_device("edu", Edu), "device 'edu' is there already"),
    ):
        with pytest.raises(sidecore.ConfigError, match=line):
            build(add)


def returns_nothing(_vcpu: sidecore.VCpu) -> Any:
    """An exit handler whose author forgot the outcome."""


def stops_alone(_vcpu: sidecore.VCpu) -> sidecore.Outcome:
    return sidecore.STOP


@pytest.mark.parametrize(
    ("handler", "line"),
    [
        (returns_nothing, "the exit handler returns_nothing for CPUID returned None; let it return NEXT, AGAIN"),
        (stops_alone, "the exit handler stops_alone for CPUID returned STOP, but its guest has not ended"),
    ],
)
def test_a_handler_without_an_outcome_is_named_at_once(
    tmp_path: Path, handler: Callable[[sidecore.VCpu], sidecore.Outcome], line: str
) -> None:
    world, _ = tiny_world(tmp_path, bytes.fromhex("0fa2") + tiny.debug_exit(0), paging="ept")
    world.hosts[0].add_exit_handler(sidecore.ExitReason.CPUID, handler)
    with pytest.raises(sidecore.ConfigError, match=line):
        world.run()


# mov $0xfee000f0, %esi; movd (%rsi), %mm0: an instruction on a device that is not emulated
NOT_MODELLED = bytes.fromhex("bef000e0fe 0f6e06")


@pytest.mark.parametrize("pcpu_count", [1, 2])
@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_what_is_not_modelled_ends_the_guest_that_does_it_alone(
    tmp_path: Path, paging: sidecore.Paging, pcpu_count: int
) -> None:
    def run(*codes: bytes) -> list[sidecore.Guest]:
        world = sidecore.World()
        host = world.add_host(sidecore.HostSpec(paging=paging, pcpu_count=pcpu_count))
        for number, code in enumerate(codes):
            (tmp_path / str(number)).mkdir(exist_ok=True)
            kernel = tiny.write_kernel(tmp_path / str(number), code)
            host.add_guest(sidecore.GuestSpec(kernel=kernel, memory_bytes=16 << 20))
        assert world.run(sidecore.Limits(max_cycles=50_000_000)) is sidecore.Stop.ENDED
        return host.guests

    faulty, other = run(tiny.say(b"hi") + NOT_MODELLED, tiny.say(b"good") * 50 + tiny.debug_exit(9))
    assert faulty.end is not None
    assert faulty.end.kind is sidecore.EndKind.GUEST_ERROR
    assert "and is not emulated" in faulty.end.detail
    assert other.end == sidecore.End(sidecore.EndKind.DEBUG_EXIT, 9)
    assert bytes(other.output) == b"good" * 50
    assert faulty.report.splitlines()[0].startswith("cpu 0 at 0x20000f")
    assert "movd mm0, dword ptr [rsi]" in faulty.report
