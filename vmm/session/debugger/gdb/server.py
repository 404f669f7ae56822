"""Listens for gdb, one at a time: `serve(debugger, port)`.

    socket --thread that reads--> Parser --packets--> queue --> Session.answer --> socket      in the caller's thread
                                         --0x03-----> Debugger.interrupt

The queue is short: who sends without an end waits. The world runs only while a gdb lets it; when none is attached it
stands still.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Queue

from emulator.errors import ConfigError
from vmm.session.debugger.debugger import Debugger
from vmm.session.debugger.gdb.packets import Packet, Parser, Sign, frame
from vmm.session.debugger.gdb.session import Session, Verdict

LOOPBACK = "127.0.0.1"
QUEUE_MAX = 64
READ_MAX_BYTES = 4096
RunLine = Callable[[str], str]


def serve(
    debugger: Debugger,
    port: int,
    host: str = LOOPBACK,
    *,
    run_line: RunLine | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Answer gdbs that connect to `port`, 0 being any that is free, until one of them kills the world, or Ctrl-C.

    `run_line` is what `monitor` is for. Raises ConfigError where nobody can listen.
    """
    try:
        listener = socket.create_server((host, port), backlog=1)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen for gdb at {host}:{port}: {error}; choose another port") from None
    with listener:
        where = listener.getsockname()
        tell(f"gdb: target remote {where[0]}:{where[1]}")
        verdict = Verdict.STAYS
        while verdict is not Verdict.KILLED:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                verdict = _Connection(connection, debugger, run_line).talk()


class _Connection:
    """One gdb."""

    def __init__(self, connection: socket.socket, debugger: Debugger, run_line: RunLine | None) -> None:
        self._socket, self._debugger = connection, debugger
        self._session = Session(debugger, run_line=run_line, say=self._send)
        self._arrived: Queue[Packet | Sign | None] = Queue(QUEUE_MAX)  # None: it has gone
        self._last_frame = b""
        self._reader = threading.Thread(target=self._read, name="gdb", daemon=True)

    def talk(self) -> Verdict:
        """Until it goes."""
        self._reader.start()
        try:
            while self._session.verdict is Verdict.STAYS:
                arrived = self._arrived.get()
                if arrived is None:
                    return Verdict.DETACHED
                self._take(arrived)
        finally:
            self._session.leave()
            self._hang_up()
        return self._session.verdict

    def _take(self, arrived: Packet | Sign) -> None:
        if isinstance(arrived, Packet):
            if self._session.wants_acknowledgements:
                self._send_bytes(b"+")
            answer = self._session.answer(arrived.payload)
            if answer is not None:
                self._send(answer)
        elif self._session.wants_acknowledgements and arrived is Sign.DAMAGED:
            self._send_bytes(b"-")
        elif self._session.wants_acknowledgements and arrived is Sign.REFUSED:
            self._send_bytes(self._last_frame)

    def _send(self, payload: bytes) -> None:
        self._last_frame = frame(payload)
        self._send_bytes(self._last_frame)

    def _send_bytes(self, data: bytes) -> None:
        with suppress(OSError):  # it has gone, which the thread that reads sees, too
            self._socket.sendall(data)

    def _read(self) -> None:
        parser = Parser()
        while True:
            try:
                data = self._socket.recv(READ_MAX_BYTES)
            except OSError:
                data = b""
            if not data:
                break
            for arrived in parser.feed(data):
                if arrived is Sign.INTERRUPT:
                    self._debugger.interrupt()
                else:
                    self._debugger.take_back_interrupt()  # who asks again has heard of a stop
                    self._arrived.put(arrived)
        self._debugger.interrupt()  # nobody would see where it stops
        self._arrived.put(None)

    def _hang_up(self) -> None:
        with suppress(OSError):  # gdb was the first
            self._socket.shutdown(socket.SHUT_RDWR)
        while self._reader.is_alive():  # it may wait to hand on what arrived
            while not self._arrived.empty():
                self._arrived.get()
            self._reader.join(0.05)
