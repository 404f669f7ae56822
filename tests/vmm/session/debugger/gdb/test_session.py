"""What gdb asks is answered; what nobody would ask, too."""

import os
import random
import re
from xml.etree import ElementTree

import pytest

import sidecore
from emulator.x86 import PAGE_BYTES
from tests.vmm.session.debugger.gdb.client import Asking, without_runs
from tests.vmm.session.debugger.worlds import outcome, undebugged, world_of
from vmm.session.debugger.gdb.packets import PACKET_MAX_BYTES, Packet, Parser, frame
from vmm.session.debugger.gdb.session import COMMANDS
from vmm.session.debugger.gdb.target import NUMBERS, TABLE

HOSTILE_PACKETS = 10_000 if os.environ.get("SIDECORE_SOAK") else 100
ENTRY = 0x100000


@pytest.fixture
def ask() -> Asking:
    return Asking(world_of("exceptions"))


def test_the_target_has_each_register_once_in_the_order_of_the_answer_to_g(ask: Asking) -> None:
    document, answer = b"", b"m"
    while answer[:1] == b"m":
        answer = ask(b"qXfer:features:read:target.xml:%x,200" % len(document)) or b""
        document += answer[1:]
    rows = ElementTree.fromstring(document).iter("reg")
    assert [(row.get("name"), row.get("regnum")) for row in rows] == [
        (register.name, str(number)) for number, register in enumerate(TABLE)
    ]
    answer = ask(b"g") or b""
    assert len(answer) == sum(2 * register.size_bytes for register in TABLE)
    assert ask(b"p%x" % NUMBERS["rip"]) == ENTRY.to_bytes(8, "little").hex().encode()
    assert ask(b"p%x" % len(TABLE)) == b"E22"


def test_memory_is_read_as_far_as_there_is_any_and_written_as_a_whole(ask: Asking) -> None:
    assert ask(b"X%x,0:" % ENTRY) == b"OK"
    assert ask(b"M%x,2:90cc" % ENTRY) == b"OK"
    assert ask(b"X%x,1:}\x03" % (ENTRY + 2)) == b"E22"  # two bytes here: the frame has taken escapes away
    assert (ask(b"m%x,2" % ENTRY), ask(b"x%x,2" % ENTRY)) == (b"90cc", b"b\x90\xcc")
    assert ask(b"m%x,2:90" % ENTRY) == b"E22"
    assert ask(b"mffff800000000000,8") == b"E14"
    assert len(ask(b"m0,ffffffffffffffff") or b"") < PACKET_MAX_BYTES
    assert (ask(b"Mfffffffffffffff0,1:00") or b"").startswith(b"E.nothing can be stored")


def test_breaks_stop_and_tell_gdb_why(ask: Asking) -> None:
    ask(b"qSupported:swbreak+")
    assert ask(b"s") != ask(b"s")
    there = int.from_bytes(bytes.fromhex((ask(b"p%x" % NUMBERS["rip"]) or b"").decode()), "little")
    ask(b"bs")
    assert ask(b"Z0,%x,1" % there) == ask(b"Z0,%x,1" % there) == b"OK"
    assert b"swbreak:" in (ask(b"vCont;c:1") or b"")
    assert ask(b"z0,%x,1" % there) == b"OK"
    assert ask(b"Z2,%x,1" % there) == b"OK"
    assert ask(b"z2,%x,1" % there) == b"OK"
    assert ask(b"Z5,%x,1" % there) == b""
    assert not list(ask.debugger.breaks)


def test_a_break_at_an_exit_is_a_signal_with_a_message(ask: Asking) -> None:
    ask.debugger.breaks.add(["exit", "CPUID"], ask.debugger)
    answer = ask(b"c") or b""
    assert answer.startswith(b"T05thread:1;")
    assert b"swbreak" not in answer
    assert "CPUID" in ask.console()


def test_the_ends_of_time_are_told(ask: Asking) -> None:
    assert b"replaylog:begin" in (ask(b"bs") or b"")
    ask.debugger.breaks.by_number.clear()
    assert (ask(b"c") or b"").startswith(b"T05")
    assert ask.console() == "every guest has ended\n"
    assert (ask(b"c") or b"").startswith(b"T05")
    assert "only the way back is left" in ask.console()
    assert outcome(ask.debugger.world) == undebugged("exceptions", "ept")
    assert b"replaylog:begin" in (ask(b"bc") or b"")


def test_threads_are_the_processors() -> None:
    ask = Asking(world_of("smp_ipi", "ept", vcpu_count=2, pcpu_count=2))
    assert (ask(b"qfThreadInfo"), ask(b"qsThreadInfo")) == (b"m1,2", b"l")
    threads = ElementTree.fromstring((ask(b"qXfer:threads:read::0,1000") or b"")[1:])
    assert [(row.get("id"), row.get("name")) for row in threads] == [("1", "d0v0"), ("2", "d0v1")]
    assert (ask(b"T2"), ask(b"T3"), ask(b"Hg2"), ask(b"qC")) == (b"OK", b"E22", b"OK", b"QC2")
    ask.debugger.goto_cycle(2_000_000)
    for thread in (1, 2):
        assert b"thread:%x" % thread in (ask(b"vCont;s:%x;c" % thread) or b"")


def test_monitor_is_the_console() -> None:
    def run_line(line: str) -> str:
        if line != "info breaks":
            raise sidecore.ConfigError("one line")
        return "none"

    ask = Asking(world_of(), run_line)
    assert ask(b"qRcmd," + b"info breaks".hex().encode()) == b"OK"
    assert ask(b"qRcmd,00") == b"OK"
    assert ask.console() == "none\none line\n"
    assert ask(b"qRcmd,0") == b"E22"


def hostile(dice: random.Random) -> bytes:
    """A packet that is nearly one, or none at all."""
    name = dice.choice(
        [*COMMANDS, b"vMustReplyEmpty", b"qXfer:features:read:target.xml", bytes((dice.randrange(256),))]
    )
    numbers = [
        b"%x" % dice.choice((0, 1, ENTRY, PAGE_BYTES, 1 << 40, (1 << 64) - 1, 1 << 64)),
        b"-1",
        b"",
        b"zz",
        b"1_0",
    ]
    parts = [dice.choice([b",", b":", b";", b"c", b"s", b"r", b"g", *numbers]) for _ in range(dice.randrange(7))]
    payload = name + b"".join(parts)
    return payload[:-1] + dice.randbytes(3) if dice.random() < 0.2 else payload


def test_hostile_packets_end_in_an_answer() -> None:
    seed = os.environ.get("SIDECORE_FUZZ_SEED", "hostile packets")
    print(f"SIDECORE_FUZZ_SEED={seed}")
    dice, ask, parser = random.Random(seed), Asking(world_of("exceptions")), Parser()
    ask.debugger.goto_cycle(3_000_000)
    for _ in range(HOSTILE_PACKETS):
        sent = bytearray(without_runs(frame(hostile(dice))))
        if dice.random() < 0.1:
            sent[dice.randrange(len(sent))] ^= 1 << dice.randrange(8)
        for arrived in parser.feed(bytes(sent)):
            if isinstance(arrived, Packet):
                answer = ask(arrived.payload)
                assert answer is None or len(answer) <= PACKET_MAX_BYTES
    assert re.match(rb"T0[25]", ask(b"?") or b"")
    ask.debugger.close()
