"""Jumped-over polling and spinning change nothing: clocks, ledgers, trace and output are those of executed ones."""

from pathlib import Path

import pytest

from devices.pc import Pc
from emulator.ledger import HOST
from emulator.machine import Machine
from emulator.timing.fidelity import Fidelity
from vmm.hypervisor import Hypervisor, host_memory_bytes
from vmm.session.build import build_guest
from vmm.session.observe.statistics import ExitStatistics
from vmm.session.observe.trace import TraceWriter
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec, Paging
from vmm.session.virtual_guest import VirtualGuest
from vmm.sidecore.poll import Poll

MEMORY_BYTES = 64 << 20


def run(
    paging: Paging,
    timing: Fidelity,
    path: Path,
    *,
    jumps: bool,
    slice_cycles: int = 10**9,
    kernel: str = "sidecall_null",
) -> tuple[object, ...]:
    output = bytearray()
    with TraceWriter(path, {}) as trace:
        guest = build_guest(
            plan(
                HostSpec(paging=paging, sidecore_count=1, jumps_spins=jumps, timing=timing),
                GuestSpec(image=kernel, memory_bytes=MEMORY_BYTES),
            ),
            output.append,
            observers=[trace],
        )
        assert isinstance(guest, VirtualGuest)
        while guest.end is None:
            guest.advance(guest.pcpu.clock.cycles + slice_cycles)
    served = guest.machine.pcpus[1]
    spin = {key: account for key, account in served.clock.book().accounts.items() if key[0] != HOST}
    return (
        bytes(output),
        guest.pcpu.clock.cycles,
        guest.pcpu.clock.instructions,
        guest.pcpu.clock.book().by_owner(),
        guest.exit_statistics(),
        spin,
        path.read_bytes(),
    )


@pytest.mark.parametrize("timing", ["fast", "detailed"])
@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_a_jumped_spin_is_an_executed_one(paging: Paging, timing: Fidelity, tmp_path: Path) -> None:
    jumped = run(paging, timing, tmp_path / "jumped", jumps=True)
    executed = run(paging, timing, tmp_path / "executed", jumps=False)
    assert jumped == executed
    assert b"PASS: all" in bytes(jumped[0])  # type: ignore[call-overload]
    assert "VMCALL" in jumped[4]  # type: ignore[operator]
    assert bytes(jumped[-1]).count(b'"exit": "VMCALL"') > 0  # type: ignore[call-overload]


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_slices_change_nothing(paging: Paging, tmp_path: Path) -> None:
    sliced = run(paging, "fast", tmp_path / "sliced", jumps=True, slice_cycles=3_001)
    assert sliced == run(paging, "fast", tmp_path / "whole", jumps=True)


def run_together(
    kernels: tuple[str, ...], paging: Paging, timing: Fidelity, path: Path, *, jumps: bool = True, poll: Poll = "spin",
    slice_cycles: int = 10**9, overrides: tuple[str, ...] = (), profile: str = "netburst-2006",
) -> tuple[object, ...]:  # fmt: skip
    """A guest for each kernel, each on a core of its own, with one sidecore for all."""
    count = len(kernels)
    overrides = (*overrides, f"core.core_count={count + 1}")
    plans = [
        plan(
            HostSpec(paging=paging, profile=profile, overrides=overrides, timing=timing),
            GuestSpec(image=kernel, memory_bytes=MEMORY_BYTES),
        )
        for kernel in kernels
    ]  # fmt: skip
    memory_bytes = host_memory_bytes([MEMORY_BYTES] * count)
    machine = Machine(plans[0].host.profile, memory_bytes=memory_bytes, pcpu_count=count + 1, timing=timing)
    outputs, statistics = [bytearray() for _ in kernels], ExitStatistics()
    with TraceWriter(path, {}) as trace:
        hypervisor = Hypervisor(
            Pc(machine), paging=paging, sidecore_count=1, poll=poll, jumps_spins=jumps, observers=[statistics, trace]
        )
        for each, output in zip(plans, outputs, strict=True):
            hypervisor.create_domain(each.guest.image, memory_bytes=MEMORY_BYTES, transmit=output.append)
        limit_cycles = 0
        while any(domain.end is None for domain in hypervisor.domains):
            limit_cycles += slice_cycles
            hypervisor.advance(limit_cycles)
    for pcpu in machine.pcpus:
        pcpu.clock.check_ledger()
    assert all(b"PASS: all" in output for output in outputs)
    accounts = [  # but for what cores do when all is over
        {key: account for key, account in pcpu.clock.book().accounts.items() if key[0] != HOST}
        for pcpu in machine.pcpus
    ]
    tables = [statistics.table(domain) for domain in hypervisor.domains]
    return [bytes(output) for output in outputs], accounts, tables, path.read_bytes()


HARDWARE_FLUSH = ("vmx.remote_tlb_flush_cycles=400",)


@pytest.mark.parametrize(
    ("paging", "timing", "overrides"),
    [
        ("shadow", "fast", ()),
        ("shadow", "detailed", ()),
        ("shadow", "detailed", HARDWARE_FLUSH),
        ("ept", "fast", ()),
        ("ept", "detailed", HARDWARE_FLUSH),
    ],
)
def test_guests_that_queue_for_a_sidecore_do_as_if_they_executed_their_spins(
    paging: Paging, timing: Fidelity, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    kernels = ("sidecalls", "sidecall_null", "sidecalls")
    jumped = run_together(kernels, paging, timing, tmp_path / "jumped", overrides=overrides)
    executed = run_together(kernels, paging, timing, tmp_path / "executed", jumps=False, overrides=overrides)
    assert jumped == executed


def test_a_request_is_served_in_order_of_time_though_the_poll_that_finds_it_is_executed(tmp_path: Path) -> None:
    """On a machine where a flush that comes a load earlier is booked otherwise: a poll took its core too far once."""
    kernels = ("sidecalls", "sidecalls", "sidecall_null")
    jumped = run_together(kernels, "shadow", "detailed", tmp_path / "jumped", profile="core2-2006")
    executed = run_together(kernels, "shadow", "detailed", tmp_path / "executed", jumps=False, profile="core2-2006")
    assert jumped == executed


@pytest.mark.parametrize("poll", ["spin", "mwait"])
@pytest.mark.parametrize("slice_cycles", [2_003, 50_021])
def test_slices_change_nothing_for_guests_that_queue(poll: Poll, slice_cycles: int, tmp_path: Path) -> None:
    kernels = ("sidecalls", "sidecall_errors", "sidecalls")
    whole = run_together(kernels, "shadow", "fast", tmp_path / "whole", poll=poll)
    assert whole == run_together(kernels, "shadow", "fast", tmp_path / "sliced", poll=poll, slice_cycles=slice_cycles)
