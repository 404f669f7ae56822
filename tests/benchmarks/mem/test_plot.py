"""Claims about the plot of `sidecore bench mem`."""

from benchmarks.mem.plot import power_text


def test_sizes_on_the_axis() -> None:
    assert [power_text(value) for value in (16, 1024, 65536, 1 << 20)] == ["16", "1K", "64K", "1M"]
