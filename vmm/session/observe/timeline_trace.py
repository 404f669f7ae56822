"""A trace as Chrome's trace events, which https://ui.perfetto.dev opens: what was when, on a track each.

    cores     pcpu0   |-- CPUID --------------------------|   |-- sidecall pte_set --|    exits, requests served
                      |VM exit|save..|VMREAD|..|VM entry|                               what was charged in them
    guests    d0v0    |-- CPUID --------------------------|    |-- HLT, with the sleep in it --|
    requests  d0      |request                                 |answer                  arrows to and from a sidecall
    NIC       vif0    |arrived |delivered |signalled  |injected                         arrows from packet to signal
    devices   d0 Mc146818      |tick             |tick                                  each event of a device

Source: "Trace Event Format" (Google, 2016): complete events "X", flows "s", "t", "f", metadata "M". Times are
microseconds with six decimals, which are whole picoseconds, so slices nest exactly. A core's slice of an exit ends
where the core turns to something else, and another begins where it goes on; its charges fill it in their order.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from devices.nic.nic import Nic
from emulator.events import PS_PER_NS
from emulator.ledger import LABELS, Account
from emulator.pcpu import PCpu
from emulator.vmx.exit_reasons import name
from vmm.cost.meter import Charge, Meter
from vmm.hypervisor import Hypervisor
from vmm.session.observe.device_events import event_of, queues_of
from vmm.session.observe.trace import VERSION, TraceWriter
from vmm.session.observe.trace_record import Record
from vmm.sidecore.slots import Served
from vmm.vcpu import Exit, VCpu

CORES, GUESTS, REQUESTS, NIC, DEVICES = 1, 2, 3, 4, 5  # "processes" of the format: groups of tracks
GROUPS = {CORES: "cores", GUESTS: "guests", REQUESTS: "requests", NIC: "NIC", DEVICES: "devices"}
PS_PER_US = 1000 * PS_PER_NS
VCPUS_MAX = 64  # of a domain
FROM_PACKET, TO_SIGNAL = "delivered", "injected"  # hops of a packet that arrows join
OWN_WORK = "the core's own work"


class Slice(NamedTuple):
    """Something on a track, with what is nested in it in its order: (what, picoseconds, arguments)."""

    group: int
    track: int
    track_name: str
    what: str
    began_ps: int
    ended_ps: int
    arguments: Mapping[str, Any]
    parts: tuple[tuple[str, int, Mapping[str, Any]], ...] = ()
    flows: tuple[tuple[str, int, int], ...] = ()  # ends of arrows on the track: phase, number, when


class _Stay:
    """A part of an exit on one core."""

    def __init__(self, pcpu: PCpu) -> None:
        self.pcpu = pcpu
        self.account: Account = pcpu.clock.account
        self.began_cycles = pcpu.clock.cycles
        self.charges: list[tuple[str, int, int]] = []  # what, cycles, category
        self.cycles = 0

    def add(self, what: str, cycles: int, category: int) -> None:
        if cycles > 0:
            self.charges.append((what, cycles, category))
            self.cycles += cycles


class TimelineTrace(TraceWriter):
    """Writes events as they end."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._stays: dict[VCpu, list[_Stay]] = {}  # of the exits in progress
        self._on_core: dict[int, _Stay] = {}
        self._named: set[tuple[int, int]] = set()  # tracks that have their name
        self._devices: dict[str, int] = {}  # their tracks
        self._flow_count = 0
        self._packets: dict[int, int] = {}  # when the last packet of a VIF came that was not signalled yet
        self._hypervisor: Hypervisor | None = None
        self._nic: Nic | None = None
        super().__init__(*arguments, **named)

    def follow(self, hypervisor: Hypervisor, nic: Nic | None) -> None:
        """Hear of sidecalls and packets, too."""
        self._hypervisor, self._nic = hypervisor, nic
        for sidecore in hypervisor.sidecores.cores if hypervisor.sidecores is not None else ():
            sidecore.requests.on_served = partial(self.served, sidecore.pcpu)
        if nic is not None:
            nic.observers.append(self)
        for owner, queue in queues_of(hypervisor):
            queue.on_event = partial(self.happened, owner)

    def leave(self) -> None:
        """Hear of them no more."""
        hypervisor, nic = self._hypervisor, self._nic
        if hypervisor is not None and hypervisor.sidecores is not None:
            for sidecore in hypervisor.sidecores.cores:
                sidecore.requests.on_served = None
        if nic is not None and self in nic.observers:
            nic.observers.remove(self)
        for _, queue in queues_of(hypervisor) if hypervisor is not None else ():
            queue.on_event = None

    # --- VM exits ----------------------------------------------------------------------------------------------------

    def exit_began(self, vcpu: VCpu, exit: Exit) -> None:
        """Nothing is charged yet."""
        self._stays[vcpu] = []
        self._come_to(vcpu)

    def exit_resumed(self, vcpu: VCpu, exit: Exit) -> None:
        """On the same core, or on another."""
        if vcpu in self._stays:
            self._come_to(vcpu)

    def _come_to(self, vcpu: VCpu) -> None:
        stay = self._on_core[vcpu.pcpu.number] = _Stay(vcpu.pcpu)
        self._stays[vcpu].append(stay)

    def charged(self, meter: Meter, charge: Charge) -> None:
        """It belongs to the exit whose account is open."""
        stay = self._on_core.get(meter.pcpu.number)
        if stay is not None and stay.account is meter.pcpu.clock.account:
            stay.add(charge.what, charge.cycles, charge.category)

    def committed(self, meter: Meter) -> None:
        """What the clock shows beyond the charges is the core's own work."""
        stay = self._on_core.get(meter.pcpu.number)
        if stay is not None and stay.account is meter.pcpu.clock.account:
            stay.add(OWN_WORK, meter.pcpu.clock.cycles - stay.began_cycles - stay.cycles, -1)

    def exit_ended(self, vcpu: VCpu, exit: Exit, cycles: int) -> None:
        """All of it is known."""
        stays = self._stays.pop(vcpu, [])
        for stay in stays:
            if self._on_core.get(stay.pcpu.number) is stay:
                del self._on_core[stay.pcpu.number]
        if not self.is_in(exit):
            return
        record, to_ps = Record.of(vcpu, exit, cycles), vcpu.pcpu.timeline.cycles_to_ps
        arguments = {
            "number": self.exit_count, "cycles": cycles, "rip": hex(exit.rip), "vcpu": vcpu.engine.owner,
            "qualification": hex(record.qualification),
        }  # fmt: skip
        what, track = name(exit.reason), vcpu.domain.number * VCPUS_MAX + vcpu.number
        began_ps, ended_ps = to_ps(exit.began_cycles), to_ps(exit.began_cycles + cycles)
        slices = [Slice(GUESTS, track, vcpu.engine.owner, what, began_ps, ended_ps, arguments)]
        self.keep(slices + [_core_slice(stay, what, arguments) for stay in stays if stay.cycles])

    # --- sidecalls and packets ---------------------------------------------------------------------------------------

    def served(self, pcpu: PCpu, request: Served) -> None:
        """A sidecore on `pcpu` has answered a request."""
        to_ps = pcpu.timeline.cycles_to_ps
        if not self._has_begun(pcpu, to_ps(request.began_cycles)):
            return
        posted_ps, began_ps, ended_ps = map(to_ps, (request.visible_cycles, request.began_cycles, request.ended_cycles))
        self._flow_count += 1
        flow, asker = self._flow_count, f"d{request.domain}"
        what, cycles = f"sidecall {request.operation}", {"cycles": request.ended_cycles - request.began_cycles}
        start, step, end = ((("s", flow, posted_ps),), (("t", flow, began_ps),), (("f", flow, ended_ps),))
        core = f"pcpu{pcpu.number}"
        self.keep([
            Slice(REQUESTS, request.domain, asker, "request", posted_ps, posted_ps, {}, flows=start),
            Slice(CORES, pcpu.number, core, what, began_ps, ended_ps, cycles, flows=step),
            Slice(REQUESTS, request.domain, asker, "answer", ended_ps, ended_ps, {}, flows=end),
        ])  # fmt: skip

    def stamp(self, vif_number: int, hop: str, now_ps: int) -> None:
        """A packet of a VIF gets to `hop` (devices/nic/observe.py)."""
        if self._hypervisor is None or not self._has_begun(self._hypervisor.machine.pcpus[0], now_ps):
            return
        flows: tuple[tuple[str, int, int], ...] = ()
        if hop == FROM_PACKET:
            self._packets[vif_number] = now_ps
        elif hop == TO_SIGNAL and vif_number in self._packets:
            self._flow_count += 1
            flows = (("s", self._flow_count, self._packets.pop(vif_number)), ("f", self._flow_count, now_ps))
        self.keep([Slice(NIC, vif_number, f"vif{vif_number}", hop, now_ps, now_ps, {}, flows=flows)])

    def happened(self, owner: str, callback: Callable[[], None], when_ps: int) -> None:
        """A device of `owner` does something by itself."""
        if self._hypervisor is None or not self._has_begun(self._hypervisor.machine.pcpus[0], when_ps):
            return
        device, what = event_of(callback)
        track_name = f"{owner} {device}"
        track = self._devices.setdefault(track_name, len(self._devices))
        self.keep([Slice(DEVICES, track, track_name, what, when_ps, when_ps, {})])

    def _has_begun(self, pcpu: PCpu, now_ps: int) -> bool:
        is_behind = now_ps >= pcpu.timeline.cycles_to_ps(self._start.cycle)
        return is_behind and self.exit_count >= self._start.exit - 1

    # --- how it is written -------------------------------------------------------------------------------------------

    def head(self, run: Mapping[str, str | int]) -> str:
        """The run, and the names of the groups."""
        facts = json.dumps({"trace": "sidecore", "version": VERSION, **run})
        names = [
            {"ph": "M", "name": "process_name", "pid": group, "tid": 0, "args": {"name": text}}
            for group, text in GROUPS.items()
        ]
        return f'{{"otherData": {facts},\n"traceEvents": [\n' + ",\n".join(map(json.dumps, names))

    def text_of(self, record: Any) -> str:
        """The events of all slices of a record."""
        return "".join(f",\n{json.dumps(event)}" for part in record for event in self._events(part))

    def _events(self, part: Slice) -> list[dict[str, Any]]:
        place = {"pid": part.group, "tid": part.track}
        events: list[dict[str, Any]] = []
        if (part.group, part.track) not in self._named:
            self._named.add((part.group, part.track))
            events.append({"ph": "M", "name": "thread_name", **place, "args": {"name": part.track_name}})
        events.append(_complete(part.what, place, part.began_ps, part.ended_ps - part.began_ps, part.arguments))
        now_ps = part.began_ps
        for what, length_ps, arguments in part.parts:
            events.append(_complete(what, place, now_ps, length_ps, arguments))
            now_ps += length_ps
        for phase, number, when_ps in part.flows:
            end = {"bp": "e"} if phase == "f" else {}
            flow = {"ph": phase, "id": number, "name": "flow", "cat": "flow"}
            events.append({**flow, **place, "ts": _us(when_ps), **end})
        return events

    def foot(self) -> str:
        """Is it all?"""
        counts = json.dumps({"records": self.record_count, "dropped": self.dropped_count})
        return f'\n],\n"displayTimeUnit": "ns",\n"sidecore": {counts}}}\n'


def _core_slice(stay: _Stay, what: str, arguments: Mapping[str, Any]) -> Slice:
    """A stay as a slice; its charges are whole picoseconds that sum to it."""
    to_ps, number = stay.pcpu.timeline.cycles_to_ps, stay.pcpu.number
    parts = []
    cycles = stay.began_cycles
    for charge, length_cycles, category in stay.charges:
        length_ps = to_ps(cycles + length_cycles) - to_ps(cycles)
        label = LABELS[category] if category >= 0 else OWN_WORK
        parts.append((charge, length_ps, {"cycles": length_cycles, "category": label}))
        cycles += length_cycles
    began_ps, ended_ps = to_ps(stay.began_cycles), to_ps(cycles)
    return Slice(CORES, number, f"pcpu{number}", what, began_ps, ended_ps, arguments, tuple(parts))


def _complete(what: str, place: Mapping[str, int], began_ps: int, length_ps: int, arguments: Any) -> dict[str, Any]:
    event = {"ph": "X", "name": what, **place, "ts": _us(began_ps), "dur": _us(length_ps)}
    return {**event, "args": arguments} if arguments else event


def _us(ps: int) -> float:
    """Microseconds: exact to a picosecond up to two hours."""
    return ps / PS_PER_US
