"""Claims about the curves in what the guest `mem` measured."""

from benchmarks.harness.curves import latency_curve, page_curve, strides, translation_curve
from tests.benchmarks.mem.made import made_results


def test_curves_are_of_one_stride() -> None:
    results = made_results()
    assert strides(results) == [64, 256]
    assert latency_curve(results) == {1024: 3, 2048: 7}
    assert latency_curve(results, 256) == {1024: 40}


def test_a_page_costs_what_it_takes_beyond_as_many_lines_side_by_side() -> None:
    assert page_curve(made_results()) == {16: 3, 32: 27}
    assert translation_curve(made_results()) == {16: 0, 32: 20}
