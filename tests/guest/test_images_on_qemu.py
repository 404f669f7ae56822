"""Every test kernel on QEMU, the independent oracle: a kernel that fails here is wrong itself, or names QEMU's mistake.

`isa-debug-exit` makes QEMU's exit status (value << 1) | 1.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from guest_images import images, kernels

QEMU = shutil.which("qemu-system-x86_64")
TIMEOUT_SECONDS = 120
QEMU_DEVICES = {"edu": "edu,dma_mask=0xffffffffffffffff"}  # ours has no limit
CPU_MODELS = ("qemu64", "Nehalem", "max")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(QEMU is None, reason="qemu-system-x86_64 is not installed")]


def run_on_qemu(
    kernel: Path, cpu: str, cpus: int = 1, pci_devices: Sequence[str] = (), *, memory_mib: int = 256
) -> tuple[int, str]:
    """Exit status and serial output."""
    machine = ["-cpu", cpu, "-m", str(memory_mib), "-accel", "tcg", "-net", "none", "-no-reboot"]
    machine += ["-smp", str(cpus)]
    machine += ["-icount", "shift=1,sleep=off"]  # its clock counts instructions: no workstation time in the outcome
    devices = ["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-serial", "stdio", "-display", "none"]
    devices += [word for name in pci_devices for word in ("-device", QEMU_DEVICES.get(name, name))]
    result = subprocess.run(
        [str(QEMU), "-kernel", str(kernel), *machine, *devices],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )
    return result.returncode, result.stdout.decode("ascii", "replace").replace("\r", "")


@pytest.mark.parametrize("cpu", CPU_MODELS)
@pytest.mark.parametrize("entry", list(images.standalone_kernels()), ids=lambda entry: entry.name)
def test_each_kernel_succeeds(entry: images.ImageEntry, cpu: str) -> None:
    kernel = images.build(entry.name)
    status, output = run_on_qemu(kernel, cpu, entry.cpus, entry.devices, memory_mib=entry.memory_mib)
    verdict = output.rstrip().splitlines()[-1]
    assert verdict.startswith("PASS: "), output
    assert status == (0 if entry.ends_by in ("shutdown", "triple fault") else 1)
    assert verdict == f"PASS: all {sum(line.startswith('PASS ') for line in output.splitlines())} checks"


@pytest.mark.parametrize("entry", list(images.standalone_kernels()), ids=lambda entry: entry.name)
def test_output_depends_on_nothing_but_the_machine(entry: images.ImageEntry) -> None:
    kernel = images.build(entry.name)
    runs = [run_on_qemu(kernel, "Nehalem", entry.cpus, entry.devices, memory_mib=entry.memory_mib)[1] for _ in range(2)]
    steady = [[line for line in output.splitlines() if not line.startswith("~")] for output in runs]
    assert steady[0] == steady[1]


@pytest.mark.parametrize(
    ("body", "status", "last_lines"),
    [
        ('check_equal("a", 1, 2);', 3, ["FAIL a: got 0x1 expected 0x2", "FAILURE 1 of 1 checks"]),
        ('check_true("a", false);', 3, ["FAIL a: does not hold", "FAILURE 1 of 1 checks"]),
        ('TRY("nop", :); check_fault("a", VECTOR_UD, 0);', 3, None),
        ('TRY("ud2", :); check_no_fault("a");', 3, None),
        ('struct tally t = {0}; check_tally("empty", &t);', 3, None),
        ('skip("no such thing");', 7, ["SKIP no such thing"]),
        ("", 5, ["ERROR no check was made"]),
        ('asm volatile("ud2");', 5, None),
    ],
)
def test_a_kernel_that_does_not_succeed_says_so(
    body: str, status: int, last_lines: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "main.c").write_text(f'#include "guest.h"\nvoid guest_main(void) {{ {body} }}\n')
    monkeypatch.setattr(kernels, "KERNELS", tmp_path)
    monkeypatch.setenv("SIDECORE_CACHE", str(tmp_path / "cache"))
    got_status, output = run_on_qemu(kernels.build_kernel("own"), "Nehalem")
    assert got_status == status, output
    if last_lines is not None:
        assert output.splitlines()[-len(last_lines) :] == last_lines
