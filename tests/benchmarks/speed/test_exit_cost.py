"""Claims about timing one exit to the VMM."""

from benchmarks.speed.exit_cost import ExitCost, Stopwatch, costs_of


def test_an_exit_is_timed_between_the_lines_of_the_guest() -> None:
    lines = [
        (b"~ CPUID 1000 begin\n", 1.0, 2.0),
        (b"~ CPUID 4821 end\n", 2.5, 3.0),
        (b"PASS CPUID\n", 3.0, 3.1),
        (b"~ VMCALL 1000 begin\n", 4.0, 5.0),
        (b"~ VMCALL 5029 end\n", 6.0, 7.0),
    ]
    costs = costs_of(lines, "ept")
    assert costs == [ExitCost("CPUID", "ept", 500.0, 4821), ExitCost("VMCALL", "ept", 1000.0, 5029)]


def test_the_stopwatch_reads_the_clock_at_both_ends_of_a_line() -> None:
    stopwatch = Stopwatch()
    for byte in b"ab\nc\n":
        stopwatch.transmit(byte)
    (first, began, ended), (second, later, last) = stopwatch.lines
    assert (first, second) == (b"ab\n", b"c\n")
    assert began <= ended <= later <= last
