"""Debian's kernel boots to a shell in every mode, takes what is typed, and ends as it was told to."""

import os
import sys
from dataclasses import replace

import pexpect
import pytest

from guest_images import linux_small
from guest_images.images import resolve
from guest_images.linux import READY_LINE
from tests import ROOT
from tests.guest.running import MODES, Finished, run_plan
from vmm.outcome import EndKind
from vmm.session.plan import plan
from vmm.session.spec import GuestSpec, HostSpec, Paging

pytestmark = pytest.mark.slow

PROMPT = b"/root # \x1b[6n"  # and asks the terminal where the cursor is
MAX_CYCLES = 60_000_000_000
ALIVE = b"echo $((6 * 7)) $(uname -m); cat /proc/sys/kernel/ostype\n"
EXPECTED = b"'Using IOAPIC for interrupt routing' -e 'Switch to symmetric I/O mode'"
COMPLAINTS = b"'BUG|WARNING|Call Trace|ACPI.*Error|unstable|lockup|stall|irq.*nobody cared|spurious'"


def converse(
    paging: Paging,
    *commands: bytes,
    image: str = "linux",
    append: str | None = None,
    vcpus: int = 1,
    devices: tuple[str, ...] = (),
    slice_cycles: int = 50_000_000,
) -> Finished:
    """Boot Linux and type `commands`, each at a prompt; `append` is the whole command line, if not the recipe's."""
    guest = GuestSpec(image=image, vcpu_count=vcpus, devices=devices)
    if append is not None:
        files = resolve(image)
        guest = replace(guest, image=None, kernel=files.kernel, initrd=files.initrd, append=append)
    boot_plan = plan(HostSpec(paging=paging), guest)
    script = [(PROMPT, command) for command in commands]
    return run_plan(boot_plan, script=script, max_cycles=MAX_CYCLES, slice_cycles=slice_cycles)


# What a stock kernel gets: its own drivers, no other word, on one processor and on four.
@pytest.mark.parametrize("paging", MODES)
@pytest.mark.parametrize("vcpus", [1, 4])
@pytest.mark.parametrize("image", ["linux", "linux-generic"])
def test_debians_kernels_need_no_word_but_their_console(image: str, vcpus: int, paging: Paging) -> None:
    commands = (ALIVE, b"nproc; dmesg | grep -c -e " + EXPECTED + b"; dmesg | grep -c -E -e " + COMPLAINTS + b"\n")
    finished = converse(paging, *commands, b"poweroff -f\n", image=image, append="console=ttyS0", vcpus=vcpus)
    assert READY_LINE.encode() in finished.output
    assert b"\r\n42 x86_64\r\nLinux\r\n" in finished.output
    assert b"\r\n%d\r\n2\r\n0\r\n" % vcpus in finished.output
    assert finished.end is not None
    assert (finished.end.kind, finished.end.detail, finished.end.exit_status) == (EndKind.SHUTDOWN, "power off", 0)


@pytest.mark.parametrize(("words", "irq"), [("", b"18"), (" noapic", b"10")])
def test_linux_gives_a_pci_device_its_interrupt(words: str, irq: bytes) -> None:
    commands = (b"cd /sys/bus/pci/devices/0000:00:02.0 && echo 1 >enable && cat vendor device irq\n", b"poweroff -f\n")
    finished = converse("native", *commands, append="console=ttyS0" + words, devices=("edu",))
    assert b"\r\n0x1234\r\n0x11e8\r\n" + irq + b"\r\n" in finished.output


@pytest.mark.parametrize("paging", MODES)
def test_linux_does_without_apics_and_acpi(paging: Paging) -> None:
    finished = converse(paging, ALIVE, append="console=ttyS0 noapic nolapic acpi=off reboot=t")
    assert b"\r\n42 x86_64\r\nLinux\r\n" in finished.output


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
    assert (finished.end.kind, finished.end.detail) == (EndKind.TRIPLE_FAULT, "triple fault")


def test_the_bzimage_decompresses_itself_and_boots_where_kaslr_puts_it() -> None:
    finished = converse("native", b"poweroff -f\n", image="linux_bzimage", append="console=ttyS0")
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
