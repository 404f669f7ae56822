"""What a gdb asks, and the answers: a table of commands over a `Debugger`.

    payload --COMMANDS--> Session.method(arguments) --> answer      b"" : not known, as the protocol wants it
                                                        b"E22"      : a number, a length, a thread that is none

Threads are the processors of all guests, numbered from 1 on. Payloads are hostile: a number has 16 digits at most, and
what is answered never is longer than a packet.
"""

import re
from collections.abc import Callable
from enum import Enum
from functools import partial

from emulator.errors import ConfigError
from vmm.session.debugger.debugger import Debugger
from vmm.session.debugger.gdb.packets import PACKET_MAX_BYTES
from vmm.session.debugger.gdb.resume import Resumption
from vmm.session.debugger.gdb.target import TABLE, hex_of, target_xml
from vmm.session.debugger.views.registers import mode_text
from vmm.session.debugger.views.subject import Space, Subject

OK, UNKNOWN = b"OK", b""
BAD_ARGUMENT, NO_MEMORY = b"E22", b"E14"
DATA_MAX_BYTES = PACKET_MAX_BYTES // 2 - 8  # each as two digits, or escaped
MESSAGE_MAX_BYTES = 4096  # of one packet for gdb's console, or of a command of `monitor`
FEATURES = (
    "PacketSize=%x", "QStartNoAckMode+", "qXfer:features:read+", "qXfer:memory-map:read+", "qXfer:threads:read+",
    "vContSupported+", "swbreak+", "hwbreak+", "ReverseStep+", "ReverseContinue+",
)  # fmt: skip
# By linear address, and that follows the guest's tables: which of it is mapped changes as it runs. So all of it may be.
MEMORY_MAP = b"""<?xml version="1.0"?><!DOCTYPE memory-map PUBLIC "+//IDN gnu.org//DTD GDB Memory Map V1.0//EN"
 "http://sourceware.org/gdb/gdb-memory-map.dtd">
<memory-map><memory type="ram" start="0x0" length="0xffffffffffffffff"/></memory-map>"""
WATCHES = (b"2,", b"3,", b"4,")
EVERYBODY = (b"", b"0", b"-1")
ACTION = re.compile(rb"[cst]|[CS][0-9a-f]{2}|r[0-9a-fA-F]+,[0-9a-fA-F]+")
NAME = re.compile(rb"[qQvb][A-Za-z]*\??|.", re.DOTALL)


class Verdict(Enum):
    """What becomes of the connection."""

    STAYS = "more packets are answered"
    DETACHED = "gdb goes"
    KILLED = "gdb wants the world to end"


class MistakeError(Exception):
    """A packet that says nothing. `answer` tells so."""

    def __init__(self, answer: bytes = BAD_ARGUMENT) -> None:
        super().__init__(answer)
        self.answer = answer


class Session:
    """From one gdb's arrival to its leave. `say` sends a packet before the answer; `run_line` is the console's."""

    def __init__(
        self, debugger: Debugger, *, run_line: Callable[[str], str] | None = None, say: Callable[[bytes], None]
    ) -> None:
        self.verdict = Verdict.STAYS
        self.wants_acknowledgements = True
        self._debugger, self._run_line, self._say = debugger, run_line, say
        self._resumption = Resumption(debugger)

    def answer(self, payload: bytes) -> bytes | None:
        """The answer to a packet; None: it has none. Never raises for what a payload is."""
        match = NAME.match(payload)
        if match is None:
            return UNKNOWN
        command = COMMANDS.get(match[0])
        if command is None:
            return UNKNOWN
        try:
            return command(self, payload[match.end() :])
        except MistakeError as mistake:
            return mistake.answer
        except ConfigError as error:
            return b"E." + str(error).encode()[:MESSAGE_MAX_BYTES]

    def leave(self) -> None:
        """gdb is gone: what it had set is gone, too."""
        self._resumption.clear()

    def _tell(self, text: str) -> None:
        """Show text on gdb's console."""
        data = text.encode("utf-8", "replace")
        for at in range(0, len(data), MESSAGE_MAX_BYTES):
            self._say(b"O" + data[at : at + MESSAGE_MAX_BYTES].hex().encode())

    # --- what it can do ----------------------------------------------------------------------------------------------

    def supported(self, arguments: bytes) -> bytes:
        """qSupported: features both ways."""
        self._resumption.tells_breaks = b"swbreak+" in arguments.lstrip(b":").split(b";")
        return ";".join(FEATURES).encode() % PACKET_MAX_BYTES

    def start_no_ack_mode(self, _arguments: bytes) -> bytes:
        """QStartNoAckMode: TCP loses nothing."""
        self.wants_acknowledgements = False
        return OK

    def symbol(self, _arguments: bytes) -> bytes:
        """qSymbol: gdb could look up names for us; we need none."""
        return OK

    def attached(self, _arguments: bytes) -> bytes:
        """qAttached: to what was there, so leaving detaches."""
        return b"1"

    def transfer(self, arguments: bytes) -> bytes:
        """qXfer:OBJECT:read:ANNEX:OFFSET,LENGTH."""
        parts = arguments.split(b":")
        if len(parts) != 5 or parts[0] or parts[2] != b"read":
            return UNKNOWN
        if parts[1] == b"features" and parts[3] == b"target.xml":
            document = target_xml()
        elif parts[1] == b"memory-map" and not parts[3]:
            document = MEMORY_MAP
        elif parts[1] == b"threads" and not parts[3]:
            document = self._threads_xml()
        else:
            return b"E00" if parts[1] in (b"features", b"memory-map", b"threads") else UNKNOWN
        offset, length = numbers(parts[4], b",", 2)
        piece = document[offset : offset + min(length, DATA_MAX_BYTES)]
        return (b"m" if offset + len(piece) < len(document) else b"l") + piece

    def monitor(self, arguments: bytes) -> bytes:
        """qRcmd,HEX: a line of the console."""
        if not arguments.startswith(b",") or len(arguments) > 2 * MESSAGE_MAX_BYTES:
            raise MistakeError
        line = data_of(arguments[1:]).decode("utf-8", "replace")
        if self._run_line is None:
            self._tell("there is no console beside this gdb\n")
            return OK
        try:
            text = self._run_line(line)
        except ConfigError as error:
            text = str(error)
        self._tell(text if not text or text.endswith("\n") else f"{text}\n")
        return OK

    # --- threads -----------------------------------------------------------------------------------------------------

    def first_threads(self, _arguments: bytes) -> bytes:
        """qfThreadInfo: all of them."""
        return b"m" + b",".join(b"%x" % (number + 1) for number in range(len(self._debugger.subjects)))

    def more_threads(self, _arguments: bytes) -> bytes:
        """qsThreadInfo: the first answer had all."""
        return b"l"

    def current_thread(self, _arguments: bytes) -> bytes:
        """qC."""
        return b"QC%x" % (self._debugger.number + 1)

    def describe_thread(self, arguments: bytes) -> bytes:
        """qThreadExtraInfo,THREAD."""
        if not arguments.startswith(b","):
            raise MistakeError
        return description(self._debugger.subjects[self._thread(arguments[1:])]).encode().hex().encode()

    def choose_thread(self, arguments: bytes) -> bytes:
        """Hg, Hc: 0 and -1 leave it as it is."""
        if arguments[:1] not in (b"g", b"c"):
            raise MistakeError
        if arguments[1:] not in EVERYBODY:
            self._debugger.look_at(self._thread(arguments[1:]))
        return OK

    def is_alive(self, arguments: bytes) -> bytes:
        """T: whether there is such a thread."""
        self._thread(arguments)
        return OK

    def _thread(self, text: bytes) -> int:
        number = number_of(text) - 1
        if not 0 <= number < len(self._debugger.subjects):
            raise MistakeError
        return number

    def _threads_xml(self) -> bytes:
        rows = [
            f'<thread id="{number + 1:x}" core="{subject.pcpu.number}" name="{subject.name}">{description(subject)}'
            "</thread>"
            for number, subject in enumerate(self._debugger.subjects)
        ]
        return "\n".join(('<?xml version="1.0"?><threads>', *rows, "</threads>")).encode()

    # --- registers, memory -------------------------------------------------------------------------------------------

    def read_registers(self, _arguments: bytes) -> bytes:
        """g."""
        return b"".join(hex_of(register, self._debugger.subject) for register in TABLE)

    def read_register(self, arguments: bytes) -> bytes:
        """p NUMBER."""
        number = number_of(arguments)
        if number >= len(TABLE):
            raise MistakeError
        return hex_of(TABLE[number], self._debugger.subject)

    def write_register(self, arguments: bytes) -> bytes:
        """P NUMBER=HEX."""
        place, _, digits = arguments.partition(b"=")
        number, data = number_of(place), data_of(digits)
        if number >= len(TABLE) or len(data) != TABLE[number].size_bytes:
            raise MistakeError
        name = TABLE[number].name
        self._debugger.set("rflags" if name == "eflags" else name, int.from_bytes(data, "little"))
        return OK

    def read_memory(self, arguments: bytes) -> bytes:
        """m ADDRESS,LENGTH: as far as there is memory."""
        return self._memory(arguments).hex().encode()

    def read_binary(self, arguments: bytes) -> bytes:
        """x ADDRESS,LENGTH: the same as bytes."""
        return b"b" + self._memory(arguments)

    def _memory(self, arguments: bytes) -> bytes:
        address, length = numbers(arguments, b",", 2)
        data = self._debugger.subject.read_available(Space.GVA, address, min(length, DATA_MAX_BYTES))
        if length and not data:
            raise MistakeError(NO_MEMORY)
        return data

    def write_memory(self, arguments: bytes) -> bytes:
        """M ADDRESS,LENGTH:HEX."""
        place, _, digits = arguments.partition(b":")
        return self._store(place, data_of(digits))

    def write_binary(self, arguments: bytes) -> bytes:
        """X ADDRESS,LENGTH:BYTES; gdb tries it with no bytes first."""
        place, _, data = arguments.partition(b":")
        return self._store(place, data)

    def _store(self, place: bytes, data: bytes) -> bytes:
        address, length = numbers(place, b",", 2)
        if length != len(data):
            raise MistakeError
        if not data:
            return OK
        self._debugger.store(Space.GVA, address, data)
        return OK

    # --- breaks, running ---------------------------------------------------------------------------------------------

    def insert_break(self, arguments: bytes) -> bytes:
        """Z0 and Z1 ADDRESS,KIND, which are one, as the guest's bytes stay as they are; Z2 to Z4 ADDRESS,LENGTH."""
        if arguments[:2] in WATCHES:
            self._resumption.watch(int(arguments[:1]), *numbers(arguments[2:].partition(b";")[0], b",", 2))
            return OK
        if arguments[:2] not in (b"0,", b"1,"):
            return UNKNOWN
        self._resumption.add(numbers(arguments[2:].partition(b";")[0], b",", 2)[0])
        return OK

    def remove_break(self, arguments: bytes) -> bytes:
        """z0 to z4."""
        if arguments[:2] in WATCHES:
            self._resumption.unwatch(int(arguments[:1]), *numbers(arguments[2:], b",", 2))
            return OK
        if arguments[:2] not in (b"0,", b"1,"):
            return UNKNOWN
        self._resumption.remove(numbers(arguments[2:], b",", 2)[0])
        return OK

    def why_stopped(self, _arguments: bytes) -> bytes:
        """?"""
        return self._resumption.reply()

    def resume_actions(self, _arguments: bytes) -> bytes:
        """vCont?"""
        return b"vCont;c;C;s;S;t;r"

    def resume(self, arguments: bytes) -> bytes:
        """vCont;ACTION[:THREAD]...: the first that steps does, and else all go on; time is one."""
        actions = arguments.split(b";")
        if actions.pop(0) or not actions:
            raise MistakeError
        if all(action[:1] == b"t" for action in actions):
            return self._resumption.reply()  # it stands still as it is
        for action in actions:
            what, _, thread = action.partition(b":")
            if ACTION.fullmatch(what) is None:
                raise MistakeError
            if what[:1] in b"sSr":
                number = self._debugger.number if thread in EVERYBODY else self._thread(thread)
                bounds = numbers(what[1:], b",", 2) if what[:1] == b"r" else [0, 0]
                return self._went(partial(self._resumption.step, number, *bounds))
        return self._went(self._resumption.go_on)

    def go_on(self, arguments: bytes) -> bytes:
        """c."""
        return self._old(arguments, self._resumption.go_on)

    def step(self, arguments: bytes) -> bytes:
        """s."""
        return self._old(arguments, partial(self._resumption.step, self._debugger.number))

    def go_back(self, _arguments: bytes) -> bytes:
        """bc."""
        return self._went(self._resumption.go_back)

    def step_back(self, _arguments: bytes) -> bytes:
        """bs."""
        return self._went(self._resumption.step_back)

    def _old(self, arguments: bytes, run: Callable[[], str]) -> bytes:
        if arguments:
            raise MistakeError  # to go on elsewhere means to write RIP
        return self._went(run)

    def _went(self, run: Callable[[], str]) -> bytes:
        try:
            text = run()
        except ConfigError as error:
            text = f"{error}\n"
        self._tell(text)
        return self._resumption.reply()

    # --- the end -----------------------------------------------------------------------------------------------------

    def detach(self, _arguments: bytes) -> bytes:
        """D."""
        self.verdict = Verdict.DETACHED
        return OK

    def kill(self, _arguments: bytes) -> None:
        """k: nobody waits for an answer."""
        self.verdict = Verdict.KILLED

    def kill_process(self, _arguments: bytes) -> bytes:
        """vKill;PROCESS."""
        self.verdict = Verdict.KILLED
        return OK


COMMANDS: dict[bytes, Callable[[Session, bytes], bytes | None]] = {
    b"qSupported": Session.supported, b"QStartNoAckMode": Session.start_no_ack_mode, b"qSymbol": Session.symbol,
    b"qAttached": Session.attached, b"qXfer": Session.transfer, b"qRcmd": Session.monitor,
    b"qfThreadInfo": Session.first_threads, b"qsThreadInfo": Session.more_threads, b"qC": Session.current_thread,
    b"qThreadExtraInfo": Session.describe_thread, b"H": Session.choose_thread, b"T": Session.is_alive,
    b"g": Session.read_registers, b"p": Session.read_register, b"P": Session.write_register,
    b"m": Session.read_memory, b"x": Session.read_binary, b"M": Session.write_memory, b"X": Session.write_binary,
    b"Z": Session.insert_break, b"z": Session.remove_break,
    b"?": Session.why_stopped, b"vCont?": Session.resume_actions, b"vCont": Session.resume,
    b"c": Session.go_on, b"s": Session.step, b"bc": Session.go_back, b"bs": Session.step_back,
    b"D": Session.detach, b"k": Session.kill, b"vKill": Session.kill_process,
}  # fmt: skip


def description(subject: Subject) -> str:
    """A processor in words."""
    return f"{subject.name}, {mode_text(subject)}, CPL {subject.cpl}"


def number_of(text: bytes) -> int:
    """A number as packets have it: 1 to 16 hexadecimal digits. Raises MistakeError."""
    if re.fullmatch(rb"[0-9a-fA-F]{1,16}", text) is None:
        raise MistakeError
    return int(text, 16)


def numbers(text: bytes, separator: bytes, count: int) -> list[int]:
    """`count` of them. Raises MistakeError."""
    parts = text.split(separator)
    if len(parts) != count:
        raise MistakeError
    return [number_of(part) for part in parts]


def data_of(digits: bytes) -> bytes:
    """Bytes, as two digits each. Raises MistakeError."""
    if re.fullmatch(rb"([0-9a-fA-F]{2})*", digits) is None:
        raise MistakeError
    return bytes.fromhex(digits.decode())
