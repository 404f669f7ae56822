"""What of Python's objects is a guest's state, and how it is looked into.

    written in Python, a container   an object with an identity: it has a record            is_object
    a function, a class              of the program: the same whenever a guest is built      is_program
    OPAQUE, ONLY                     keeps itself, but for the attributes named; or follows from the others
    OUTSIDE                          belongs to a run, or to its timing, or follows from what is saved: left alone
    WIRED of a class                 attributes that whoever builds the object sets, for good: left alone, and checked

All other values must have a form (objects.py).
"""

import types
from collections import deque
from collections.abc import Iterator
from enum import Enum
from functools import cache, partial
from typing import Any

from devices.interrupts.interrupt_bus import InterruptMessage
from devices.interrupts.lapic_timer import TimerMode
from devices.interrupts.lapic_vectors import VectorState
from devices.nic.host_requests import HANDLERS as NIC_REQUESTS
from devices.nic.mac import Received
from devices.nic.microengine import Live, Me
from devices.nic.vif import Descriptor, Packet, Vif, VifCounters
from devices.pci.function import PlacedRegion
from emulator.engine import Engine
from emulator.engine.page_tables import TableMemory
from emulator.events import Event
from emulator.memory import HostMemory
from emulator.timing.core_timing import MachineTiming
from emulator.timing.hierarchy import MemoryHierarchy
from emulator.timing.shared_lines import Line
from emulator.timing.topology import Place
from emulator.vmx.entry_checks import EntryChecker
from emulator.vmx.vmcs import Vmcs
from vmm.exits.observer import Observers
from vmm.guest_memory import Run
from vmm.line_access import LineAccess
from vmm.nic.access import VifAccess
from vmm.nic.dma import VifPort
from vmm.nic.event_channel import ChannelCounts, EventChannel
from vmm.nic.page import VifPage
from vmm.nic.polling import ReceiveQueue
from vmm.outcome import End, EndKind
from vmm.paging.guest_walk import PagingMode
from vmm.paging.shadow_pages import ShadowTable
from vmm.scheduler.credit import Priority
from vmm.session.observe.save_point import SavePoint
from vmm.session.observe.statistics import Distribution
from vmm.session.observe.trace import TraceWriter
from vmm.shared_pages import PageAccesses
from vmm.sidecore.abi import Answer
from vmm.sidecore.access import GuestAccess
from vmm.sidecore.flush import Flush
from vmm.sidecore.slots import Slot, SlotCounts, SlotPage
from vmm.spinning import Counters, Load, Spin, Spinning
from vmm.vcpu import Exit

# Made while a guest runs: a new kind of object that a guest's state can have needs its row here.
CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        Answer,
        ChannelCounts,
        Counters,
        Descriptor,
        Distribution,
        End,
        EndKind,
        Event,
        EventChannel,
        Exit,
        Flush,
        GuestAccess,
        InterruptMessage,
        Line,
        LineAccess,
        Load,
        Me,
        Packet,
        PageAccesses,
        PagingMode,
        Place,
        PlacedRegion,
        Priority,
        Received,
        Run,
        ReceiveQueue,
        ShadowTable,
        Slot,
        SlotCounts,
        SlotPage,
        Spin,
        Spinning,
        TimerMode,
        VectorState,
        VifAccess,
        VifPage,
        VifPort,
        Vif,
        VifCounters,
        *NIC_REQUESTS,
    )
}
OPAQUE = (EntryChecker, HostMemory, MachineTiming, TableMemory)
OUTSIDE = (Live, MemoryHierarchy, Observers, SavePoint, TraceWriter)
# Of these only some attributes: an engine has `save`, a VMCS lies in its engine and is checked anew.
ONLY: dict[type, tuple[str, ...]] = {
    Engine: ("on_exit", "on_notification", "on_watched_access", "on_watched_store", "platform"),
    Vmcs: ("is_launched",),
}
CONTAINERS: dict[type, str] = {
    list: "list", dict: "dict", set: "set", deque: "deque", bytearray: "bytearray"
}  # fmt: skip
PLAIN = (int, str, bool, float, bytes, type(None))
POINTER_BYTES = 8
HEAP_TYPE = 1 << 9  # of a class's flags: Py_TPFLAGS_HEAPTYPE


def wired(thing: object) -> frozenset[str]:
    """The attributes that the class of an object declares as wired, and those it inherits."""
    cls: Any = type(thing)  # for mypy, classes cannot be hashed
    return _wired_of(cls)


@cache
def _wired_of(cls: Any) -> frozenset[str]:
    return frozenset(name for base in cls.__mro__ for name in vars(base).get("WIRED", ()))


def kind_of(thing: object) -> str:
    """The name of an object's class; of one that is watched, the name of the class that nobody watches (SAVED_AS)."""
    return getattr(type(thing), "SAVED_AS", "") or type(thing).__name__


def attributes(thing: object) -> Iterator[tuple[str, Any]]:
    """Every attribute of an object itself, set ones only, those that are wired too."""
    if type(thing) in ONLY:
        yield from ((name, getattr(thing, name)) for name in ONLY[type(thing)])
        return
    yield from getattr(thing, "__dict__", {}).items()
    for cls in type(thing).__mro__:
        for name in _slots(cls):
            if hasattr(thing, name):
                yield name, getattr(thing, name)


def is_object(thing: object) -> bool:
    """Whether it has an identity that counts: a container, or an object of which nothing is hidden."""
    cls: Any = type(thing)
    return cls in CONTAINERS or cls in ONLY or isinstance(thing, OPAQUE) or _hides_nothing(cls)


@cache
def _hides_nothing(cls: Any) -> bool:
    """Whether instances have all they know in attributes: written in Python, and so are the classes it is made of."""
    if cls.__flags__ & HEAP_TYPE == 0 or issubclass(cls, type | Enum | tuple) or cls.__itemsize__:
        return False
    slots = [name for base in cls.__mro__ for name in _slots(base) if name not in ("__dict__", "__weakref__")]
    offsets = [offset for offset in (cls.__dictoffset__, cls.__weakrefoffset__) if offset > 0]
    hidden_bytes = cls.__basicsize__ - object.__basicsize__ - POINTER_BYTES * (len(slots) + len(offsets))
    return bool(hidden_bytes == 0)


def _slots(cls: type) -> tuple[str, ...]:
    names = vars(cls).get("__slots__", ())
    return (names,) if isinstance(names, str) else tuple(names)


def is_program(thing: object) -> bool:
    """Whether it is a class, or a function that keeps nothing: the same in every process."""
    return isinstance(thing, type) or (isinstance(thing, types.FunctionType) and thing.__closure__ is None)


def is_frozen(thing: object) -> bool:
    """Whether it is a dataclass whose own attributes never change."""
    parameters = getattr(type(thing), "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)


def parts(thing: object) -> Iterator[tuple[str, Any]]:
    """What an object or a value holds, each with how one gets there. Not what is in a set: its order is not fixed."""
    match thing:
        case dict():
            for number, (key, value) in enumerate(thing.items()):
                yield f".keys[{number}]", key
                yield f"[{key!r:.40}]", value
        case list() | deque() | tuple():
            yield from ((f"[{number}]", value) for number, value in enumerate(thing))
        case types.MethodType():
            yield ".__self__", thing.__self__
        case partial():
            yield from ((f".args[{number}]", value) for number, value in enumerate((thing.func, *thing.args)))
        case _ if is_object(thing) and not isinstance(thing, OPAQUE):
            yield from ((f".{name}", value) for name, value in attributes(thing) if name not in wired(thing))
