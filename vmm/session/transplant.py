"""The state of one board, put into another that is built alike: what its devices keep, and what they have planned.

    board that has run ---pairs of objects, found by the same ways from both--> board that has not
                       ---objects that came while it ran: made anew-----------^

What belongs to the host is left as it is: the memory behind the bus, the processors' pins, a VIF.
"""

import types
from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import partial
from typing import Any

from devices.nic.vif_function import VifFunction
from vmm.session.snapshot.state import CONTAINERS, PLAIN, attributes, is_frozen, is_object, is_program, wired

BOARD_MODULES = ("devices.", "emulator.bus", "emulator.events")
HOST_MODULES = ("devices.nic.",)  # but the function on the guest's own bus


def is_of_board(thing: object) -> bool:
    """Whether it is part of a board, and not of the host around it."""
    module = type(thing).__module__
    is_device = module.startswith(BOARD_MODULES) and not module.startswith(HOST_MODULES)
    return is_device or isinstance(thing, VifFunction) or type(thing) in CONTAINERS


class Transplant:
    """Gives each second object of `roots` the state of the first. TypeError: it has something that has no form."""

    def __init__(self, roots: Sequence[tuple[object, object]]) -> None:
        self._theirs: dict[int, Any] = {}  # by the id of what it is the counterpart of
        self._kept: list[object] = []  # so that ids stay theirs
        pairs: list[tuple[Any, Any]] = []
        waiting = deque(roots)
        while waiting:
            one, other = waiting.popleft()
            if id(one) in self._theirs or type(one) is not type(other) or is_program(one):
                continue
            if is_object(one):
                self._note(one, other)
                if not is_of_board(one):
                    continue
                pairs.append((one, other))
            waiting.extend(_common_parts(one, other))
        for one, other in pairs:
            if not is_frozen(one):
                self._fill(one, other)

    def _note(self, one: object, other: object) -> None:
        self._theirs[id(one)] = other
        self._kept.append(one)

    def _fill(self, one: Any, other: Any) -> None:
        match one:
            case bytearray():
                other[:] = one
            case list() | deque():
                items = [self._value(item) for item in one]
                other.clear()
                other.extend(items)
            case set():
                members = {self._value(item) for item in one}
                other.clear()
                other.update(members)
            case dict():
                pairs = {self._value(key): self._value(item) for key, item in one.items()}
                other.clear()
                other.update(pairs)
            case _:
                names = wired(one)
                for name, value in attributes(one):
                    if name not in names and (is_of_board(value) or not is_object(value) or is_program(value)):
                        object.__setattr__(other, name, self._value(value))

    def _value(self, value: Any) -> Any:
        if type(value) in PLAIN or isinstance(value, Enum) or is_program(value):
            return value
        if id(value) in self._theirs:
            return self._theirs[id(value)]
        match value:
            case types.MethodType():
                return types.MethodType(value.__func__, self._value(value.__self__))
            case partial():
                return partial(self._value(value.func), *map(self._value, value.args))
            case tuple():
                return tuple.__new__(type(value), map(self._value, value))
            case frozenset():
                return frozenset(map(self._value, value))
        if is_frozen(value):
            return value
        if not is_of_board(value):
            raise TypeError(f"{type(value).__name__} belongs to no board")
        made = object.__new__(type(value)) if type(value) not in CONTAINERS else type(value)()
        self._note(value, made)
        self._fill(value, made)
        return made


def _common_parts(one: Any, other: Any) -> Iterator[tuple[Any, Any]]:
    """What both have in the same place."""
    match one:
        case list() | deque() | tuple():
            yield from zip(one, other, strict=False)
        case dict():
            yield from ((item, other[key]) for key, item in one.items() if type(key) in PLAIN and key in other)
        case types.MethodType():
            yield one.__self__, other.__self__
        case partial():
            yield from zip((one.func, *one.args), (other.func, *other.args), strict=False)
        case set() | bytearray() | frozenset():
            return
        case _ if is_object(one):
            theirs = dict(attributes(other))
            yield from ((value, theirs[name]) for name, value in attributes(one) if name in theirs)
