"""Real gdb with the symbols of a kernel: breaks, steps, memory, and backwards, in all ways to run a guest."""

from pathlib import Path

import pytest

import sidecore
from guest_images.kernels import build_kernel
from tests.vmm.session.debugger.gdb.client import needs_gdb, run_gdb, served
from tests.vmm.session.debugger.worlds import world_of
from vmm.session import debugger

README = Path(debugger.__file__).parent / "gdb" / "README.md"


@needs_gdb
@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_gdb_does_what_the_readme_shows(paging: sidecore.Paging) -> None:
    commands = README.read_text().partition("```gdb\n")[2].partition("```")[0]
    with served(world_of("default", paging), run_line=str.upper) as port:
        said = run_gdb(port, build_kernel("default"), commands)
    lines = [line for line in said.splitlines() if line.startswith("rip ")]
    assert "Breakpoint 1," in said, said
    assert "INFO BREAKS" in said, said
    assert [line.split()[-1] for line in lines] == ["<do_cpuid>", "<do_cpuid>"], said


@needs_gdb
@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_gdb_watches_memory_and_sets_registers(paging: sidecore.Paging) -> None:
    commands = """
        break do_cpuid
        continue
        watch -location *(unsigned long *) ($rsp - 8)
        continue
        printf "new %lx\\n", *(unsigned long *) $rsp
        reverse-continue
        delete
        set $r15 = 0x4321
        stepi
        printf "r15 %lx\\n", $r15
    """
    with served(world_of("default", paging)) as port:
        said = run_gdb(port, build_kernel("default"), commands)
    assert said.count("Hardware watchpoint 2") >= 2, said
    assert "New value" in said, said
    assert "r15 4321" in said, said


@needs_gdb
def test_gdb_steps_two_processors() -> None:
    commands = """
        break on_ping
        break on_pong
        continue
        info threads
        continue
        stepi
        thread 1
        reverse-stepi
        reverse-continue
    """
    with served(world_of("smp_ipi", "ept", vcpu_count=2, pcpu_count=2)) as port:
        said = run_gdb(port, build_kernel("smp_ipi"), commands)
    assert '1    Thread 1 "d0v0"' in said, said
    hits = [line[7:9] for line in said.splitlines() if " hit Breakpoint " in line]
    assert hits == ["2 ", "1 ", "1 ", "2 "], said


@needs_gdb
@pytest.mark.parametrize("paging", ["native", "shadow", "ept"])
def test_gdb_shows_lines_and_structures_of_our_kernels(paging: sidecore.Paging) -> None:
    commands = """
        break on_tick
        continue
        print/x frame->vector
        print sizeof(*frame)
        ptype frame
        info symbol frame->rip
        print ticks
        next
        print ticks
        reverse-stepi
        info line *$rip
        delete
    """
    with served(world_of("lost_interrupt", paging)) as port:
        said = run_gdb(port, build_kernel("lost_interrupt"), commands)
    assert "guest_images/kernels/lost_interrupt/main.c:" in said, said
    assert "$1 = 0x20" in said, said
    assert "uint64_t r15;" in said, said
    assert "guest_main" in said, said
    assert [line for line in said.splitlines() if line.startswith(("$3", "$4"))] == ["$3 = 0", "$4 = 1"], said
