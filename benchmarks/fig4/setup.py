"""What a point of Figure 4 is measured on: two hosts of the same kind, n guests on each, every option with its default.

    host 1: core 0 dom0 | 1 guests | 2 guests | 3 sidecore        flow i: the client in guest i of host 1,
    host 2: core 0 dom0 | 1 guests | 2 guests | 3 sidecore                the server in guest i of host 2
            `-- sibling -----------'

The paper says that of four logical processors one is the sidecore, one dom0's, and two run all guests. It does not say
what the fourth does without a sidecore, how hard the flows press, which core takes the master interrupt, how guests are
pinned: these are fields, and `map.py` has the map of them.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from benchmarks.harness.results import Fact
from emulator.errors import ConfigError, choices_text
from emulator.profiles.profile import load_profile
from emulator.timing.fidelity import Fidelity
from vmm.session.spec import GuestSpec, HostSpec, Paging
from vmm.sidecore.poll import Poll

InterruptCore = Literal["dom0", "guests", "round-robin"]
INTERRUPT_CORES: tuple[InterruptCore, ...] = get_args(InterruptCore)
Carrier = Literal["nic", "stub", "shared stub", "linux"]  # of guests' frames: the NIC, or a domain with its only VIF
CARRIERS: tuple[Carrier, ...] = get_args(Carrier)
Pinning = Literal["shared", "split", "one"]
PINNINGS: tuple[Pinning, ...] = get_args(Pinning)

SendQueues = Literal["guest", "nic"]
Signal = Literal["auto", "msix", "posted"]
CHOICES: dict[str, tuple[str, ...]] = {
    "interrupt_core": INTERRUPT_CORES,
    "pinning": PINNINGS,
    "send_queues": get_args(SendQueues),
    "signal": get_args(Signal),
    "poll": get_args(Poll),
    "timing": get_args(Fidelity),
}
OWN_IMAGE, LINUX_IMAGE = "psapp", "linux-vif"
IMAGES = {"own": OWN_IMAGE, "linux": LINUX_IMAGE}
DOM0_IMAGES: dict[Carrier, str] = {"nic": "idle", "stub": "bridge", "shared stub": "bridge", "linux": LINUX_IMAGE}

LINUX_WORDS = "hold=psapp quiet"  # of the kernel; psapp's come later (linux.py)
LINUX_DOM0_WORDS = "driver_domain quiet"

GUESTS = (1, 2, 4, 8, 16, 24, 32)
GUESTS_MAX = 64
GUEST_MEMORY_BYTES = 32 << 20  # of the paper's guests
OWN_MEMORY_BYTES = 32 << 20  # of our own kernel: the least it takes
CORES, GUEST_CORES = 4, 2
SIDECORES_MAX = CORES - 2
US_PER_PHASE = 37  # by which clients begin later, one after the other; with phase k, k times as much


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One point. Raises ConfigError for what is not possible."""

    guests: int
    sidecores: int = 0
    probes: int = 1000
    warm_up: int = 100
    probe_bytes: int = 64
    think_us: int = 0  # between an answer and the next probe
    identifier_bits: int = 8
    has_boost: bool = False
    poll: Poll = "spin"
    interrupt_core: InterruptCore = "guests"
    dom0_core: int = 0  # 0, 1 or 2: which of the others is the sibling of what
    pinning: Pinning = "shared"
    fourth_runs_guests: bool = False  # without a sidecore
    send_queues: SendQueues = "guest"
    signal: Signal = "auto"  # without a sidecore
    profile: str = "xeon-2.8-ht-2006"
    overrides: tuple[str, ...] = ()
    paging: Paging = "shadow"
    timing: Fidelity = "fast"
    carrier: Carrier = "nic"
    slower_clients_percent: int = 0  # that the clock of their host is slower
    phase: int = 0  # of the flows' beginnings
    image: str = OWN_IMAGE

    def __post_init__(self) -> None:
        if not 1 <= self.guests <= GUESTS_MAX:
            raise ConfigError(f"{self.guests} guests on a host are not possible; give 1 to {GUESTS_MAX}")
        if not 0 <= self.sidecores <= SIDECORES_MAX:
            raise ConfigError(
                f"{self.sidecores} sidecores leave guests no core of {CORES}; give at most {SIDECORES_MAX}"
            )
        if not 0 <= self.dom0_core < CORES - max(1, self.sidecores):
            raise ConfigError(
                f"dom0 cannot have core {self.dom0_core}; give one of 0 to {CORES - 1 - max(1, self.sidecores)}"
            )

    # --- the machines ------------------------------------------------------------------------------------------------

    @property
    def guest_cores(self) -> tuple[int, ...]:
        """The cores that run guests."""
        left = [core for core in range(CORES - self.sidecores) if core != self.dom0_core]
        return tuple(left if self.fourth_runs_guests else left[:GUEST_CORES])

    def host(self, number: int) -> HostSpec:
        """Host 0, where the clients are, or 1."""
        core = {"dom0": str(self.dom0_core), "guests": str(self.guest_cores[0]), "round-robin": "round-robin"}
        return HostSpec(
            profile=self.profile,
            overrides=self._overrides(number),
            paging=self.paging,
            timing=self.timing,
            pcpu_count=CORES - self.sidecores,
            sidecore_count=self.sidecores,
            poll=self.poll,
            scheduler="credit-boost" if self.has_boost else "credit",
            has_nic=True,
            nic_signal="auto" if self.sidecores else self.signal,
            nic_identifier_bits=self.identifier_bits,
            nic_interrupt_core=core[self.interrupt_core],
            nic_send_queues=self.send_queues,
        )

    def _overrides(self, host: int) -> tuple[str, ...]:
        if host or not self.slower_clients_percent:
            return self.overrides
        frequency_hz = load_profile(self.profile, self.overrides).frequency_hz
        return (*self.overrides, f"core.frequency_hz={frequency_hz * (100 - self.slower_clients_percent) // 100}")

    @property
    def dom0(self) -> GuestSpec:
        """The management domain, which has a core to itself, and nothing to do unless it carries frames."""
        carries = self.carrier != "nic"
        return GuestSpec(
            image=DOM0_IMAGES[self.carrier],
            append=LINUX_DOM0_WORDS if self.carrier == "linux" else "",
            memory_bytes=GUEST_MEMORY_BYTES if self.carrier == "linux" else OWN_MEMORY_BYTES,
            cores=self.guest_cores if self.carrier == "shared stub" else (self.dom0_core,),
            is_manager=True,
            has_vif=carries,
            is_backend=carries,
        )

    def words(self, host: int, number: int) -> str:
        """What psapp is told in guest `number` of host 0, where the clients are, or 1."""
        role = "server" if host else "client"
        words = [f"role={role}", f"peer={mac_text(1 - host, number)}", f"probes={self.probes}"]
        words += [f"warmup={self.warm_up}", f"size={self.probe_bytes}", f"think_us={self.think_us}"]
        return " ".join([*words, f"start_us={number * US_PER_PHASE * self.phase}", "keep=1"])

    def guest(self, host: int, number: int) -> GuestSpec:
        """Guest `number` of host 0 or 1."""
        cores = self.guest_cores
        return GuestSpec(
            image=self.image,
            memory_bytes=OWN_MEMORY_BYTES if self.image == OWN_IMAGE else GUEST_MEMORY_BYTES,
            append=self.words(host, number) if self.image == OWN_IMAGE else LINUX_WORDS,
            cores={"shared": cores, "split": (cores[number % len(cores)],), "one": cores[:1]}[self.pinning],
            has_vif=True,
            mac=mac_text(host, number),
        )

    @property
    def signals(self) -> str:
        """How guests hear of their frames, for people."""
        if self.carrier != "nic":
            return self.carrier
        if self.sidecores:
            count = "sidecore" if self.sidecores == 1 else f"{self.sidecores} sidecores"
            return f"{count}, {self.poll}"
        return self.signal if self.signal != "auto" else f"interrupt, {self.identifier_bits} bits"

    def facts(self) -> dict[str, Fact]:
        """What identifies its rows."""
        facts = {name: value for name, value in vars(self).items() if name != "overrides"}
        return {**facts, "overrides": " ".join(self.overrides)}


def mac_text(host: int, number: int) -> str:
    """The address of the VIF of guest `number` of `host`, 0 or 1."""
    return f"02:5c:00:00:{host + 1:02x}:{number + 1:02x}"


def setup_of(*, guest: str, **options: Any) -> Setup:
    """What the command's options say, with one guest on each host. Raises ConfigError."""
    for name, choices in {"guest": tuple(IMAGES), **CHOICES}.items():
        chosen = guest if name == "guest" else options[name]
        if chosen not in choices:
            raise ConfigError(f"--{name.replace('_', '-')}: no {chosen!r}; {choices_text(chosen, choices)}")
    return Setup(guests=1, image=IMAGES[guest], **options)
