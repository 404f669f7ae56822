"""The same frames, the same cycles: whatever the slices, with polls jumped over or executed, and after a snapshot."""

import random

import pytest

import sidecore
from emulator.events import PS_PER_NS
from emulator.ledger import HOST
from tests.vmm.nic.rig import PS_PER_MS, PS_PER_US, Rig, frame_to, make_rig, receiver
from vmm.nic.registry import Signal
from vmm.scheduler.credit import CreditScheduler
from vmm.sidecore.poll import Poll

FRAMES, END_PS, SEED = 12, 30 * PS_PER_MS, 20070601


def rig_of(signal: Signal, paging: str, *, poll: Poll = "spin", jumps: bool = True, sidecores: int = 0) -> Rig:
    """Three guests on two cores, who get frames at random times, some close together."""
    rig = make_rig(
        paging,
        guests=3,
        cores=2 + sidecores,
        sidecores=sidecores,
        signal=signal,
        identifier_bits=2,
        interrupt_core=None,
        scheduler=CreditScheduler(2),
        profile="haswell" if signal == "posted" else "netburst-2006",
        poll=poll,
        jumps_spins=jumps,
    )
    for _ in range(3):
        rig.add(receiver(FRAMES // 3))
    chance = random.Random(SEED)
    for frame in range(FRAMES):
        rig.end.arrive(20 * PS_PER_MS + chance.randrange(400 * PS_PER_US), frame_to(frame % 3))
    return rig


def facts(rig: Rig) -> list[object]:
    """All that may not depend on how the run was cut."""
    assert rig.hypervisor.vifs is not None
    books = [pcpu.clock.book().accounts for pcpu in rig.machine.pcpus]
    accounts = [{key: list(account) for key, account in book.items() if key[0] != HOST} for book in books]
    exits = [rig.exits(number) for number in range(3)]
    return [[str(domain.end) for domain in rig.domains], rig.hypervisor.vifs.stats(), accounts, exits]


def finished(rig: Rig, slice_ps: int = END_PS) -> list[object]:
    now_ps = 0
    while now_ps < END_PS:
        now_ps = min(END_PS, now_ps + slice_ps)
        rig.run(now_ps)
    return facts(rig)


@pytest.mark.parametrize(
    ("signal", "sidecores"), [("interrupt", 0), ("msix", 0), ("posted", 0), ("sidecore", 1), ("sidecore", 2)]
)
@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_slices_change_nothing(signal: Signal, sidecores: int, paging: str) -> None:
    whole = finished(rig_of(signal, paging, sidecores=sidecores))
    assert "debug-exit" in str(whole[0])
    assert finished(rig_of(signal, paging, sidecores=sidecores), 777_777 * PS_PER_NS) == whole


def test_polls_of_a_queue_that_are_jumped_over_are_executed_ones() -> None:
    jumped = finished(rig_of("sidecore", "ept", sidecores=1))
    assert finished(rig_of("sidecore", "ept", sidecores=1, jumps=False)) == jumped


def test_a_sidecore_that_sleeps_is_woken_by_the_store_of_the_nic() -> None:
    rig = rig_of("sidecore", "ept", sidecores=1, poll="mwait")
    finished(rig)
    assert sum(rig.counts(number)["signals"] for number in range(3)) > 0
    assert all(domain.end is not None for domain in rig.domains)


@pytest.mark.parametrize("signal", ["interrupt", "sidecore", "msix"])
@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_hosts_go_on_from_a_snapshot_as_if_they_had_not_been_stopped(signal: Signal, paging: str) -> None:
    def world() -> sidecore.World:
        made = sidecore.World()
        for number, role in enumerate(("client", "server")):
            spec = sidecore.HostSpec.take(
                {
                    "paging": paging,
                    "profile": "nehalem",
                    "has_nic": True,
                    "nic_signal": signal,
                    "sidecore_count": int(signal == "sidecore"),
                }
            )
            words = f"role={role} peer=02:5c:00:00:{1 - number:02x}:00 probes=12 warmup=2 quiet_ms=2"
            made.add_host(spec).add_guest(
                sidecore.GuestSpec(image="psapp", has_vif=True, append=words, memory_bytes=32 << 20)
            )
        made.add_link(*made.hosts, latency_ns=500)
        return made

    def outcome(of: sidecore.World) -> list[object]:
        assert of.run(sidecore.Limits(slice_cycles=50_000_000)) is sidecore.Stop.ENDED
        return [(bytes(guest.output), str(guest.end), guest.stats) for guest in of.guests]

    whole, cut = outcome(world()), world()
    chance = random.Random(SEED)
    for max_cycles in sorted(chance.randrange(2_000_000, 9_000_000) for _ in range(4)):
        cut.run(sidecore.Limits(max_cycles=max_cycles))
        assert outcome(cut.snapshot().clone()) == whole, f"seed {SEED}, cut at {max_cycles}"
