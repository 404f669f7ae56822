"""Claims about the user's mistakes: one line that says what to do, status 2, at once, nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cli import main
from tests import ROOT
from tests.vmm.boot.loaders.sample_images import Segment, make_bzimage, make_cpio, make_elf
from tests.vmm.session import tiny_kernels as tiny


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with good and bad files, and an image cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIDECORE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    tiny.write_kernel(tmp_path, tiny.debug_exit(0))
    (tmp_path / "text").write_text("just some text, and no kernel\n")
    (tmp_path / "empty").touch()
    (tmp_path / "cut.bzimage").write_bytes(make_bzimage()[:0x300])
    (tmp_path / "initrd").write_bytes(make_cpio({"init": b"#!/bin/sh\n"}))
    (tmp_path / "cut.initrd").write_bytes(make_cpio({"init": b"#!/bin/sh\n" * 100})[:-600])
    (tmp_path / "big.elf").write_bytes(make_elf(Segment(tiny.ENTRY, tiny.HALT, memsz=64 << 20)))
    (tmp_path / "bad.toml").write_text('name = "x"\n')
    (tmp_path / "broken.toml").write_text("name = \n")
    return tmp_path


MISTAKES = [  # (arguments, what the line must say)
    ("boot defualt", "did you mean 'default'"),
    ("boot nothing.like.it", "no guest image or file 'nothing.like.it'; 'sidecore images list' shows"),
    ("boot text", "is no kernel"),
    ("boot empty", "is empty"),
    ("boot cut.bzimage", "truncated"),
    ("boot --kernel missing", "kernel 'missing' cannot be read: No such file or directory"),
    ("boot --kernel .", "is a directory"),
    ("boot --kernel initrd", "is it the initrd?"),
    ("boot --kernel big.elf --memory 16M", "outside 16 MiB of memory; give the guest more"),
    ("boot --kernel kernel.elf --initrd missing", "initrd 'missing' cannot be read"),
    ("boot --kernel kernel.elf --initrd cut.initrd", "truncated"),
    ("boot --initrd initrd", "--initrd needs --kernel"),
    ("boot default --kernel kernel.elf", "leave one out"),
    ("boot kernel.elf default", "unexpected extra argument"),
    ("boot kernel.elf --memory 1M", "choose one between 16 MiB and 16 GiB"),
    ("boot kernel.elf --memory 64G", "choose one between 16 MiB and 16 GiB"),
    ("boot kernel.elf --memory lots", "write a whole number and K, M or G"),
    ("boot kernel.elf --memory -5", "write a whole number"),
    ("boot kernel.elf --paging shadows", "did you mean 'shadow'"),
    ("boot kernel.elf --device eud", "no device 'eud'; did you mean 'edu'"),
    ("boot kernel.elf" + 31 * " --device edu", "31 devices are too many for the PCI bus; it takes 30"),
    ("boot kernel.elf --paging none", "there are: shadow, ept, native"),
    ("boot kernel.elf --cores 1", "--cores 1: the machine has cores 0 to 0 for guests; see --pcpus"),
    ("boot kernel.elf --cores 0 --paging native", "a native guest has all cores"),
    ("boot kernel.elf --nic --paging native", "--nic: --paging native has no VMM to give out virtual interfaces"),
    ("boot kernel.elf --vif --paging native", "--vif: --paging native has no VMM to give out virtual interfaces"),
    ("boot kernel.elf --vif", "--vif needs --nic"),
    ("boot kernel.elf --manager", "--manager needs --nic"),
    ("boot kernel.elf --nic --mac 02:5c:00:00:00:09", "--mac needs --vif"),
    ("boot kernel.elf --nic --vif --mac 02:5c:00:00:09", "give six bytes"),
    ("boot kernel.elf --nic --vif --mac 03:5c:00:00:00:09", "is no address of one interface"),
    ("boot kernel.elf --nic-signal msix", "--nic-signal needs --nic"),
    ("boot kernel.elf --nic-set x=1", "--nic-set needs --nic"),
    ("boot kernel.elf --nic --nic-signal sidecore", "--nic-signal sidecore needs --sidecore"),
    ("boot kernel.elf --nic --nic-interrupt-core 1", "give a core from 0 to 0, or round-robin"),
    ("boot kernel.elf --profile netburst", "did you mean 'netburst-2006'"),
    ("boot kernel.elf --profile missing.toml", "cannot read profile missing.toml"),
    ("boot kernel.elf --profile bad.toml", "description is missing"),
    ("boot kernel.elf --profile broken.toml", "is not TOML"),
    ("boot kernel.elf --set core.frequncy_hz=2e9", "did you mean 'core.frequency_hz'"),
    ("boot kernel.elf --set core.frequency_hz", "write it as section.key=value"),
    ("boot kernel.elf --set core.frequency_hz=fast", "a whole number from 1,000,000"),
    ("profiles diff haswell haswel", "did you mean 'haswell'"),
    ("boot kernel.elf --stats missing/s.json", "there is no directory"),
    ("boot kernel.elf --stats .", "it is a directory"),
    ("boot kernel.elf --trace missing/t.jsonl", "there is no directory"),
    ("boot kernel.elf --trace x --stats x", "give each its own file"),
    ("boot kernel.elf --nic --stats x --pcap x", "--stats and --pcap both name 'x'; give each its own file"),
    ("boot kernel.elf --nic --pcap missing/f.pcap", "there is no directory"),
    ("boot kernel.elf --pcap f.pcap", "--pcap needs --nic"),
    ("boot kernel.elf --until=", "not empty"),
    ("boot kernel.elf --max-seconds 0", "above 0"),
    ("boot kernel.elf --max-seconds nan", "above 0"),
    ("boot kernel.elf --max-seconds soon", "'soon' is not a valid float"),
    ("boot kernel.elf --max-cycles -1", "above 0"),
    ("boot kernel.elf --max-cycles 1e9", "'1e9' is not a valid integer"),
    ("boot kernel.elf --trase t", "'--trace'"),
    ("boot kernel.elf --stats", "requires an argument"),
    ("bot", "Did you mean 'boot'?"),
    ("images build defualt", "did you mean 'default'"),
    ("images burn", "No such command 'burn'"),
    ("profiles show netburst-2007", "did you mean 'netburst-2006'"),
]


@pytest.mark.parametrize(("arguments", "expected"), MISTAKES)
def test_a_mistake_is_one_line_and_status_2(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: str, expected: str
) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as exit_:
        main(arguments.split())
    output, errors = capfd.readouterr()
    assert exit_.value.code == 2
    assert output == ""
    assert errors.startswith("sidecore: ")
    assert errors.count("\n") == 1
    assert expected in errors
    assert sorted(folder.rglob("*")) == before


def test_a_cache_that_cannot_be_made_is_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDECORE_CACHE", str(folder / "text" / "cache"))
    with pytest.raises(SystemExit) as exit_:
        main(["boot", "default", "--paging", "native"])
    assert exit_.value.code == 2
    assert "set SIDECORE_CACHE" in capfd.readouterr().err


def test_a_trace_on_a_full_disk_is_one_line_behind_no_output(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "full").symlink_to("/dev/full")
    with pytest.raises(SystemExit) as exit_:
        main(["boot", "kernel.elf", "--trace", "full"])
    assert exit_.value.code == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_a_mistake_needs_none_of_the_heavy_imports(folder: Path) -> None:
    program = (
        "import sys\n"
        "from benchmarks.cli import main\n"
        "try: main(['boot', '--memory', '1T'])\n"
        "except SystemExit as exit_: print(exit_.code, sorted({'rich', 'numpy', 'capstone'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout == "2 []\n"
