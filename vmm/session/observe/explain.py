"""The account of one VM exit, line by line: `sidecore boot --explain CPUID:3`.

    Request(reason, 3) --> Recorder --wants--> ExplainingVCpu: each charge of that exit is a Line, with the parameter
                                               that says so and where its value comes from
                              |
                              +--> Explanation: the lines sum to the exit's cycles

A plain VCpu charges without asking whether anybody listens; one that explains takes its place when somebody does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from emulator.errors import ConfigError, choices_text
from emulator.ledger import LABELS, Category
from emulator.pcpu import PCpu
from emulator.profiles.profile import Profile
from emulator.profiles.sections import REASONS
from emulator.vmx.exit_reasons import name
from emulator.vmx.fields import FIELD_BY_ENCODING
from vmm.cost import paths
from vmm.cost.paths import PATH_PARAMETER, Path
from vmm.exits.table import IMPOSSIBLE
from vmm.vcpu import VCpu

HIT = ("caches.l1d_latency_cycles",)  # parameter of a memory access; or parameter and source
MISS = ("", "the caches as emulator/timing/hierarchy.py has them, by [core], [caches] and [memory] of the profile")


@dataclass(frozen=True)
class Request:
    """The `number`-th VM exit for `reason`, from 1."""

    reason: int
    number: int

    def __str__(self) -> str:
        return f"{name(self.reason)}:{self.number}"


def parse_request(text: str) -> Request:
    """`REASON` or `REASON:n`, as after --explain. Raises ConfigError."""
    reason_text, colon, number_text = text.partition(":")
    reason = REASONS.get(reason_text.upper())
    if reason is None:
        raise ConfigError(
            f"--explain: no exit reason {reason_text!r}; {choices_text(reason_text.upper(), list(REASONS))}"
        )
    if reason in IMPOSSIBLE:
        raise ConfigError(f"--explain {reason_text}: no guest makes this exit: {IMPOSSIBLE[reason]}")
    if colon and not (number_text.isascii() and number_text.isdecimal() and 0 < len(number_text) < 19):
        raise ConfigError(f"--explain {text!r}: behind the colon comes which exit, a number from 1")
    number = int(number_text) if colon else 1
    if number < 1:
        raise ConfigError(f"--explain {text!r}: the first exit has the number 1")
    return Request(reason, number)


@dataclass(frozen=True)
class Line:
    """One charge. `parameter` is the profile's that gave the cycles, or empty; `source` is of the charge itself."""

    category: int
    what: str
    cycles: int
    parameter: str = ""
    source: str = ""

    @property
    def label(self) -> str:
        """The category, for people."""
        return LABELS[self.category]


@dataclass
class Explanation:
    """The account of an exit. While `is_whole` is false the exit has not ended: the guest did, in it."""

    request: Request
    owner: str
    pcpu: int
    began_cycles: int
    rip: int
    lines: list[Line] = field(default_factory=list)
    cycles: int = 0
    is_whole: bool = False


class Recorder:
    """Waits for the exit asked for, among those of all vCPUs of a machine timed by `profile`."""

    def __init__(self, request: Request, profile: Profile) -> None:
        self.request = request
        self.profile = profile
        self.seen_count = 0
        self.explanation: Explanation | None = None

    def wants(self, reason: int) -> bool:
        """Whether the exit that begins now, for `reason`, is the one."""
        self.seen_count += reason == self.request.reason
        return self.explanation is None and self.seen_count == self.request.number


def vcpu_maker(recorder: Recorder | None) -> Callable[..., VCpu]:
    """What makes vCPUs for a run: plain ones, or such that explain."""
    return VCpu if recorder is None else partial(ExplainingVCpu, recorder)


class ExplainingVCpu(VCpu):
    """A vCPU that tells `recorder` what the exit it wants is charged."""

    def __init__(self, recorder: Recorder, *arguments: Any, **named: Any) -> None:
        self._recorder = recorder
        self._explanation: Explanation | None = None  # of the exit in progress, if it is the one
        self._here: list[int] = []  # the exit's account on this core, when the exit began or came here
        self._here_from = 0  # the first line that belongs to this core
        super().__init__(*arguments, **named)

    def assign(self, pcpu: PCpu) -> None:
        """Let `pcpu` run this vCPU; its memory accesses are recorded too."""
        super().assign(pcpu)
        self.touch = self._touch
        if self._explanation is not None:
            self._here, self._here_from = list(self._account), len(self._explanation.lines)

    def begin_exit(self) -> int:
        """Begin to record, if this is the exit."""
        if self._recorder.wants(self.pending_reason):
            explanation = Explanation(
                self._recorder.request, self.engine.owner, self.pcpu.number, self.pcpu.clock.cycles, self.rip
            )
            self._recorder.explanation = self._explanation = explanation
            account, cycles, parameter = self.exit_costs(self.pending_reason)
            self._here, self._here_from = list(account), 0
            self._line(Category.EXIT, "VM exit", cycles, parameter)
            self._path_line(paths.EXIT)
        reason = super().begin_exit()
        self._line(Category.VMCS, "VMREAD EXIT_REASON", self._read_cycles, "vmx.vmread_cycles")
        return reason

    def end_exit(self) -> None:
        """The account is whole."""
        super().end_exit()
        if self._explanation is not None:
            self._explanation.cycles = self.pcpu.clock.cycles - self._explanation.began_cycles
            self._explanation.is_whole = True
            self._explanation = None

    def _charge_entry(self) -> None:
        self._path_line(paths.ENTRY)
        super()._charge_entry()
        self._line(Category.ENTRY, "VM entry", self._entry_cycles, "vmx.entry_cycles")

    def commit_cycles(self) -> None:
        """Whatever is in the exit's account now has a line."""
        super().commit_cycles()
        explanation = self._explanation
        if explanation is not None:
            for category, booked_cycles in _differences(self._here, self._account):
                lines = explanation.lines[self._here_from :]
                seen_cycles = sum(line.cycles for line in lines if line.category == category)
                if booked_cycles > seen_cycles:
                    self._line(category, "the core's own work", booked_cycles - seen_cycles)
            explanation.cycles = sum(line.cycles for line in explanation.lines)

    def resume_exit(self) -> None:
        """The core comes back to the exit: it has done something else since, or slept."""
        super().resume_exit()
        explanation = self._explanation
        if explanation is not None:
            self.commit_cycles()
            past_cycles = self.pcpu.clock.cycles - explanation.began_cycles
            if past_cycles > explanation.cycles:
                what = "sleeps until it is woken, or while the core does something else"
                self._line(Category.IDLE, what, past_cycles - explanation.cycles)

    # --- charges -----------------------------------------------------------------------------------------------------

    def _line(self, category: int, what: str, cycles: int, parameter: str = "", source: str = "") -> None:
        if self._explanation is not None:
            self._explanation.lines.append(Line(category, what, cycles, parameter, source))

    def read(self, field: int) -> int:
        """VMREAD."""
        if self._explanation is not None:
            self._line(Category.VMCS, f"VMREAD {_field_name(field)}", self._read_cycles, "vmx.vmread_cycles")
        return super().read(field)

    def write(self, field: int, value: int) -> None:
        """VMWRITE."""
        if self._explanation is not None:
            self._line(Category.VMCS, f"VMWRITE {_field_name(field)}", self._write_cycles, "vmx.vmwrite_cycles")
        super().write(field, value)

    def follow(self, path: Path) -> None:
        """Charge the instructions of `path`."""
        self._path_line(path)
        super().follow(path)

    def execute(self, instruction: str) -> None:
        """Charge an instruction of the VMM."""
        cycles = self._cycles_by_instruction[instruction]
        self._line(Category.PATHS, f"instruction: {instruction}", cycles, f"instructions.{instruction}_cycles")
        super().execute(instruction)

    def _path_line(self, path: Path) -> None:
        if self._explanation is not None:
            what = f"{path.what}: {path.instructions} instructions"
            self._line(Category.PATHS, what, self._cycles_by_path[path], PATH_PARAMETER, path.source)

    def _touch(self, hpa: int, size_bytes: int, is_write: bool) -> int:
        """Charge an access to host memory, and record what the core made of it."""
        before = list(self.pcpu.clock.account)
        cycles = self.pcpu.clock.touch(hpa, size_bytes, is_write)
        if self._explanation is not None:
            what = f"{'write' if is_write else 'read'} {size_bytes} bytes at {hpa:#x}"
            is_hit = cycles == (size_bytes + 7 >> 3) * self.pcpu.profile.caches.l1d_latency_cycles
            for category, booked_cycles in _differences(before, self.pcpu.clock.account):
                self._line(category, what, booked_cycles, *(HIT if is_hit else MISS))
        return cycles


def _differences(before: list[int], after: list[int]) -> list[tuple[int, int]]:
    """(category, cycles) of what was booked between."""
    return [(number, new - old) for number, (old, new) in enumerate(zip(before, after, strict=True)) if new != old]


def _field_name(encoding: int) -> str:
    return FIELD_BY_ENCODING[encoding].name
