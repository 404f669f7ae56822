"""Claims about the table of `sidecore profiles check`."""

from benchmarks.calibration.measure import Finding
from benchmarks.calibration.published import Reference
from benchmarks.calibration.tables import row_texts


def test_a_row_says_what_was_measured_what_was_taken_off_and_the_verdict() -> None:
    finding = Finding(Reference("haswell", "CPUID round trip", 500, "a book", "exact"), 530, 530, 260)
    assert row_texts(finding) == [
        "haswell", "CPUID round trip", "500 cycles", "530", "+6.0 %", "5 %", "260", "OUTSIDE", "a book (exact)"
    ]  # fmt: skip
    assert row_texts(Finding(Reference("haswell", "DTLB reach", 64, "a book", "exact"), 64, 95))[2:7] == [
        "64 pages",
        "64 to 95",
        "+0.0 %",
        "10 %",
        "",
    ]
