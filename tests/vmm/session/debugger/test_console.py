"""The console: every command answers in lines of 80 columns, every mistake in one, and nothing ends in a traceback."""

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from click.testing import CliRunner

from tests.vmm.session.debugger.worlds import world_of
from vmm.cli.debug import debug
from vmm.session.debugger.break_kinds import BREAK_KINDS
from vmm.session.debugger.commands import COMMANDS
from vmm.session.debugger.console import Console
from vmm.session.debugger.debugger import Debugger
from vmm.session.debugger.happening import Kind

TUTORIAL = Path(__file__).parents[4] / "vmm/session/debugger/TUTORIAL.md"
SIDECORE = str(Path(sys.executable).parent / "sidecore")
VIEWS = (
    "why",
    "regs",
    "disas",
    "vmcs",
    "check",
    "walk rip",
    "map",
    "tables",
    "cost",
    "irq",
    "bt",
    "info cores",
    "x rsp",
)


class Listener:
    """A console, and what it has said by itself."""

    def __init__(self, image: str = "default", paging: str = "ept") -> None:
        self.said: list[str] = []
        self.printed = bytearray()
        self.debugger = Debugger(world_of(image, paging))  # type: ignore[arg-type]
        self.console = Console(self.debugger, self.said.append, self.printed.extend)


@pytest.fixture(params=["ept", "shadow"])
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    made = Listener(paging=request.param)
    made.console.answer("until exit CPUID")
    yield made
    made.debugger.close()


@pytest.mark.parametrize(
    "line", [*VIEWS, "info guests", "info devices", "info names", "info kinds", "when", "help", "print rip"]
)
def test_what_is_said_fits_a_terminal(listener: Listener, line: str) -> None:
    text = listener.console.answer(line)
    assert text
    assert all(len(row) <= 80 for row in text.splitlines())


@pytest.mark.parametrize("line", VIEWS)
def test_views_are_values_too(listener: Listener, line: str) -> None:
    assert isinstance(json.loads(listener.console.answer(f"{line} --json")), dict)


STOPS = {
    "where": "exit", "next-exit": "exit", "finish": "entry", "stepi": "instruction", "step-vmm 4": "line",
    "until vmread": "charge", "until exit after": "handled", "goto cycle 500000": "rest", "continue": "end",
}  # fmt: skip


def test_stops_are_values_too(listener: Listener) -> None:
    for line, kind in STOPS.items():
        value = json.loads(listener.console.answer(f"{line} --json"))
        here = listener.debugger.stop.happening
        assert (value["kind"], value["cycles"], value["exits"]) == (kind, here.cycles, here.exits)
        assert (value["exit"] is not None) == (kind == "exit")
        assert (value["line"] is not None) == (kind == "line")
        assert (value["charge"] is not None) == (kind == "charge")
        assert (value["exit_cycles"] is not None) == (kind == "entry")


def test_a_stop_has_the_breaks_that_were_hit_as_values(listener: Listener) -> None:
    listener.console.answer("break exit IO_INSTRUCTION if port == 0x3f8")
    value = json.loads(listener.console.answer("continue --json"))
    hit = {"number": 1, "command": "break exit IO_INSTRUCTION if port == 0x3f8", "hits": 1}
    assert value["breaks"] == [hit]
    assert (value["reason"], value["exit"]["cause"]["reason"]) == ("IO_INSTRUCTION", "IO_INSTRUCTION")


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("when", {"kind": "exit"}), ("print 2 + 2", {"expression": "2 + 2", "value": 4}),
        ("symbol 0", {"address": "0x0", "symbol": ""}), ("info breaks", {"breaks": []}), ("log rip at exit HLT", {}),
        ("processor", {}), ("help", {}), ("break exit", {"says": "break 1: break exit"}),
        ("walk", {"error": "walk ADDRESS"}), ("nonsense", {}),
    ],
)  # fmt: skip
def test_whatever_a_command_says_is_a_line_of_json_if_wanted(
    listener: Listener, line: str, values: dict[str, object]
) -> None:
    text = listener.console.answer(f"{line} --json")
    assert "\n" not in text
    assert json.loads(text).items() >= values.items()


MISTAKES = {
    "foo": "no command 'foo'",
    "s 0": "0 steps are not possible",
    "re": "may be",
    "break": "break what?",
    "break exit NOTHING": "no exit reason 'NOTHING'",
    "break exit CPUID if foo == 1": "no name 'foo'",
    "break exit if rip ==": "is no condition",
    "break exec nowhere": "no number, and no symbol",
    "break exit CPUID and more": "is too much",
    "break port 0x3f8 if rip.real": "Attribute is not possible",
    "break write": "give [gva|gpa|hpa] ADDRESS|SYMBOL",
    "break write nowhere": "no number, and no symbol",
    "break read gpa 0 5000": "what lies in one page",
    "delete 77": "there is no break 77",
    "goto cycle": "goto cycle N",
    "goto exit 0": "not in the past",
    "walk": "walk ADDRESS",
    "x /99z rsp": "99z",
    "write rsp zz": "are no bytes",
    "source /nowhere": "cannot read",
    "print 1 +": "is no condition",
    'print "': "No closing quotation",
    "pdb": "needs a line of the VMM",
    "processor d9v9": "no processor",
    "vmcs NOTHING": "NOTHING",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(listener: Listener, line: str) -> None:
    answer = listener.console.answer(line)
    assert MISTAKES[line] in answer
    assert "\n" not in answer


def test_an_empty_line_repeats_and_names_may_be_cut_short(listener: Listener) -> None:
    exits = listener.debugger.stop.happening.exits
    listener.console.answer("next-e")
    listener.console.answer("")
    assert listener.debugger.stop.happening.exits == exits + 2


def test_breaks_have_commands_and_traces_go_on(listener: Listener) -> None:
    answer = listener.console.answer
    answer("break exit IO_INSTRUCTION if n == 2")
    answer("commands 1 print n; when")
    answer("trace exit IO_INSTRUCTION")
    text = answer("continue")
    assert "break 1: exit IO_INSTRUCTION if n == 2" in text
    assert "snapshots" in text
    assert [line.split(":")[0] for line in listener.said] == ["trace 2"] * 2


def test_an_ignored_break_lets_pass(listener: Listener) -> None:
    answer, exits = listener.console.answer, listener.debugger.stop.happening.exits
    answer("break exit")
    answer("ignore 1 3")
    answer("continue")
    assert listener.debugger.stop.happening.exits == exits + 4
    answer("disable 1")
    answer("continue")
    assert listener.debugger.stop.happening.kind is Kind.END


def test_breaks_are_saved_and_set_again(listener: Listener, tmp_path: Path) -> None:
    answer = listener.console.answer
    answer("break exit CPUID after if cpl == 0")
    answer("tbreak exec guest_main") if len(listener.debugger.subject.symbols) else answer("tbreak exec 0x100000")
    answer(f"save-breaks {tmp_path}/breaks")
    answer("delete")
    answer(f"source {tmp_path}/breaks")
    assert next(one.words() for one in listener.debugger.breaks) == "break exit CPUID after if cpl == 0"


def test_what_is_written_is_there_and_ends_the_past(listener: Listener) -> None:
    answer = listener.console.answer
    answer("write rsp 1122334455667788")
    assert "8877665544332211" in answer("x /1xg rsp")
    assert "before" in answer("reverse-next-exit")
    assert "VM entry" in answer("finish")


def test_nothing_is_written_in_the_middle_of_the_vmms_work(listener: Listener) -> None:
    listener.console.answer("step-vmm 4")
    assert "in the middle" in listener.console.answer("write rsp 00")


def test_hostile_lines_are_answered() -> None:
    listener, dice = Listener(), random.Random(1)
    words = [
        *COMMANDS,
        *BREAK_KINDS,
        *[
            "exit",
            "if",
            "cpl",
            "==",
            "1",
            "-1",
            "0xffffffffffffffffff",
            "99999999999999999999",
            "\\",
            "'",
            '"',
            "(",
            ")",
            "--json",
            "/x",
            "gva",
            "\x00",
            "é",
        ],
    ]
    left_out = {"continue", "c", "quit", "pdb", "save-breaks", "log"}
    for _ in range(300):
        line = " ".join(dice.choice(words) for _ in range(dice.randrange(1, 6)))
        if not left_out & set(line.split()):
            listener.console.answer(line)
    listener.debugger.close()


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_pipe_and_a_script_are_followed(tmp_path: Path) -> None:
    lines = "next-exit 3\n# a comment\nwhere\nquit\ncontinue\n"
    (tmp_path / "script").write_text(lines)
    by_script = CliRunner().invoke(debug, ["--script", str(tmp_path / "script")])
    by_pipe = CliRunner().invoke(debug, [], input=lines)
    assert by_script.output == by_pipe.output
    assert "VM exit 3" in by_script.output
    assert "continue" not in by_script.output


def test_a_mistake_of_the_command_is_one_line_and_status_2() -> None:
    for arguments in (["nowhere"], ["--script", "/nowhere"], ["--symbols", "/dev/null"], ["--restore", "/nowhere"]):
        done = subprocess.run([SIDECORE, "debug", *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_ctrl_c_stops_the_guest() -> None:
    terminal = pexpect.spawn(SIDECORE, ["debug", "compute", "--paging", "ept"], dimensions=(24, 80), timeout=60)
    terminal.expect_exact("(sidecore)")
    terminal.sendline("stepi 3")
    terminal.expect_exact("=>")
    terminal.expect_exact("(sidecore)")
    terminal.sendline("continue")
    terminal.expect(r"\d{5} \d{5}")  # the guest prints what it counts
    terminal.sendintr()
    terminal.expect_exact("interrupted")
    terminal.sendline("quit")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_ctrl_c_ends_a_search_backwards_at_once_and_nothing_has_moved() -> None:
    terminal = pexpect.spawn(SIDECORE, ["debug", "compute", "--paging", "ept"], dimensions=(24, 80), timeout=60)
    terminal.expect_exact("(sidecore)")
    terminal.sendline("until cycle 300000000")
    terminal.expect(r"=> ([0-9a-f]+):")
    assert terminal.match is not None
    address = terminal.match[1].decode()
    terminal.expect_exact("(sidecore)")
    terminal.sendline("when")
    terminal.expect(r"cycle [0-9,]+, behind")
    stands = terminal.match[0].decode()
    for line in (f"break exec 0x{address} if n < 0", "reverse-continue"):  # it looks at millions, in vain
        terminal.expect_exact("(sidecore)")
        terminal.sendline(line)
    time.sleep(2)
    terminal.sendintr()
    terminal.expect_exact("interrupted; it stands where it stood", timeout=20)
    terminal.expect_exact("(sidecore)")
    terminal.sendline("when")
    terminal.expect_exact(stands)
    terminal.sendline("quit")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


# --- the tutorial ----------------------------------------------------------------------------------------------------

SCREENS = re.findall(r"```\n\$ sidecore debug (.*?)\n(.*?)```", TUTORIAL.read_text(), re.S)
NUMBER = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{6,16}\b|[0-9,]+|(?:\b[0-9a-f]{2}\b ?)+")  # compilers differ


def plain(text: str) -> list[str]:
    return [re.sub(r" +", " ", NUMBER.sub("#", line)).strip() for line in text.splitlines()]


@pytest.mark.parametrize(("options", "screen"), SCREENS, ids=[options for options, _ in SCREENS])
def test_the_tutorial_shows_what_comes(options: str, screen: str, tmp_path: Path) -> None:
    lines = [line.removeprefix("(sidecore) ") for line in screen.splitlines() if line.startswith("(sidecore) ")]
    (tmp_path / "script").write_text("\n".join(lines))
    shown = CliRunner().invoke(debug, [*options.split(), "--script", str(tmp_path / "script")])
    got, wanted = plain(shown.output), plain(screen)
    assert len(SCREENS) == 7
    at = 0
    for number, line in enumerate(wanted):
        if line == "...":
            following = wanted[number + 1] if number + 1 < len(wanted) else None
            at = got.index(following, at) if following is not None else len(got)
        else:
            assert got[at] == line
            at += 1
