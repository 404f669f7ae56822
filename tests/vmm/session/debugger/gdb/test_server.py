"""gdb comes, interrupts, goes and comes again; garbage does not disturb."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from emulator.errors import ConfigError
from tests.vmm.session.debugger.gdb.client import served, without_runs
from tests.vmm.session.debugger.worlds import world_of
from vmm.session.debugger.debugger import Debugger
from vmm.session.debugger.gdb.packets import Packet, Parser, frame
from vmm.session.debugger.gdb.server import serve


class Connection:
    """Sends packets, and reads those that come."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self._parser, self._found = connection, Parser(), list[bytes]()

    def send(self, *payloads: bytes) -> None:
        self.socket.sendall(b"".join(without_runs(frame(payload)) for payload in payloads))

    def next(self) -> bytes:
        """A payload, runs as they are sent."""
        while not self._found:
            data = self.socket.recv(65536)
            assert data, "it has hung up"
            self._found += [each.payload for each in self._parser.feed(data) if isinstance(each, Packet)]
        return self._found.pop(0)


@contextmanager
def connected(port: int) -> Iterator[Connection]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        yield Connection(connection)


def test_an_interrupt_stops_what_runs_even_if_it_comes_at_once() -> None:
    with served(world_of()) as port, connected(port) as gdb:
        gdb.send(b"M100000,2:ebfe")  # a jump to itself
        assert gdb.next() == b"OK"
        for _ in range(3):
            gdb.send(b"c")
            gdb.socket.sendall(b"\x03")
            assert bytes.fromhex(gdb.next()[1:].decode()) == b"interrupted\n"
            assert gdb.next().startswith(b"T02")
        gdb.send(b"k")


def test_gdb_goes_and_comes_again_to_where_it_was() -> None:
    with served(world_of()) as port:
        with connected(port) as gdb:
            gdb.send(b"Z0,100007,1", b"s", b"p10", b"D")
            there = [gdb.next() for _ in range(4)][2]
        with connected(port) as gdb:
            gdb.send(b"c")  # and is gone: the world is stopped
        with connected(port) as gdb:
            gdb.send(b"?", b"bc", b"s", b"p10")
            assert [gdb.next() for _ in range(4)][3] == there
            gdb.send(b"k")


def test_garbage_is_refused_and_the_next_packet_answered() -> None:
    with served(world_of()) as port, connected(port) as gdb:
        gdb.socket.sendall(bytes(range(256)) * 100 + b"$g#00" + b"$" * 100 + frame(b"qC"))
        assert gdb.next() == b"QC1"
        gdb.socket.sendall(b"-")
        assert gdb.next() == b"QC1"
        gdb.send(b"QStartNoAckMode", b"vMustReplyEmpty", b"k")
        assert [gdb.next(), gdb.next()] == [b"OK", b""]


def test_a_port_that_is_taken_is_one_line() -> None:
    with served(world_of()) as port:
        with pytest.raises(ConfigError, match=r"cannot listen for gdb .* choose another port"):
            serve(Debugger(world_of()), port)
        with connected(port) as gdb:
            gdb.send(b"k")
