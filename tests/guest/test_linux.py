"""Debian's kernel boots to a shell in every mode, takes what is typed, and ends as it was told to."""

import os
import sys
from pathlib import Path

import pexpect
import pytest

from guest_images import linux_small
from guest_images.images import resolve
from guest_images.linux import READY_LINE
from tests.guest.running import MODES, Finished, run_plan
from vmm.boot import BootOptions, Paging, plan
from vmm.outcome import EndKind

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROMPT = b"/root # \x1b[6n"  # and asks the terminal where the cursor is
MAX_CYCLES = 60_000_000_000
ALIVE = b"echo $((6 * 7)) $(uname -m); cat /proc/sys/kernel/ostype\n"


def converse(
    paging: Paging, *commands: bytes, image: str = "linux", append: str | None = None, slice_cycles: int = 50_000_000
) -> Finished:
    """Boot Linux and type `commands`, each at a prompt; `append` is the whole command line, if not the recipe's."""
    options = BootOptions(image=image, paging=paging)
    if append is not None:
        files = resolve(image)
        options = BootOptions(kernel=files.kernel, initrd=files.initrd, append=append, paging=paging)
    boot_plan = plan(options)
    script = [(PROMPT, command) for command in commands]
    return run_plan(boot_plan, script=script, max_cycles=MAX_CYCLES, slice_cycles=slice_cycles)


@pytest.mark.parametrize("paging", MODES)
def test_linux_runs_commands_and_powers_off(paging: Paging) -> None:
    finished = converse(paging, ALIVE, b"poweroff -f\n")
    assert READY_LINE.encode() in finished.output
    assert b"\r\n42 x86_64\r\nLinux\r\n" in finished.output
    assert b"Kernel panic" not in finished.output
    assert finished.end is not None
    assert (finished.end.kind, finished.end.detail, finished.end.exit_status) == (EndKind.SHUTDOWN, "power off", 0)


@pytest.mark.parametrize("paging", MODES)
def test_linux_needs_no_word_but_its_console(paging: Paging) -> None:
    commands = (
        b"dmesg | grep -c -e 'Using IOAPIC for interrupt routing' -e 'Switch to symmetric I/O mode'\n",
        b"reboot -f\n",
    )
    finished = converse(paging, *commands, append="console=ttyS0")
    assert b"\r\n2\r\n" in finished.output
    assert finished.end is not None
    assert finished.end.kind is EndKind.RESET


@pytest.mark.parametrize("paging", MODES)
def test_linux_does_without_apics_and_acpi(paging: Paging) -> None:
    finished = converse(paging, ALIVE, append="console=ttyS0 noapic nolapic acpi=off reboot=t")
    assert b"\r\n42 x86_64\r\nLinux\r\n" in finished.output


@pytest.mark.parametrize("paging", MODES)
def test_the_generic_kernel_runs_commands_and_powers_off(paging: Paging) -> None:
    finished = converse(paging, ALIVE, b"poweroff -f\n", image="linux-generic")
    assert b"\r\n42 x86_64\r\nLinux\r\n" in finished.output
    assert finished.end is not None
    assert (finished.end.kind, finished.end.exit_status) == (EndKind.SHUTDOWN, 0)


@pytest.mark.skipif(not linux_small.recipe().directory.exists(), reason="sidecore images build linux-small makes it")
@pytest.mark.parametrize("paging", MODES)
def test_the_small_kernel_runs_commands_and_powers_off(paging: Paging) -> None:
    finished = converse(paging, ALIVE, b"uname -r\n", b"poweroff -f\n", image="linux-small")
    assert b"\r\n42 x86_64\r\nLinux\r\n" in finished.output
    assert b"-sidecore\r\n" in finished.output
    assert finished.end is not None
    assert (finished.end.kind, finished.end.exit_status) == (EndKind.SHUTDOWN, 0)


def test_reboot_ends_the_run_by_a_triple_fault() -> None:
    finished = converse("native", b"reboot -f\n")
    assert finished.end is not None
    assert (finished.end.kind, finished.end.detail) == (EndKind.SHUTDOWN, "triple fault")


def test_the_bzimage_decompresses_itself_and_boots() -> None:
    finished = converse("native", b"poweroff -f\n", image="linux_bzimage")
    assert READY_LINE.encode() in finished.output
    assert finished.end is not None


@pytest.mark.parametrize("paging", MODES)
def test_two_runs_are_equal_however_they_are_sliced(paging: Paging) -> None:
    assert converse(paging, ALIVE, b"poweroff -f\n") == converse(
        paging, ALIVE, b"poweroff -f\n", slice_cycles=7_000_003
    )


def test_a_person_at_a_terminal_can_work_in_the_shell() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["-m", "benchmarks.cli", "boot", "linux", "--paging", "native"]
    child = pexpect.spawn(sys.executable, command, env=environment, timeout=120)
    try:
        child.expect_exact(PROMPT)
        child.send(b"echo $((6 * 7))\r")
        child.expect(rb"\n42\r")
        child.send(b"sleep 1000\r")
        child.expect(rb"sleep 1000\r")
        child.send(b"\x03")  # Ctrl-C ends the guest's command, not the run
        child.expect_exact(PROMPT)
        child.send(b"\x01x")
        child.expect_exact(b"sidecore: stopped by the user: Ctrl-A X")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 130
    finally:
        child.close(force=True)
