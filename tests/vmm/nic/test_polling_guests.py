"""Guests that take no upcalls but poll their page: rounds that are jumped over are executed ones, and cost nothing."""

import pytest

from tests.vmm.nic.rig import (
    ATTACH,
    END,
    GIVE_BACK,
    HANDLER,
    PAGE,
    PS_PER_MS,
    PS_PER_US,
    Rig,
    frame_to,
    mac_of,
    make_rig,
    sender,
)

FRAMES = 6
FIRST_PS = 70 * PS_PER_US


def poller(frames: int) -> str:
    """Masks its upcalls, and ends when it has seen so many frames."""
    return f"""
    {ATTACH}
    mov dword ptr [{PAGE + 4}], 1
6:  mov eax, r12d
    shl eax, 4
5:  pause
    cmp dword ptr [rax + {PAGE + 2048 + 12}], 2
    jne 5b
    {GIVE_BACK}
    cmp r13d, {frames}
    jb 6b
    {END}
    {HANDLER}
    """


def rig_of(paging: str = "ept", *, jumps: bool = True, cores: int = 1, profile: str = "netburst-2006") -> Rig:
    """A guest that polls on each core; the frames come closer and closer."""
    rig = make_rig(paging, guests=cores, cores=cores, jumps_spins=jumps, profile=profile, interrupt_core=cores - 1)
    for _ in range(cores):
        rig.add(poller(FRAMES))
    for number in range(cores):
        for frame in range(FRAMES):
            when_ps = FIRST_PS + frame * (22 - 3 * frame) * PS_PER_US + 7 * number
            rig.end.arrive(when_ps, frame_to(number))
    return rig


def finished(rig: Rig, *, slice_ps: int = PS_PER_MS, until_ps: int = PS_PER_MS) -> list[object]:
    """All that can be compared of a run to its end."""
    for limit_ps in range(slice_ps, until_ps + slice_ps, slice_ps):
        rig.run(limit_ps)
    assert all(domain.end is not None for domain in rig.domains)
    facts: list[object] = [rig.nic.stats()["vifs"]]
    for number, pcpu in enumerate(rig.machine.pcpus):
        pcpu.clock.check_ledger()
        owners = {owner: accounts for owner, accounts in pcpu.clock.book().by_owner().items() if owner != "host"}
        facts += [pcpu.clock.instructions, owners, rig.exits(number), rig.counts(number)]
    return facts


@pytest.mark.parametrize("paging", ["ept", "shadow"])
def test_rounds_that_are_jumped_over_are_executed_ones(paging: str) -> None:
    assert finished(rig_of(paging)) == finished(rig_of(paging, jumps=False))


@pytest.mark.parametrize("profile", ["netburst-2006", "xeon-2.8-ht-2006"])
def test_so_they_are_beside_another_guest_that_polls_on_another_core(profile: str) -> None:
    """One of them takes the interrupts of both, and sets words in the page of the other."""
    one, other = (finished(rig_of(cores=2, jumps=jumps, profile=profile)) for jumps in (True, False))
    assert one == other


def test_a_guest_that_waits_for_its_own_frame_to_be_sent_is_jumped_over() -> None:
    facts = []
    for jumps in (True, False):
        rig = make_rig(jumps_spins=jumps)
        rig.add(sender(3, mac_of(9)))
        facts.append(finished(rig))
    assert facts[0] == facts[1]


def test_slices_change_nothing() -> None:
    assert finished(rig_of(), slice_ps=3_001_001) == finished(rig_of())


def test_a_second_of_polling_is_a_few_loads() -> None:
    rig = make_rig()
    domain = rig.add(poller(1))
    rig.end.arrive(1000 * PS_PER_MS, frame_to(0))
    rig.run(1001 * PS_PER_MS)
    assert domain.end is not None
    assert rig.machine.pcpus[0].clock.instructions > 10**8
