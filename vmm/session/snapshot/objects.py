"""The objects of a guest as plain data, and back: what a snapshot knows of Python.

    build ----> Skeleton: every object of a guest that has not run, numbered in the order in which they are found
    run   ----> capture:  [record, ...]: first the skeleton's objects, then those that came while it ran
    build, Skeleton, apply ---> the same guest: the skeleton's objects are filled in place, the others made

A guest is built the same way each time, so numbers mean the same objects; what is wired once (wires, callbacks of
devices, views of memory) is left as it was built. Values in a record are numbers, texts, None, and lists with a tag:

    ["r", number]  an object            ["t", value...]  a tuple             ["b", base64]  bytes
    ["e", class, name]  of an enum      ["n", class, value...]  a named tuple
    ["m", number, name]  a method of an object           ["p", function, value...]  a partial of one

Nothing is executed to read them: only classes of `CLASSES` are made, without calling them.
"""

import base64
import functools
import hashlib
import types
from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Any

from devices.interrupts.interrupt_bus import InterruptMessage
from devices.interrupts.lapic_timer import TimerMode
from devices.interrupts.lapic_vectors import VectorState
from devices.pci.function import PlacedRegion
from emulator.engine import Engine
from emulator.errors import ConfigError
from emulator.events import Event
from emulator.memory import HostMemory
from emulator.timing.core_timing import MachineTiming
from emulator.timing.hierarchy import MemoryHierarchy
from emulator.vmx.entry_checks import EntryChecker
from emulator.vmx.vmcs import Vmcs
from vmm.exits.observer import Observers
from vmm.outcome import End, EndKind
from vmm.paging.guest_walk import PagingMode
from vmm.paging.shadow_pages import ShadowTable
from vmm.scheduler.credit import Priority
from vmm.session.observe.save_point import SavePoint
from vmm.session.observe.statistics import Distribution
from vmm.session.observe.trace import TraceWriter
from vmm.vcpu import Exit

# Made while a guest runs: a new kind of object that a guest's state can have needs its row here.
CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        Distribution,
        End,
        EndKind,
        Event,
        Exit,
        InterruptMessage,
        PagingMode,
        PlacedRegion,
        Priority,
        ShadowTable,
        TimerMode,
        VectorState,
    )
}
# Not looked into: they keep themselves (Engine, HostMemory, MachineTiming), or what they know follows from the others.
OPAQUE = (EntryChecker, HostMemory, MachineTiming, Vmcs)
OUTSIDE = (
    MemoryHierarchy,
    Observers,
    SavePoint,
    TraceWriter,
)  # belongs to a run, not to a guest's state; or is its timing's
OF_ENGINE = ("on_exit", "on_watched_access", "on_watched_store", "platform")  # beside what `Engine.save` has
CONTAINERS: dict[type, str] = {
    list: "list", dict: "dict", set: "set", deque: "deque", bytearray: "bytearray"
}  # fmt: skip
PLAIN = (int, str, bool, float, type(None))
PACKAGES = ("emulator.", "devices.", "vmm.")

Record = list[Any]  # class or kind of container, state


class Unsavable(Exception):  # noqa: N818 - tells `capture` to leave a value as it was built
    """A value that has no form in a record: a lambda, a view of memory, a file."""


def attributes(thing: object) -> Iterator[tuple[str, Any]]:
    """Every attribute of an object itself, set ones only."""
    if isinstance(thing, Engine):
        yield from ((name, getattr(thing, name)) for name in OF_ENGINE)
        return
    yield from getattr(thing, "__dict__", {}).items()
    for cls in type(thing).__mro__:
        for name in vars(cls).get("__slots__", ()):
            if hasattr(thing, name):
                yield name, getattr(thing, name)


def is_object(thing: object) -> bool:
    """Whether it has an identity that counts: one of ours, or a container."""
    cls = type(thing)
    return cls in CONTAINERS or (cls.__module__.startswith(PACKAGES) and not isinstance(thing, type | Enum | tuple))


def is_constant(thing: object) -> bool:
    """Whether nothing of it changes, or it keeps itself."""
    parameters = getattr(type(thing), "__dataclass_params__", None)
    return isinstance(thing, OPAQUE) or (parameters is not None and parameters.frozen)


def parts(thing: object) -> Iterator[Any]:
    """What an object holds. Not what is in a set: its order is not that of the run before."""
    if is_constant(thing) or isinstance(thing, set | bytearray):
        return
    if isinstance(thing, dict):
        for key, value in thing.items():
            yield from (key, value)
    elif isinstance(thing, list | deque | tuple):
        yield from thing
    else:
        for _, value in attributes(thing):
            yield value


class Skeleton:
    """The objects of `root`, which has been built and has not run yet."""

    def __init__(self, root: object) -> None:
        self.objects: list[Any] = []
        self.numbers: dict[int, int] = {}  # by id; `objects` keeps them alive
        waiting: deque[Any] = deque([root])
        while waiting:
            thing = waiting.popleft()
            if isinstance(thing, OUTSIDE) or id(thing) in self.numbers:
                continue
            if is_object(thing):
                self.numbers[id(thing)] = len(self.objects)
                self.objects.append(thing)
            elif not isinstance(thing, tuple):
                continue
            waiting.extend(part for part in parts(thing) if type(part) not in PLAIN)

    def digest(self) -> str:
        """What two guests that are built alike have in common."""
        names = ",".join(type(thing).__qualname__ for thing in self.objects)
        return hashlib.sha256(names.encode()).hexdigest()


class Capture:
    """`records` of all objects that the skeleton's objects lead to now. Raises ConfigError for what has no form."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.records: list[Record] = []
        self._objects = list(skeleton.objects)
        self._numbers = dict(skeleton.numbers)
        self._built = len(self._objects)
        while len(self.records) < len(self._objects):
            number = len(self.records)
            thing = self._objects[number]
            self.records.append(self._record(thing, is_built=number < self._built))

    def _record(self, thing: Any, *, is_built: bool) -> Record:
        kind = CONTAINERS.get(type(thing))
        if is_built and is_constant(thing):
            return ["", None]
        if kind is not None:
            try:
                return [kind, self._items(thing)]
            except Unsavable as error:
                if is_built:
                    return ["", None]
                raise ConfigError(f"this state cannot be saved: {error}") from None
        state: dict[str, Any] = {}
        name = type(thing).__name__
        if not is_built and name not in CLASSES:
            raise ConfigError(f"this state cannot be saved: {name} is not known to snapshots")
        for attribute, value in attributes(thing):
            try:
                state[attribute] = self._value(value)
            except Unsavable as error:
                if not is_built:
                    raise ConfigError(f"this state cannot be saved: {name}.{attribute} is {error}") from None
        return [name, state]

    def _items(self, thing: Any) -> Any:
        if isinstance(thing, bytearray):
            return base64.b64encode(thing).decode()
        if isinstance(thing, dict):
            return [[self._value(key), self._value(value)] for key, value in thing.items()]
        values = [self._value(value) for value in thing]
        return sorted(values, key=str) if isinstance(thing, set) else values

    def _value(self, value: Any) -> Any:
        cls = type(value)
        if cls in PLAIN:
            return value
        number = self._numbers.get(id(value))
        if number is not None:
            return ["r", number]
        if isinstance(value, OUTSIDE):
            raise Unsavable(f"a {cls.__name__}")
        if is_object(value):
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
            return ["r", number]
        if isinstance(value, bytes):
            return ["b", base64.b64encode(value).decode()]
        if isinstance(value, Enum) and cls.__name__ in CLASSES:
            return ["e", cls.__name__, value.name]
        if isinstance(value, tuple) and (cls is tuple or cls.__name__ in CLASSES):
            return [*(("t",) if cls is tuple else ("n", cls.__name__)), *map(self._value, value)]
        if isinstance(value, types.MethodType) and id(value.__self__) in self._numbers:
            return ["m", self._numbers[id(value.__self__)], value.__name__]
        if isinstance(value, functools.partial) and not value.keywords:
            return ["p", self._value(value.func), *map(self._value, value.args)]
        raise Unsavable(f"a {cls.__name__}")


class Applied:
    """Gives the skeleton's objects the state of `records`, and makes the others.

    Raises KeyError, TypeError, ValueError, IndexError or AttributeError when the records are not of such a guest.
    """

    def __init__(self, skeleton: Skeleton, records: list[Record]) -> None:
        built = skeleton.objects
        self._objects: list[Any] = [*built, *(self._make(kind) for kind, _ in records[len(built) :])]
        pairs = list(zip(self._objects, records, strict=True))
        for are_containers in (False, True):  # objects first: containers may hash them
            for thing, (kind, state) in pairs:
                if kind and (type(thing) in CONTAINERS) == are_containers:
                    self._fill(thing, kind, state)

    @staticmethod
    def _make(kind: str) -> Any:
        for container, name in CONTAINERS.items():
            if name == kind:
                return container()
        return object.__new__(CLASSES[kind])

    def _fill(self, thing: Any, kind: str, state: Any) -> None:
        if kind != CONTAINERS.get(type(thing), type(thing).__name__):
            raise TypeError(f"{kind} for {type(thing).__name__}")
        if isinstance(thing, bytearray):
            thing[:] = base64.b64decode(state, validate=True)
        elif isinstance(thing, dict):
            thing.clear()
            for key, item in state:
                thing[self._value(key)] = self._value(item)
        elif isinstance(thing, list | deque | set):
            values = [self._value(item) if item.__class__ is list else item for item in state]
            thing.clear()
            thing.update(values) if isinstance(thing, set) else thing.extend(values)
        else:
            for attribute, value in state.items():
                object.__setattr__(thing, attribute, self._value(value))

    def _value(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        match value:
            case ["r", int(number)] if number >= 0:
                return self._objects[number]
            case ["t", *items]:
                return tuple(map(self._value, items))
            case ["b", text]:
                return base64.b64decode(text, validate=True)
            case ["e", name, member]:
                return CLASSES[name][member]  # type: ignore[index]  # an enum, or a TypeError
            case ["n", name, *items]:
                return tuple.__new__(CLASSES[name], map(self._value, items))
            case ["m", int(number), name] if number >= 0:
                owner = self._objects[number]
                if not isinstance(getattr(type(owner), name), types.FunctionType):
                    raise TypeError(f"{name} is no method")
                return getattr(owner, name)
            case ["p", function, *items]:
                return functools.partial(self._value(function), *map(self._value, items))
        raise ValueError(f"{value[:1]} is no value")
