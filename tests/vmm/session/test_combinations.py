"""Claims about options beside each other: each has an effect, or is refused in one line."""

from pathlib import Path

import pytest

from benchmarks.cli import main
from tests.vmm.session import tiny_kernels as tiny
from vmm.session.combinations import TABLE
from vmm.session.spec import all_rows

ALWAYS = {  # options that have an effect whatever else is given
    "--kernel": "what boots",
    "--append": "the kernel gets it; a flat binary, which has no command line, is refused by its loader",
    "--memory": "the guest has it",
    "--vcpus": "the guest has them",
    "--device": "it is on the guest's bus",
    "--profile": "times the run",
    "--set": "changes the profile",
    "--timing": "times the run",
    "--pcpus": "the machine has them; natively another number than --vcpus is refused",
    "--paging": "how the guest runs",
    "--until": "ends the run, or says that it ended without",
    "--max-seconds": "ends the run",
    "--max-cycles": "ends the run",
    "--stats": "a file",
    "--restore": "what goes on; what the snapshot says already is refused beside it",
    "--no-input": "takes no keys; without a terminal there are none, and it may stand in a script that is run anywhere",
}
REFUSED = [  # arguments in which the first option has no effect, what the line says
    ("--initrd initrd", "--initrd needs --kernel"),
    ("--module initrd", "--module needs --kernel"),
    ("--protocol linux", "--protocol needs --kernel"),
    ("--workload linux --timing flat", "--workload is for --timing fast"),
    ("--workload linux --timing detailed", "--workload is for --timing fast"),
    ("--cores 0 --paging native", "a native guest has all cores"),
    ("--vif", "--vif needs --nic"),
    ("--mac 02:5c:00:00:00:09 --nic", "--mac needs --vif"),
    ("--manager", "--manager needs --nic"),
    ("--scheduler credit --paging native", "--scheduler: --paging native has no VMM"),
    ("--sidecore --paging native", "--sidecore: --paging native has no VMM"),
    ("--sidecore-policy never", "--sidecore-policy needs --sidecore"),
    ("--switch-sidecore 1:off", "--switch-sidecore needs --sidecore"),
    ("--poll mwait", "--poll needs --sidecore"),
    ("--nic --paging native", "--nic: --paging native has no VMM"),
    ("--nic-signal msix", "--nic-signal needs --nic"),
    ("--nic-identifier-bits 4", "--nic-identifier-bits needs --nic"),
    ("--nic-identifier-bits 4 --nic --nic-signal msix", "needs --nic-signal interrupt"),
    ("--nic-interrupt-core round-robin", "--nic-interrupt-core needs --nic"),
    ("--nic-interrupt-core round-robin --nic --sidecore", "the card does not interrupt"),
    ("--nic-send-queues nic", "--nic-send-queues needs --nic"),
    ("--nic-set x=1", "--nic-set needs --nic"),
    ("--nic-dca", "--nic-dca needs --nic"),
    ("--nic-dca --nic", "--nic-dca needs --timing detailed"),
    ("--trace t --paging native", "--trace: --paging native has no VM exits"),
    ("--trace-from 5", "--trace-from needs --trace"),
    ("--trace-last 5", "--trace-last needs --trace"),
    ("--pcap p", "--pcap needs --nic"),
    ("--explain CPUID --paging native", "--explain: --paging native has no VM exits"),
    ("--explain CPUID --save s --save-at-cycle 9", "--explain goes with neither"),
    ("--save s", "--save needs one of"),
    ("--save-at-text x", "need --save"),
    ("--save-at-cycle 9", "need --save"),
    ("--save-at-exit CPUID", "need --save"),
    ("--save-at-exit CPUID --save s --paging native", "--save-at-exit: --paging native has no VM exits"),
    ("--save-at-cycle 9 --save s --max-cycles 9", "--save-at-cycle comes behind --max-cycles"),
    ("--expect-shutdown --until x", "--expect-shutdown goes with neither"),
    ("--expect-shutdown --save s --save-at-text x", "--expect-shutdown goes with neither"),
]


@pytest.mark.parametrize(("arguments", "line"), REFUSED)
def test_an_option_without_effect_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_kernel(tmp_path, tiny.debug_exit(0))
    (tmp_path / "initrd").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as exit_:
        main(["boot", "kernel.elf", *arguments.split()])
    errors = capfd.readouterr().err
    assert exit_.value.code == 2
    assert line in errors
    assert errors.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_no_option_is_left_out() -> None:
    options = {row.parameter.option for _, row in all_rows() if row.parameter.option}
    refused = {arguments.split()[0] for arguments, _ in REFUSED}
    assert ALWAYS.keys() | refused == options
    assert ALWAYS.keys() & refused == set()


def test_each_row_of_the_table_is_tried() -> None:
    names = {row.name: row.parameter.option for _, row in all_rows()}
    for row in TABLE:
        assert any(arguments.startswith(f"{names[row.field]} ") for arguments, _ in REFUSED), row
        assert names[row.field] in row.line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("smp_start", "smp_start is made for 4 processors; give it --vcpus 4"),
        ("fw_cfg", "fw_cfg is made for 2 processors; give it --vcpus 2"),
        (
            "smp_start --vcpus 4 --pcpus 2",
            "smp_start is made for 4 processors that each have a core; leave",
        ),
    ],
)
def test_a_kernel_gets_the_processors_it_is_made_for(
    capfd: pytest.CaptureFixture[str], arguments: str, line: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["boot", *arguments.split()])
    assert exit_.value.code == 2
    assert line in capfd.readouterr().err
