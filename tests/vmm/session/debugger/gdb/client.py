"""The other side of the protocol, for tests without gdb; and gdb itself."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import sidecore
from vmm.session.debugger.debugger import Debugger
from vmm.session.debugger.gdb.packets import Packet, Parser, frame
from vmm.session.debugger.gdb.server import RunLine, serve
from vmm.session.debugger.gdb.session import Session

needs_gdb = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed (on Debian: apt install gdb)")


def without_runs(sent: bytes) -> bytes:
    """A frame with its runs written out, and the sum of that."""
    raw, out, at = sent[1:-3], bytearray(), 0
    while at < len(raw):
        if raw[at] == ord("*"):
            out += bytes((out[-1],)) * (raw[at + 1] - 29)
            at += 2
        else:
            out.append(raw[at])
            at += 1
    return b"$%s#%02x" % (bytes(out), sum(out) & 0xFF)


class Asking:
    """A session, asked without a socket."""

    def __init__(self, world: sidecore.World, run_line: RunLine | None = None) -> None:
        self.said: list[bytes] = []
        self.debugger = Debugger(world)
        self.session = Session(self.debugger, run_line=run_line, say=self.said.append)

    def __call__(self, payload: bytes) -> bytes | None:
        """The answer, after its way through a frame."""
        answer = self.session.answer(payload)
        if answer is None:
            return None
        (packet,) = Parser().feed(without_runs(frame(answer)))
        assert isinstance(packet, Packet)
        return packet.payload

    def console(self) -> str:
        """What was said since the last time."""
        said, self.said[:] = b"".join(bytes.fromhex(packet[1:].decode()) for packet in self.said), []
        return said.decode()


@contextmanager
def served(world: sidecore.World, run_line: RunLine | None = None) -> Iterator[int]:
    """A world that gdb can connect to at a port; somebody has to kill it."""
    debugger, lines, is_there = Debugger(world), [], threading.Event()

    def tell(line: str) -> None:
        lines.append(line)
        is_there.set()

    thread = threading.Thread(
        target=serve, args=(debugger, 0), kwargs={"run_line": run_line, "tell": tell}, daemon=True
    )
    thread.start()
    assert is_there.wait(10)
    yield int(lines[0].rpartition(":")[2])
    thread.join(60)
    assert not thread.is_alive()
    debugger.close()


def run_gdb(port: int, kernel: Path, commands: str) -> str:
    """What gdb says to commands, once it is connected; at the end it kills the world."""
    lines = ["set pagination off", "set confirm off", "set style enabled off", "set width 0"]
    lines += [f"target remote 127.0.0.1:{port}", *commands.strip().splitlines(), "kill"]
    words = [word for line in lines for word in ("-ex", line.strip())]
    ran = subprocess.run(
        ["gdb", "-nx", "-batch", *words, str(kernel)], capture_output=True, text=True, timeout=120, check=False
    )
    return ran.stdout + ran.stderr
