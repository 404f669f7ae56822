"""The network card of a host and the virtual interfaces of its guests, as specs have them: checked, and built.

HostSpec.nic_*  --nic_maker()--> a device on the host's PCI bus --> Hypervisor.attach_nic
GuestSpec.mac   --with_macs()--> each VIF has an address        --> Hypervisor.create_domain
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from devices.board import PciDeviceMaker
from devices.nic.board import load_board
from devices.nic.microengine import ProgramFunction
from devices.nic.nic import Nic
from devices.nic.programs import PROGRAMS
from devices.nic.vif import VIF_MAX
from emulator.errors import ConfigError
from vmm.nic.registry import Signal
from vmm.session.parameters import rows_of
from vmm.session.spec import ROUND_ROBIN, GuestSpec, HostSpec

NUMBERED_MAX = 256  # hosts, and guests of one, that have a number in an address
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE | re.ASCII)


def parse_mac(text: str) -> bytes:
    """The six bytes of an interface's address. Raises ConfigError."""
    if _MAC.fullmatch(text) is None:
        raise ConfigError(f"--mac {text!r}: give six bytes, as in 02:5c:00:00:00:01")
    mac = bytes.fromhex(text.replace(":", ""))
    if mac[0] & 1 or not any(mac):
        raise ConfigError(f"--mac {text!r} is no address of one interface: its first byte is even, and not all are 0")
    return mac


def with_macs(guests: Sequence[GuestSpec], host_number: int) -> list[GuestSpec]:
    """The guests, each VIF with an address. Raises ConfigError when two of the host are the same."""
    specs = [_with_mac(guest, host_number, number) for number, guest in enumerate(guests)]
    seen: set[bytes] = set()
    for spec in specs:
        if spec.mac is not None:
            mac = parse_mac(spec.mac)
            if mac in seen:
                raise ConfigError(f"two guests have --mac {spec.mac}; give each its own")
            seen.add(mac)
    return specs


def _with_mac(guest: GuestSpec, host_number: int, number: int) -> GuestSpec:
    if not guest.has_vif or guest.mac is not None:
        return guest
    if max(host_number, number) >= NUMBERED_MAX:
        raise ConfigError(f"only {NUMBERED_MAX} hosts, and guests of one, get an address by themselves; give a mac")
    return replace(guest, mac=f"02:5c:00:00:{host_number:02x}:{number:02x}")


def signal_of(host: HostSpec) -> Signal:
    """How guests hear of their frames: what `auto` is."""
    if host.nic_signal != "auto":
        return host.nic_signal
    return "sidecore" if host.sidecore_count else "interrupt"


def nic_maker(host: HostSpec, programs: Mapping[int, ProgramFunction], *, has_policy: bool) -> PciDeviceMaker:
    """What makes the card; `programs` of a script take the place of its microengines' own."""
    signal = signal_of(host)
    if signal == "sidecore":  # while one with a policy does not serve, the VMM needs the interrupt
        signals = "interrupt" if has_policy else "none"
    else:
        signals = "msix" if signal == "posted" else signal
    return partial(
        Nic,
        board=load_board(host.nic_overrides),
        identifier_bits=host.nic_identifier_bits,
        signals=signals,
        send_queues=host.nic_send_queues,
        programs={**PROGRAMS, **programs},
        fills_caches=host.nic_fills_caches,
        jumps=host.jumps_spins,
    )


def interrupt_core_of(host: HostSpec) -> int | None:
    """The core that takes the card's interrupts; None: one after the other."""
    return None if host.nic_interrupt_core == ROUND_ROBIN else int(host.nic_interrupt_core)


def check_nic(host: HostSpec, guests: Sequence[GuestSpec], core_count: int) -> None:
    """Raise ConfigError unless what is said of the card and its interfaces goes together."""
    if host.paging == "native" and (host.has_nic or any(guest.has_vif for guest in guests)):
        option = "--nic" if host.has_nic else "--vif"
        raise ConfigError(f"{option}: --paging native has no VMM to give out virtual interfaces; choose shadow or ept")
    if not host.has_nic:
        _check_absent(host, guests)
        return
    for guest in guests:
        if guest.mac is not None and not guest.has_vif:
            raise ConfigError("--mac needs --vif")
    _check_backend(guests)
    vif_count = sum(guest.has_vif for guest in guests)
    if vif_count > VIF_MAX:
        raise ConfigError(f"{vif_count} guests with a VIF are too many for the card; it has {VIF_MAX}")
    if host.nic_signal == "sidecore" and not host.sidecore_count:
        raise ConfigError("--nic-signal sidecore needs --sidecore")
    load_board(host.nic_overrides)
    core = host.nic_interrupt_core
    if core != ROUND_ROBIN and not (core.isdecimal() and core.isascii() and int(core) < core_count):
        raise ConfigError(f"--nic-interrupt-core {core}: give a core from 0 to {core_count - 1}, or {ROUND_ROBIN}")


def _check_backend(guests: Sequence[GuestSpec]) -> None:
    backends = [guest for guest in guests if guest.is_backend]
    first = next((guest for guest in guests if guest.has_vif), None)
    if backends and (len(backends) > 1 or backends[0] is not first):
        raise ConfigError("a driver domain is the first of the host's guests that has a VIF, and the only one")


def _check_absent(host: HostSpec, guests: Sequence[GuestSpec]) -> None:
    """Nothing is said of a card that is not there."""
    for row in rows_of(HostSpec):
        if row.name.startswith("nic_") and getattr(host, row.name) != row.default:
            raise ConfigError(f"{row.parameter.option} needs --nic")
    for guest in guests:
        for option, is_given in (("--vif", guest.has_vif), ("--mac", guest.mac), ("--manager", guest.is_manager)):
            if is_given:
                raise ConfigError(f"{option} needs --nic")
