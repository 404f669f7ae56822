"""The numbers of the board."""

import tomllib
from pathlib import Path

import pytest

import devices.nic
from devices.nic.board import load_board
from emulator.errors import ConfigError
from emulator.profiles.file import CONFIDENCES


def test_each_number_has_a_source_and_a_confidence() -> None:
    rows = tomllib.loads((Path(devices.nic.__path__[0]) / "board.toml").read_text())
    for name, row in rows.items():
        assert set(row) == {"value", "source", "confidence"}, name
        assert row["confidence"] in CONFIDENCES
        assert row["source"]


def test_numbers_can_be_overridden_the_last_one_counts() -> None:
    board = load_board(["pci_read_ns=700", " ring_words = 1_024 ", "pci_read_ns=900"])
    assert (board.pci_read_ns, board.ring_words, board.pci_write_ns) == (900, 1024, 200)


def test_64_bytes_take_672_ns_on_the_wire() -> None:
    board = load_board()
    assert (8 + 64 + 12) * 8 * 10**9 // board.media_bits_per_second == 672


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("pci_read_ns", "NIC setting 'pci_read_ns': write it as key=value"),
        ("pci_reed_ns=1", "unknown key 'pci_reed_ns'; did you mean 'pci_read_ns'?"),
        ("pci_read_ns=", "pci_read_ns must be a whole number from 1 to"),
        ("pci_read_ns=-1", "pci_read_ns must be a whole number from 1 to"),
        ("pci_read_ns=1.5", "pci_read_ns must be a whole number from 1 to"),
        ("dma_channels=0", "dma_channels must be a whole number from 1 to"),
        ("ring_words=1", "ring_words must be at least packet_words"),
        ("transmit_buffer_bytes=1024", "transmit_buffer_bytes must be at least 1,536"),
        ("receive_buffer_bytes=1535", "receive_buffer_bytes must be at least 1,536"),
        ("mpacket_bytes=8192", "transmit_buffer_bytes must be at least"),
    ],
)
def test_a_setting_that_cannot_be_is_an_error_of_one_line(text: str, error: str) -> None:
    settings = ["transmit_buffer_bytes=8191"] if text.startswith("mpacket") else []
    with pytest.raises(ConfigError) as caught:
        load_board([*settings, text])
    assert error in str(caught.value)
    assert "\n" not in str(caught.value)
