"""The objects of a guest as plain data, and back: what a snapshot knows of Python.

    build ----> Skeleton: every object of a guest that has not run, numbered in the order in which they are found
    run   ----> capture:  [record, ...]: first the skeleton's objects, then those that came while it ran
    build, Skeleton, apply ---> the same guest: the skeleton's objects are filled in place, the others made

A guest is built the same way each time, so numbers mean the same objects. Values in a record are numbers, texts, None,
and lists with a tag:

    ["r", number]  an object, or a function of the program                           ["t", value...]  a tuple
    ["e", class, name]  of an enum      ["n", class, value...]  a named tuple         ["z", value...]  a frozen set
    ["m", number, name]  a method of an object   ["p", function, value...]  a partial    ["b", base64]  bytes

What has no form is an error that names its place: nothing is forgotten. Nothing is executed to read a record: only
objects of known classes are made, without calling them.
"""

import base64
import hashlib
import types
from collections import deque
from enum import Enum
from functools import partial
from typing import Any

from emulator.errors import ConfigError
from vmm.session.snapshot.state import (
    CLASSES,
    CONTAINERS,
    OPAQUE,
    OUTSIDE,
    PLAIN,
    attributes,
    is_frozen,
    is_object,
    is_program,
    kind_of,
    parts,
    wired,
)

Record = list[Any]  # class or kind of container, state
UNCHANGED: Record = ["", None]


class Skeleton:
    """The objects of `root`, which has been built and has not run yet."""

    def __init__(self, root: object, name: str = "guest") -> None:
        self.objects: list[Any] = []
        self.numbers: dict[int, int] = {}  # by id; `objects` keeps them alive
        self.places: list[tuple[int, str]] = []  # of each object: the one where it was found, and how one gets there
        self.wires: list[dict[str, Any]] = []  # of each object
        self.name = name
        waiting: deque[tuple[Any, int, str]] = deque([(root, -1, name)])
        while waiting:
            thing, parent, place = waiting.popleft()
            if isinstance(thing, OUTSIDE) or id(thing) in self.numbers:
                continue
            if is_object(thing) or is_program(thing):
                parent, place = self._add(thing, parent, place), ""
            for step, part in parts(thing):
                if type(part) not in PLAIN:
                    waiting.append((part, parent, place + step))

    def _add(self, thing: Any, parent: int, place: str) -> int:
        number = self.numbers[id(thing)] = len(self.objects)
        self.objects.append(thing)
        self.places.append((parent, place))
        names = wired(thing)
        self.wires.append({name: value for name, value in attributes(thing) if name in names} if names else {})
        return number

    @property
    def classes(self) -> dict[str, type]:
        """Of objects that may come while the guest runs: those of CLASSES, and of all there is when it is built."""
        found = (thing if isinstance(thing, type) else type(thing) for thing in self.objects)
        return {cls.__name__: cls for cls in found if cls.__module__ != "builtins"} | CLASSES

    def digest(self) -> str:
        """What two guests that are built alike have in common."""
        names = (thing.__qualname__ if is_program(thing) else kind_of(thing) for thing in self.objects)
        return hashlib.sha256(",".join(names).encode()).hexdigest()


class Capture:
    """`records` of all objects that the skeleton's objects lead to now.

    Raises ConfigError, which names the place, for a value that has no form, and for a wire that was changed.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        self.records: list[Record] = []
        self._objects = list(skeleton.objects)
        self._numbers = dict(skeleton.numbers)
        self._classes = skeleton.classes
        self._places = list(skeleton.places)
        self._at = (0, "")  # the object whose record is made, and what of it
        for number, wires in enumerate(skeleton.wires):
            for name, value in wires.items():
                if getattr(self._objects[number], name) is not value:
                    self._at = (number, f".{name}")
                    raise self._error("is wired, and was changed while the guest ran")
        while len(self.records) < len(self._objects):
            number = len(self.records)
            self.records.append(self._record(number, is_built=number < len(skeleton.objects)))

    def _record(self, number: int, *, is_built: bool) -> Record:
        thing = self._objects[number]
        self._at = (number, "")
        if is_program(thing) or isinstance(thing, OPAQUE) or (is_built and is_frozen(thing)):
            return UNCHANGED
        kind = CONTAINERS.get(type(thing))
        if kind is not None:
            return [kind, self._items(thing)]
        name = kind_of(thing)
        if not is_built and self._classes.get(name) is not type(thing):
            raise self._error(f"is a {name}, made while the guest ran and not known to snapshots")
        names = wired(thing)
        state: dict[str, Any] = {}
        for attribute, value in attributes(thing):
            if attribute not in names and not isinstance(value, OUTSIDE):
                self._at = (number, f".{attribute}")
                state[attribute] = self._value(value)
        return [name, state]

    def _items(self, thing: Any) -> Any:
        if isinstance(thing, bytearray):
            return base64.b64encode(thing).decode()
        number, items = self._at[0], []
        for step, part in [("", item) for item in thing] if isinstance(thing, set) else parts(thing):
            self._at = (number, step)
            items.append(self._value(part))
        if isinstance(thing, dict):
            return [list(pair) for pair in zip(items[::2], items[1::2], strict=True)]
        return sorted(items, key=str) if isinstance(thing, set) else items

    def _value(self, value: Any) -> Any:
        cls = type(value)
        if cls is bytes:
            return ["b", base64.b64encode(value).decode()]
        if cls in PLAIN:
            return value
        number = self._numbers.get(id(value))
        if number is not None:
            return ["r", number]
        if is_object(value) and not isinstance(value, OUTSIDE):
            return ["r", self._add(value)]
        if isinstance(value, Enum) and self._classes.get(cls.__name__) is cls:
            return ["e", cls.__name__, value.name]
        if cls is tuple or (isinstance(value, tuple) and self._classes.get(cls.__name__) is cls):
            return [*(("t",) if cls is tuple else ("n", cls.__name__)), *map(self._value, value)]
        if cls is frozenset:
            return ["z", *sorted(map(self._value, value), key=str)]
        if cls is types.MethodType and is_object(value.__self__) and not isinstance(value.__self__, OUTSIDE):
            owner = self._value(value.__self__)
            return ["m", owner[1], value.__name__]
        if cls is partial and not value.keywords:
            return ["p", self._value(value.func), *map(self._value, value.args)]
        raise self._error(f"is a {cls.__name__}, which has no form")

    def _add(self, thing: Any) -> int:
        number = self._numbers[id(thing)] = len(self._objects)
        self._objects.append(thing)
        self._places.append(self._at)
        return number

    def _error(self, what: str) -> ConfigError:
        number, place = self._at
        while number >= 0:
            number, step = self._places[number]
            place = step + place
        return ConfigError(f"this state cannot be saved: {place} {what}")


class Applied:
    """Gives the skeleton's objects the state of `records`, and makes the others.

    Raises KeyError, TypeError, ValueError, IndexError or AttributeError when the records are not of such a guest.
    """

    def __init__(self, skeleton: Skeleton, records: list[Record]) -> None:
        built = skeleton.objects
        self._classes = skeleton.classes
        self._objects: list[Any] = [*built, *(self._make(kind) for kind, _ in records[len(built) :])]
        pairs = list(zip(self._objects, records, strict=True))
        for are_containers in (False, True):  # objects first: containers may hash them
            for thing, (kind, state) in pairs:
                if kind and (type(thing) in CONTAINERS) == are_containers:
                    self._fill(thing, kind, state)

    def _make(self, kind: str) -> Any:
        for container, name in CONTAINERS.items():
            if name == kind:
                return container()
        return object.__new__(self._classes[kind])

    def _fill(self, thing: Any, kind: str, state: Any) -> None:
        if kind != CONTAINERS.get(type(thing), kind_of(thing)):
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
            case ["z", *items]:
                return frozenset(map(self._value, items))
            case ["b", text]:
                return base64.b64decode(text, validate=True)
            case ["e", name, member]:
                return self._classes[name][member]  # type: ignore[index]  # an enum, or a TypeError
            case ["n", name, *items]:
                return tuple.__new__(self._classes[name], map(self._value, items))
            case ["m", int(number), name] if number >= 0:
                owner = self._objects[number]
                if not isinstance(getattr(type(owner), name), types.FunctionType):
                    raise TypeError(f"{name} is no method")
                return getattr(owner, name)
            case ["p", function, *items]:
                return partial(self._value(function), *map(self._value, items))
        raise ValueError(f"{value[:1]} is no value")
