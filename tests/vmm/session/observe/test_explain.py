"""Claims about --explain: the lines of an exit sum to its cycles, name their parameters, and change nothing."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from emulator.errors import ConfigError
from emulator.ledger import Category
from emulator.profiles.profile import load_profile
from emulator.vmx.exit_reasons import ExitReason
from vmm.cost.meter import Charge
from vmm.session.boot_plan import BootPlan
from vmm.session.build import build_guest
from vmm.session.observe.explain import Explanation, Recorder
from vmm.session.observe.trace import TraceWriter
from vmm.session.observe.which_exit import Request, parse_request
from vmm.session.plan import plan
from vmm.session.report.explain_table import missing_text, print_explanation, source_texts
from vmm.session.spec import GuestSpec, HostSpec, Outside, Paging

LIMIT_CYCLES = 10**9
WITHOUT_PARAMETER = {Category.IDLE}


def run(boot_plan: BootPlan, request: Request | None, trace_path: Path) -> tuple[Recorder | None, int, list[Any]]:
    """The recorder, the clock at the end, and the records of the trace."""
    recorder = None if request is None else Recorder(request, boot_plan.host.profile)
    with TraceWriter(trace_path, {}) as trace:
        guest = build_guest(boot_plan, lambda _byte: None, observers=[trace] if recorder is None else [trace, recorder])
        guest.advance(LIMIT_CYCLES)
    assert guest.end is not None
    records = [json.loads(line) for line in trace_path.read_text().splitlines()[1:-1]]
    return recorder, guest.pcpu.clock.cycles, records


@pytest.mark.parametrize("paging", ["shadow", "ept"])
@pytest.mark.parametrize("text", ["CPUID:3", "HLT:2", "IO_INSTRUCTION:70", "CR_ACCESS", "EXCEPTION_NMI:150"])
def test_the_lines_sum_to_the_exit_that_the_trace_shows(text: str, paging: Paging, tmp_path: Path) -> None:
    if paging == "ept" and text in ("CR_ACCESS", "EXCEPTION_NMI:150"):
        pytest.skip("the guest makes none under EPT")
    request, boot_plan = parse_request(text), plan(HostSpec(paging=paging), GuestSpec(image="default"))
    recorder, clock_cycles, records = run(boot_plan, request, tmp_path / "trace")
    assert recorder is not None
    explanation = recorder.explanation
    assert explanation is not None
    assert explanation.is_whole
    record = [row for row in records if row["exit"] == text.partition(":")[0]][request.number - 1]
    seen = (explanation.began_cycles, explanation.cycles, hex(explanation.rip))
    assert seen == (record["cycle"], record["cycles"], record["rip"])
    assert sum(line.cycles for line in explanation.lines) == explanation.cycles
    for line in explanation.lines:
        assert line.cycles > 0
        assert line.parameter in boot_plan.host.profile.rows or line.category in WITHOUT_PARAMETER, line
    assert run(boot_plan, None, tmp_path / "plain")[1:] == (clock_cycles, records)


def test_when_detailed_the_caches_say_what_an_access_takes(tmp_path: Path) -> None:
    boot_plan = plan(HostSpec(paging="shadow", timing="detailed"), GuestSpec(image="default"))
    recorder, _, _ = run(boot_plan, Request(ExitReason.EXCEPTION_NMI, 1), tmp_path / "trace")
    assert recorder is not None
    assert recorder.explanation is not None
    explanation = recorder.explanation
    assert sum(line.cycles for line in explanation.lines) == explanation.cycles
    accesses = [line for line in explanation.lines if line.category == Category.VMM_MEMORY]
    misses = [line for line in accesses if "hierarchy.py" in line.source]
    assert 0 < len(misses) < len(accesses)
    assert max(line.cycles for line in misses) > boot_plan.host.profile.memory.dram_latency_cycles


def test_a_cpuid_exit_is_what_its_handler_does(tmp_path: Path) -> None:
    overrides = (
        "vmx.exit_cycles_by_reason.CPUID=401", "vmx.entry_cycles=5003", "vmx.vmread_cycles=3", "vmx.vmwrite_cycles=7",
        "core.path_cycles_per_100_instructions=200", "caches.l1d_latency_cycles=11", "instructions.cpuid_cycles=1301",
    )  # fmt: skip
    boot_plan = plan(HostSpec(paging="ept", overrides=overrides), GuestSpec(image="default"))
    recorder, _, _ = run(boot_plan, Request(ExitReason.CPUID, 3), tmp_path / "trace")
    assert recorder is not None
    assert recorder.explanation is not None
    lines = [(line.what, line.cycles, line.parameter) for line in recorder.explanation.lines]
    path = "core.path_cycles_per_100_instructions"
    state_hpa = lines[2][0].split()[-1]
    assert lines == [
        ("VM exit", 401, "vmx.exit_cycles_by_reason.CPUID"),
        ("save registers, dispatch: 60 instructions", 120, path),
        (f"write 120 bytes at {state_hpa}", 15 * 11, "caches.l1d_latency_cycles"),
        ("VMREAD EXIT_REASON", 3, "vmx.vmread_cycles"),
        ("emulate CPUID: 60 instructions", 120, path),
        ("instruction: cpuid", 1301, "instructions.cpuid_cycles"),
        ("step over the instruction: 15 instructions", 30, path),
        ("VMREAD GUEST_RIP", 3, "vmx.vmread_cycles"),
        ("VMREAD VM_EXIT_INSTRUCTION_LENGTH", 3, "vmx.vmread_cycles"),
        ("VMREAD GUEST_INTERRUPTIBILITY_STATE", 3, "vmx.vmread_cycles"),
        ("VMWRITE GUEST_RIP", 7, "vmx.vmwrite_cycles"),
        ("look for softirqs and interrupts: 45 instructions", 90, path),
        ("restore registers: 20 instructions", 40, path),
        (f"read 120 bytes at {state_hpa}", 15 * 11, "caches.l1d_latency_cycles"),
        ("VM entry", 5003, "vmx.entry_cycles"),
    ]


@pytest.mark.parametrize(
    ("text", "reason", "number"),
    [("CPUID", ExitReason.CPUID, 1), ("HLT:12", ExitReason.HLT, 12), ("cpuid:3", ExitReason.CPUID, 3)],
)
def test_requests(text: str, reason: int, number: int) -> None:
    assert parse_request(text) == Request(reason, number)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CPUIX", "did you mean 'CPUID'"),
        ("", "no exit reason ''"),
        ("CPUID:0", "the first exit has the number 1"),
        ("CPUID:", "a number from 1"),
        ("CPUID:-1", "a number from 1"),
        ("CPUID:x", "a number from 1"),
        ("CPUID:\N{SUPERSCRIPT TWO}", "a number from 1"),
        ("CPUID:" + "9" * 5000, "a number from 1"),
        ("RSM", "no guest makes this exit: the host has no SMM"),
    ],
)
def test_a_mistake_is_one_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_request(text)
    assert "\n" not in str(caught.value)


def test_native_has_nothing_to_explain() -> None:
    with pytest.raises(ConfigError, match="--paging native has no VM exits; choose shadow or ept"):
        plan(HostSpec(paging="native"), GuestSpec(image="default"), outside=Outside(explain="CPUID"))


@pytest.mark.parametrize(("seen", "words"), [(0, "no CPUID exits"), (1, "1 CPUID exit"), (2, "2 CPUID exits")])
def test_an_exit_that_never_came_is_one_line(seen: int, words: str) -> None:
    recorder = Recorder(Request(ExitReason.CPUID, 3), load_profile("netburst-2006"))
    for _ in range(seen):
        assert not recorder.counter.is_it(ExitReason.CPUID)
    assert not recorder.counter.is_it(ExitReason.HLT)
    assert missing_text(recorder) == f"--explain CPUID:3: the guest made {words}"
    assert recorder.counter.is_it(ExitReason.CPUID) == (seen == 2)


def printed(recorder: Recorder) -> list[str]:
    console = Console(file=StringIO(), width=40, color_system=None, legacy_windows=False)
    print_explanation(recorder, console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_the_text_has_a_line_per_charge_and_each_source_once() -> None:
    profile = load_profile("netburst-2006", ["vmx.vmread_cycles=3"])
    recorder = Recorder(Request(ExitReason.CPUID, 1), profile)
    recorder.explanation = Explanation(recorder.request, "vcpu0", 0, 1234, 0x1000, cycles=1046, is_whole=True)
    recorder.explanation.lines += [
        Charge(Category.VMCS, 3, "VMREAD A", "vmx.vmread_cycles", ""),
        Charge(Category.PATHS, 40, "a path", "core.path_cycles_per_100_instructions", "the path's source"),
        Charge(Category.VMCS, 3, "VMREAD B", "vmx.vmread_cycles", ""),
        Charge(Category.IDLE, 1000, "waits [3]", "", ""),
    ]
    lines = printed(recorder)
    assert lines[0] == "VM exit CPUID:1: vcpu0 on pcpu0 at cycle 1,234, RIP 0x1000, 1,046 cycles"
    assert [line.split() for line in lines[2:7]] == [
        ["vmcs", "access", "VMREAD", "A", "3", "vmx.vmread_cycles", "[1]"],
        ["VMM", "paths", "a", "path", "40", "core.path_cycles_per_100_instructions", "[2],", "[3]"],
        ["vmcs", "access", "VMREAD", "B", "3", "vmx.vmread_cycles", "[1]"],
        ["idle", "waits", "[3]", "1,000"],
        ["Total", "1,046"],
    ]
    assert lines[8] == "[1] vmx.vmread_cycles = 3: --set (guess)"
    assert lines[9] == "[2] the path's source"
    assert lines[10].startswith("[3] core.path_cycles_per_100_instructions = ")


def test_a_guest_that_ended_in_the_exit_is_told() -> None:
    recorder = Recorder(Request(ExitReason.CPUID, 1), load_profile("netburst-2006"))
    recorder.explanation = Explanation(recorder.request, "vcpu0", 0, 1, 2, cycles=3)
    assert printed(recorder)[0].endswith("3 cycles, in which the guest ended")


def test_the_last_exit_of_a_guest_has_an_account_too(tmp_path: Path) -> None:
    boot_plan = plan(HostSpec(paging="ept"), GuestSpec(image="default"))
    _, _, records = run(boot_plan, None, tmp_path / "trace")
    number = sum(row["exit"] == "IO_INSTRUCTION" for row in records)
    recorder, clock_cycles, _ = run(boot_plan, Request(ExitReason.IO_INSTRUCTION, number), tmp_path / "again")
    assert recorder is not None
    explanation = recorder.explanation
    assert explanation is not None
    assert explanation.began_cycles + explanation.cycles == clock_cycles
    assert sum(line.cycles for line in explanation.lines) == explanation.cycles


def test_every_parameter_of_a_line_has_a_source() -> None:
    profile = load_profile("netburst-2006")
    assert source_texts(Charge(Category.EXIT, 1, "VM exit", "vmx.exit_cycles", ""), profile)[0].startswith(
        "vmx.exit_cycles = 1,"
    )
    assert source_texts(Charge(Category.IDLE, 1, "waits", "", ""), profile) == []
