"""Claims about figures as text."""

from benchmarks.harness.text import cycles_text


def test_cycles_are_shown_to_what_matters() -> None:
    texts = {4819.0: "4,819", 1.0: "1", 0.52: "0.5", 12.34: "12.3", 1234.56: "1,235", -0.04: "0", -3.2: "-3.2"}
    assert {cycles: cycles_text(cycles) for cycles in texts} == texts
