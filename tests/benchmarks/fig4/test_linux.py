"""Figure 4 with Linux: what its psapp prints is read, the flows of booted guests are measured; as a driver domain."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fig4.linux import linux_flow
from benchmarks.fig4.measure import measure_point
from benchmarks.fig4.setup import LINUX_IMAGE, LINUX_WORDS, Setup
from benchmarks.fig4.throughput import carriers, measure_throughput
from benchmarks.harness.measurements import ProtocolError
from guest_images import linux_vif

PRINTED = (
    b"sidecore: holding\r\n~ psapp ready\r\n"
    b"~ psapp client: sent 5 answered 4 lost 1 late 0 damaged 0 tsc_khz 2800000\r\n"
    b"~ psapp samples 3\r\n~ 1f a0\r\n~ ffff\r\n~ psapp end\r\n"
)
BUILT = pytest.mark.skipif(not linux_vif.recipe().directory.exists(), reason="sidecore images build linux-vif makes it")


def test_samples_and_losses_are_read_from_what_a_client_prints() -> None:
    flow = linux_flow(PRINTED)
    assert (flow.samples, flow.lost, flow.damaged) == ((0x1F, 0xA0, 0xFFFF), 1, 0)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        PRINTED.replace(b"~ psapp end", b""),
        PRINTED.replace(b"samples 3", b"samples 4"),
        PRINTED.replace(b"ffff", b"fffg"),
        PRINTED.replace(b"lost 1 ", b""),
    ],
)
def test_what_is_not_whole_is_refused(damaged: bytes) -> None:
    with pytest.raises(ProtocolError, match="psapp printed no figures"):
        linux_flow(damaged)


def test_a_linux_guest_is_told_psapp_later_and_not_by_its_command_line() -> None:
    setup = Setup(guests=2, image=LINUX_IMAGE, probes=7)
    assert setup.guest(0, 1).append == LINUX_WORDS
    assert setup.words(0, 1).startswith("role=client peer=02:5c:00:00:02:02 probes=7 ")
    assert Setup(guests=2, probes=7).guest(0, 1).append == setup.words(0, 1)


def test_a_driver_domain_of_linux_is_compared_if_its_image_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDECORE_CACHE", str(tmp_path))
    assert [way.carrier for way in carriers(Setup(guests=1))] == ["nic", "nic", "stub", "shared stub"]
    linux_vif.recipe().directory.mkdir(parents=True)
    assert [way.carrier for way in carriers(Setup(guests=1))][4:] == ["linux"]


@pytest.mark.slow
@BUILT
def test_a_driver_domain_of_linux_takes_longer_than_a_stub_domain_and_carries_all() -> None:
    setup = Setup(guests=2, probes=20, warm_up=3, carrier="linux", paging="ept", profile="nehalem")
    stub, linux = (measure_point(replace(setup, carrier=carrier)) for carrier in ("stub", "linux"))
    assert [len(samples) for samples in linux.samples] == [20, 20]
    assert linux.lost == 0
    assert linux.median_us > stub.median_us
    assert sum(linux.hops_ns.values()) == pytest.approx(1000 * linux.mean_us)
    assert min(measure_throughput((setup, 64)).received_mbps) > 1


@pytest.mark.slow
@BUILT
def test_flows_of_linux_guests_are_measured() -> None:
    result = measure_point(Setup(guests=1, probes=20, warm_up=3, image=LINUX_IMAGE, paging="ept", profile="nehalem"))
    assert [len(samples) for samples in result.samples] == [20]
    assert result.lost == 0
