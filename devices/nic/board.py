"""The numbers of the board, from `board.toml`: each with unit, source and confidence."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from devices.nic.vif_page import FRAME_MAX_BYTES
from emulator.errors import ConfigError, choices_text
from emulator.events import PS_PER_NS, PS_PER_SECOND

VALUE_MAX = 10**12
_FILE = Path(__file__).with_name("board.toml")


@dataclass(frozen=True, kw_only=True)
class NicBoard:
    """The parameters; their names end in their units. `board.toml` says where the values come from."""

    microengine_hz: int
    swap_cycles: int
    step_instructions: int
    poll_instructions: int
    scratch_latency_cycles: int
    sram_latency_cycles: int
    dram_latency_cycles: int
    scratch_bytes_per_second: int
    sram_bytes_per_second: int
    dram_bytes_per_second: int
    ring_words: int
    packet_words: int
    receive_buffer_bytes: int
    transmit_buffer_bytes: int
    mpacket_bytes: int
    media_bits_per_second: int
    dma_channels: int
    dma_setup_ns: int
    pci_bytes_per_second: int
    pci_read_ns: int
    pci_write_ns: int

    def cycles_to_ps(self, cycles: int) -> int:
        """Cycles of a microengine, rounded up."""
        return -(-cycles * PS_PER_SECOND // self.microengine_hz)

    @property
    def scratch_latency_ps(self) -> int:
        """Scratchpad, without waiting."""
        return self.cycles_to_ps(self.scratch_latency_cycles)

    @property
    def sram_latency_ps(self) -> int:
        """SRAM, without waiting."""
        return self.cycles_to_ps(self.sram_latency_cycles)

    @property
    def dram_latency_ps(self) -> int:
        """DRAM, without waiting."""
        return self.cycles_to_ps(self.dram_latency_cycles)

    @property
    def dma_setup_ps(self) -> int:
        """Before a DMA channel asks for the bus."""
        return self.dma_setup_ns * PS_PER_NS

    @property
    def pci_read_ps(self) -> int:
        """A read round trip, without its bytes."""
        return self.pci_read_ns * PS_PER_NS

    @property
    def pci_write_ps(self) -> int:
        """A posted write, without its bytes."""
        return self.pci_write_ns * PS_PER_NS


def load_board(overrides: Sequence[str] = ()) -> NicBoard:
    """The board of the file with `overrides`, texts `key=value`. Raises ConfigError."""
    rows: dict[str, dict[str, Any]] = tomllib.loads(_FILE.read_text())
    board = NicBoard(**{name: row["value"] for name, row in rows.items()})
    board = replace(board, **dict(_parse(text) for text in overrides))
    where = " ".join(["NIC setting", *(repr(text) for text in overrides)])
    if board.ring_words < board.packet_words:
        raise ConfigError(f"{where}: ring_words must be at least packet_words ({board.packet_words})")
    frame_bytes = -(-FRAME_MAX_BYTES // board.mpacket_bytes) * board.mpacket_bytes
    for name in ("receive_buffer_bytes", "transmit_buffer_bytes"):
        if getattr(board, name) < frame_bytes:
            raise ConfigError(
                f"{where}: {name} must be at least {frame_bytes:,}, for one frame in pieces of mpacket_bytes"
            )
    return board


def _parse(text: str) -> tuple[str, int]:
    key, equals, value = (part.strip() for part in text.partition("="))
    names = [field.name for field in fields(NicBoard)]
    if not equals:
        raise ConfigError(f"NIC setting {text!r}: write it as key=value")
    if key not in names:
        raise ConfigError(f"NIC setting {text!r}: unknown key {key!r}; {choices_text(key, names)}")
    if not value.replace("_", "").isdecimal() or not 1 <= int(value) <= VALUE_MAX:
        raise ConfigError(f"NIC setting {text!r}: {key} must be a whole number from 1 to {VALUE_MAX:,}")
    return key, int(value)
