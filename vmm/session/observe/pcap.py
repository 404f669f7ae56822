"""What a network card sends and gets, as a file that tcpdump and Wireshark read: pcap, with nanoseconds.

    header   magic 0xa1b23c4d, version 2.4, 0, 0, longest frame, 1: Ethernet
    frame    seconds | nanoseconds | length in the file | length | bytes                   all little-endian words

A frame's time is that of its last bit, since power-on of the emulated machine. Frames are in order of time: one that is
still being sent waits until those before it are in the file. There is no check sequence in it.
"""

import heapq
import os
import struct
from contextlib import AbstractContextManager
from pathlib import Path

from devices.nic.nic import Nic
from emulator.errors import ConfigError
from emulator.events import PS_PER_NS, PS_PER_SECOND
from emulator.world import NEVER_PS
from vmm.session.output_file import open_output, write_all

MAGIC_OF_NANOSECONDS = 0xA1B2_3C4D
VERSION = (2, 4)
LENGTH_MAX_BYTES = 65535
ETHERNET = 1
BUFFER_BYTES = 1 << 16
HEADER = struct.Struct("<IHHiIII")
RECORD = struct.Struct("<IIII")


class Capture(AbstractContextManager["Capture"]):
    """Writes to `path` what `follow`ed cards send and get."""

    def __init__(self, path: Path) -> None:
        """Create the file. Raises ConfigError."""
        self._path = path
        self._waiting: list[tuple[int, int, bytes]] = []  # when, in which order told, frame
        self._told_count = 0
        self._buffer = bytearray()
        try:
            self._file = open_output(path)
        except (OSError, ValueError) as error:
            raise self._cannot_write(error) from None
        self._buffer += HEADER.pack(MAGIC_OF_NANOSECONDS, *VERSION, 0, 0, LENGTH_MAX_BYTES, ETHERNET)
        self._write()

    def follow(self, nic: Nic | None) -> None:
        """Capture at this card from now on. Raises ConfigError when there is none."""
        if nic is None:
            raise ConfigError("--pcap: the machine has no network card to capture at")
        nic.captures.append(self.take)

    def take(self, frame: bytes, last_bit_ps: int, now_ps: int) -> None:
        """A frame's last bit has come, or will be sent, at `last_bit_ps`. Raises ConfigError."""
        if self._file.closed:
            return
        heapq.heappush(self._waiting, (last_bit_ps, self._told_count, frame))
        self._told_count += 1
        self._put_before(now_ps)

    def _put_before(self, end_ps: int) -> None:
        """Put the frames from before `end_ps` into the file: no others of them will come."""
        while self._waiting and self._waiting[0][0] < end_ps:
            when_ps, _, frame = heapq.heappop(self._waiting)
            seconds, rest_ps = divmod(when_ps, PS_PER_SECOND)
            kept = frame[:LENGTH_MAX_BYTES]
            self._buffer += RECORD.pack(seconds, rest_ps // PS_PER_NS, len(kept), len(frame)) + kept
        if len(self._buffer) >= BUFFER_BYTES:
            self._write()

    def _write(self) -> None:
        try:
            write_all(self._file, bytes(self._buffer))
            self._buffer.clear()
        except OSError as error:
            self._file.close()
            raise self._cannot_write(error) from None

    def close(self) -> None:
        """Write the rest. Raises ConfigError."""
        if not self._file.closed:
            self._put_before(NEVER_PS)
            self._write()
            self._file.close()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _cannot_write(self, error: OSError | ValueError) -> ConfigError:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        return ConfigError(f"cannot write the capture {str(self._path)!r}: {reason}")
