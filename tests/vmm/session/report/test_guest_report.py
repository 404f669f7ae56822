"""Claims about the state that is shown when a guest does not go on: one screen of 80 columns, with what led there."""

from pathlib import Path

import pytest

from emulator.vmx import interruption as i
from guest_images.images import build
from tests.guest.running import MODES
from tests.vmm.session import tiny_kernels as tiny
from vmm.session.build import build_guest
from vmm.session.guest import Guest
from vmm.session.plan import plan
from vmm.session.report.guest_report import guest_report
from vmm.session.report.recent import Recent, chain_line, fault_chain, recent_events
from vmm.session.spec import GuestSpec, HostSpec, Paging
from vmm.session.symbols import Symbols, symbols_of

SCREEN_LINES = 25
COLUMNS = 80


def ended(kernel: Path, paging: Paging, cycles: int = 10_000_000, cpus: int = 1) -> Guest:
    spec = GuestSpec(kernel=kernel, memory_bytes=16 << 20, vcpu_count=cpus)
    guest = build_guest(plan(HostSpec(paging=paging), spec), lambda byte: None)
    guest.advance(cycles)
    return guest


@pytest.mark.parametrize("paging", MODES)
def test_a_triple_fault_shows_the_fault_that_it_began_with(tmp_path: Path, paging: Paging) -> None:
    guest = ended(tiny.write_kernel(tmp_path, tiny.TRIPLE_FAULT), paging)
    lines = guest_report(guest).splitlines()
    assert lines[0].startswith("cpu 0 at 0x200000, ring 0, 64 bits, cycle ")
    assert "first #UD in 0x200000, then #GP error 0x33, #DF error 0x0" in lines
    assert "=> 0x200000: 0f 0b                    ud2" in lines
    chain = fault_chain(recent_events(guest.processors[0].engine))
    assert [event.vector for event in chain] == [6, 13, 8]
    assert {event.rip for event in chain} == {tiny.ENTRY}


def event(vector: int, rip: int) -> Recent:
    return Recent(0, rip, 0, i.VALID | i.HARDWARE_EXCEPTION << i.TYPE_SHIFT | vector, 0)


@pytest.mark.parametrize(
    ("events", "line"),
    [
        ([event(14, 5), event(14, 5)], ""),  # handled, and tried again
        ([event(14, 5), event(8, 5)], "first #PF in 0x5, then #DF"),
        ([event(6, 4), event(14, 5), event(8, 5)], "first #PF in 0x5, then #DF"),
        ([event(6, 5), event(8, 5), event(14, 5), event(8, 5)], "first #PF in 0x5, then #DF"),
        ([event(8, 5)], ""),
        ([], ""),
    ],
)
def test_a_chain_of_faults_is_one_that_could_not_be_delivered(events: list[Recent], line: str) -> None:
    assert chain_line(events, Symbols()) == line


@pytest.mark.parametrize("paging", MODES)
def test_a_report_of_a_kernel_with_symbols_fits_one_screen(paging: Paging) -> None:
    kernel = build("default")
    guest = ended(kernel, paging, 3_000_000)
    symbols = symbols_of(kernel)
    lines = guest_report(guest, symbols).splitlines()
    name = symbols.name_of(guest.vmcs.read(0x681E))
    assert name
    assert name in lines[0]
    assert max(map(len, lines)) <= COLUMNS
    assert len(lines) <= SCREEN_LINES + 1  # with that of the code on the stack
    assert any(line.startswith("code on the stack: ") and "guest_start" in line for line in lines)


@pytest.mark.parametrize("paging", MODES)
def test_the_control_registers_are_the_guests_own(paging: Paging) -> None:
    native, other = (guest_report(ended(build("default"), mode, 3_000_000)) for mode in ("native", paging))
    assert [line for line in native.splitlines() if line.startswith("cr0")] == [
        line for line in other.splitlines() if line.startswith("cr0")
    ]
    assert "cr3 0000000000" in other


def test_the_other_processors_are_in_the_report(tmp_path: Path) -> None:
    guest = ended(tiny.write_kernel(tmp_path, tiny.HANG), "ept", 100_000, cpus=8)
    lines = guest_report(guest).splitlines()
    assert sum(line.startswith("cpu ") for line in lines) == 1 + 4
    assert lines[-1] == "and 3 more processors"


@pytest.mark.parametrize("paging", MODES)
def test_a_report_changes_nothing(tmp_path: Path, paging: Paging) -> None:
    kernel = build("default")
    asked, other = ended(kernel, paging, 2_000_000), ended(kernel, paging, 2_000_000)
    guest_report(asked)
    for guest in (asked, other):
        guest.advance(4_000_000)
    clocks = [(guest.pcpu.clock.cycles, guest.pcpu.clock.instructions) for guest in (asked, other)]
    assert clocks[0] == clocks[1]
