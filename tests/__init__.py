"""Tests, in the tree of what they test; equivalence/, guest/, fuzz/ and project/ are of the whole."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of the checkout
