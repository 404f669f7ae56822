"""What a user asks for: a host, guests, when to stop, what a run leaves outside. Every field is listed here, once.

    HostSpec   the emulated machine and its VMM      Limits    when a run ends, whatever the guest does
    GuestSpec  a guest of it                         Outside   files and keys of one run

A field's annotation holds its type and a `Parameter` (`parameters.py`): one sentence, its range, its option on the
command line (`vmm/cli/spec_options.py` makes that), whether a snapshot has to say it. Choices and ranges are checked
when a spec is made; what is possible together, and what is in the files it names, `plan.py` finds out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from emulator.errors import ConfigError, choices_text
from emulator.profiles.profile import DEFAULT_PROFILE
from emulator.timing.fidelity import DEFAULT_FIDELITY, Fidelity
from vmm.session.option_values import (
    Switch,
    TraceStart,
    read_cores,
    read_memory_bytes,
    read_switch,
    read_trace_start,
)
from vmm.session.parameters import Parameter, Row, Spec, rows_of
from vmm.sidecore.poll import Poll

Paging = Literal["shadow", "ept", "native"]
PAGING_MODES: tuple[Paging, ...] = get_args(Paging)
Protocol = Literal["linux", "multiboot", "pvh"]
SchedulerName = Literal["pinned", "credit", "credit-boost"]
NicSignal = Literal["auto", "interrupt", "sidecore", "msix", "posted"]
SendQueues = Literal["guest", "nic"]
ROUND_ROBIN = "round-robin"
DEFAULT_MEMORY_BYTES = 256 << 20
SLICE_CYCLES = 50_000_000  # natively about 0.3 s of a workstation, at most: how late a key or a limit is seen
PROCESSORS_MAX = 64
TRACE_LAST_MAX = 10**6  # with charges about a gigabyte
STDOUT = Path("-")  # as a file of figures


# fmt: off
@dataclass(frozen=True, kw_only=True)
class HostSpec(Spec):
    """The emulated machine, and the VMM on it."""

    profile: Annotated[str, Parameter(
        "Timing of the machine: a name from `sidecore profiles list`, or a .toml file.", "--profile", "TEXT"
    )] = DEFAULT_PROFILE
    overrides: Annotated[tuple[str, ...], Parameter(
        "Change one value of the profile, as in core.frequency_hz=2e9; see `sidecore profiles parameters`.",
        "--set", "KEY=VALUE",
    )] = ()
    timing: Annotated[Fidelity, Parameter(
        "How time is computed: flat, one cycle for each instruction; fast, a model of the core, memory by an average; "
        "detailed, every access through caches and TLBs.", "--timing", noun="timing",
    )] = DEFAULT_FIDELITY
    pcpu_count: Annotated[int | None, Parameter(
        "Cores of the machine; as many as --vcpus, unless they are to share fewer.", "--pcpus",
        least=1, most=PROCESSORS_MAX,
    )] = None
    paging: Annotated[Paging, Parameter(
        "How guest memory is virtualized: shadow page tables, extended page tables, or no VMM at all.", "--paging",
        noun="paging mode",
    )] = "shadow"
    scheduler: Annotated[SchedulerName | None, Parameter(
        "Which vCPU runs where: pinned, each has a core of its own; credit, they share all cores, as in Xen; "
        "credit-boost, and one that wakes comes first. Without it pinned, if there are cores enough.",
        "--scheduler", noun="scheduler",
    )] = None
    sidecore_count: Annotated[int, Parameter(
        "Give the machine one more core, which serves the guest over a shared page instead of VM exits.",
        "--sidecore", least=0, most=PROCESSORS_MAX, is_flag=True,
    )] = 0
    sidecore_policy: Annotated[str | None, Parameter(
        "Let the sidecore's core run guests too, by this policy: always-on, never, when-idle or FILE.py:NAME.",
        "--sidecore-policy", "POLICY",
    )] = None
    sidecore_switches: Annotated[tuple[Switch, ...], Parameter(
        "Turn sidecalls on or off when the clock gets there; the guest goes on by VM exits.",
        "--switch-sidecore", "CYCLE:on|off", read=read_switch,
    )] = ()
    poll: Annotated[Poll, Parameter("How the sidecore waits.", "--poll", noun="way to poll")] = "spin"
    jumps_spins: Annotated[bool, Parameter("Whether polls and spins are jumped over; else each is executed.")] = True
    has_nic: Annotated[bool, Parameter(
        "Put a self-virtualized network card on the machine's PCI bus; guests get a part of it by --vif.",
        "--nic", is_flag=True,
    )] = False
    nic_signal: Annotated[NicSignal, Parameter(
        "How a guest hears of its frames: interrupt, the one of the card, which the VMM demultiplexes; sidecore, which "
        "polls; msix, an interrupt for each VIF; posted, without a VM exit; auto, sidecore if there is one.",
        "--nic-signal", noun="way to signal",
    )] = "auto"
    nic_identifier_bits: Annotated[int, Parameter(
        "Width of the register that says whose interrupt it is; VIFs beyond it share bits.", "--nic-identifier-bits",
        least=1, most=64,
    )] = 8
    nic_interrupt_core: Annotated[str, Parameter(
        "Which core takes the card's interrupts, by number, or round-robin.", "--nic-interrupt-core",
        f"CORE|{ROUND_ROBIN}",
    )] = "0"
    nic_send_queues: Annotated[SendQueues, Parameter(
        "Where send queues are: in the guest's memory, or behind the card's PCI bridge.", "--nic-send-queues",
        noun="place of send queues",
    )] = "guest"
    nic_fills_caches: Annotated[bool, Parameter(
        "Let what the card stores go to the last-level cache of the core where its guest is (direct cache access).",
        "--nic-dca", is_flag=True,
    )] = False
    nic_overrides: Annotated[tuple[str, ...], Parameter(
        "Change one number of the card.", "--nic-set", "KEY=VALUE",
    )] = ()


@dataclass(frozen=True, kw_only=True)
class GuestSpec(Spec):
    """A guest: either `image` or `kernel` names what it boots."""

    image: Annotated[str | None, Parameter(
        "A name from `sidecore images list` or a kernel file; without one, `default` boots.", is_in_memory=True
    )] = None
    kernel: Annotated[Path | None, Parameter(
        "Boot this kernel instead of a named guest: bzImage, vmlinux, ELF, Multiboot or PVH; with an address a flat "
        "binary, entered there in real mode (16 bits, below 1 MiB), protected mode (32) or 64-bit mode.",
        "--kernel", "FILE[@ADDRESS[:BITS]]", is_in_memory=True,
    )] = None
    initrd: Annotated[Path | None, Parameter(
        "Initial RAM disk for --kernel; of a Multiboot or PVH kernel the first module.", "--initrd", is_in_memory=True
    )] = None
    modules: Annotated[tuple[str, ...], Parameter(
        "A module for a Multiboot or PVH kernel, as in --module 'disk.img ro'.", "--module", "FILE [ARGS]",
        is_in_memory=True,
    )] = ()
    protocol: Annotated[Protocol | None, Parameter(
        "How to boot a --kernel that can be booted in several ways.", "--protocol", noun="boot protocol",
        is_in_memory=True,
    )] = None
    append: Annotated[str, Parameter(
        "Kernel command line; for a named guest, more of it.", "--append", is_in_memory=True
    )] = ""
    memory_bytes: Annotated[int, Parameter(
        "RAM of the guest.", "--memory", "TEXT", read=read_memory_bytes, shown_default="256M"
    )] = DEFAULT_MEMORY_BYTES
    vcpu_count: Annotated[int, Parameter("Processors of the guest.", "--vcpus", least=1, most=PROCESSORS_MAX)] = 1
    devices: Annotated[tuple[str, ...], Parameter(
        "Put a device on the PCI bus: edu, the one of QEMU's for who writes a first driver.", "--device", "edu"
    )] = ()
    workload: Annotated[str | None, Parameter(
        "Whose average `fast` takes for memory: linux, kernel, ...", "--workload", "CLASS", is_in_memory=True
    )] = None
    weight: Annotated[int, Parameter("Its share of the cores, with the credit scheduler.", least=1, most=65535)] = 256
    cores: Annotated[tuple[int, ...] | None, Parameter(
        "The cores it may run on, by number; without it all that are no sidecores.", "--cores", "N,...",
        read=read_cores,
    )] = None
    has_vif: Annotated[bool, Parameter(
        "Give it a virtual interface of the machine's card, as a device on its PCI bus.", "--vif", is_flag=True
    )] = False
    mac: Annotated[str | None, Parameter(
        "The interface's address; without one 02:5c:00:00, its host's number, its own.", "--mac", "XX:XX:XX:XX:XX:XX"
    )] = None
    is_manager: Annotated[bool, Parameter(
        "Let it create and destroy virtual interfaces of others.", "--manager", is_flag=True
    )] = False
    is_backend: Annotated[bool, Parameter(
        "Let it have the card's only interface, and carry the frames of all other guests (a driver domain).",
    )] = False


@dataclass(frozen=True, kw_only=True)
class Limits(Spec):
    """When a run ends, whatever the guest does."""

    until: Annotated[str | None, Parameter(
        "End with status 0 when the guest has printed TEXT.", "--until", "TEXT"
    )] = None
    max_seconds: Annotated[float | None, Parameter(
        "End with status 3 after this long on the workstation.", "--max-seconds", above=0
    )] = None
    max_cycles: Annotated[int | None, Parameter(
        "End with status 3 when the emulated core's clock gets here.", "--max-cycles", above=0
    )] = None
    slice_cycles: Annotated[int, Parameter(
        "How long the guest runs between two looks at the outside; nothing in the guest depends on it.", least=1
    )] = SLICE_CYCLES


@dataclass(frozen=True, kw_only=True)
class Outside(Spec):
    """Files and keys of one run."""

    stats_path: Annotated[Path | None, Parameter(
        "Write the figures of the summary to this file; - is stdout, and what the guest prints then goes to stderr.",
        "--stats", "F.json",
    )] = None
    trace_path: Annotated[Path | None, Parameter(
        "Write what became of each VM exit to this file, or - for stdout: .csv; .json for the Perfetto UI, with "
        "charges, sidecalls and packets; else a line of JSON for each.", "--trace", "F.jsonl|csv|json",
    )] = None
    trace_from: Annotated[TraceStart | None, Parameter(
        "Trace from this cycle on, or from the N-th exit of the run.", "--trace-from", "CYCLE|'exit N'",
        read=read_trace_start,
    )] = None
    trace_last: Annotated[int | None, Parameter(
        "Trace only the last N, which are written at the end.", "--trace-last", "N", least=1, most=TRACE_LAST_MAX,
    )] = None
    pcap_path: Annotated[Path | None, Parameter(
        "Write what the card sends and gets to this file, or - for stdout, for tcpdump and Wireshark.",
        "--pcap", "F.pcap",
    )] = None
    explain: Annotated[str | None, Parameter(
        "Show the account of the N-th VM exit for this reason (CPUID, EXCEPTION_NMI ...), line by line with its "
        "sources.", "--explain", "REASON[:N]",
    )] = None
    save_path: Annotated[Path | None, Parameter(
        "Write the state of the whole machine to this file, and end, at one of these places:", "--save", "F"
    )] = None
    save_at_text: Annotated[str | None, Parameter(
        "... when the guest has printed TEXT;", "--save-at-text", "TEXT"
    )] = None
    save_at_cycle: Annotated[int | None, Parameter(
        "... when the emulated core's clock gets here;", "--save-at-cycle", "N"
    )] = None
    save_at_exit: Annotated[str | None, Parameter(
        "... behind the N-th VM exit for this reason.", "--save-at-exit", "REASON[:N]"
    )] = None
    restore_path: Annotated[Path | None, Parameter(
        "Go on from a file of --save, as if there had been no end; options that make the guest do not go with it.",
        "--restore", "F",
    )] = None
    expects_shutdown: Annotated[bool, Parameter(
        "A triple fault, a HLT that nothing ends, or a power off is the end that is wanted: status 0.",
        "--expect-shutdown", is_flag=True,
    )] = False
    allow_input: Annotated[bool, Parameter(
        "Take no keys, even from a terminal: the run is reproducible.", "--no-input", is_flag=True
    )] = True
    # fmt: on

    @property
    def takes_stdout(self) -> bool:
        """Whether stdout is for a file of figures, and what the guest prints goes to stderr."""
        return STDOUT in (self.stats_path, self.trace_path, self.pcap_path)

    @property
    def is_saved(self) -> bool:
        """Whether anything of --save was given."""
        wanted = (self.save_path, self.save_at_text, self.save_at_cycle, self.save_at_exit)
        return any(value is not None for value in wanted)


SPECS: tuple[type[Spec], ...] = (GuestSpec, HostSpec, Limits, Outside)  # in the order of the command's help


def specs_of(values: Mapping[str, Any]) -> tuple[HostSpec, GuestSpec, Limits, Outside]:
    """The specs that values by the names of their fields make; no name is in two of them. Raises ConfigError."""
    owners = {row.name: cls for cls, row in all_rows()}
    parts: dict[type[Spec], dict[str, Any]] = {cls: {} for cls in SPECS}
    for name, value in values.items():
        if name not in owners:
            raise ConfigError(f"no field {name!r} of a spec; {choices_text(name, list(owners))}")
        parts[owners[name]][name] = value
    return (
        HostSpec(**parts[HostSpec]),
        GuestSpec(**parts[GuestSpec]),
        Limits(**parts[Limits]),
        Outside(**parts[Outside]),
    )


def all_rows() -> Iterator[tuple[type[Spec], Row]]:
    """Every field of every spec, in the order of the command's help."""
    for cls in SPECS:
        for row in rows_of(cls):
            yield cls, row
