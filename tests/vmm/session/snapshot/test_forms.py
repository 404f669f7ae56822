"""What a snapshot knows of Python: all that a guest's state may hold has a form, and nothing else is passed over."""

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import pytest

from emulator.errors import ConfigError
from tests.vmm.session.snapshot.saved_runs import plan_of
from vmm.session.snapshot import SaveableGuest
from vmm.session.snapshot.objects import Applied, Capture, Skeleton


class Pin:
    def __init__(self) -> None:
        self.level = False

    def drive(self, level: bool) -> None:
        self.level = level


class Device:
    """A device as users write them: its class is in no table."""

    WIRED = ("on_output",)

    def __init__(self, on_output: Callable[[int], None]) -> None:
        self.on_output = on_output
        self.state: Any = None


def built() -> Device:
    sent: list[int] = []
    return Device(sent.append)


def restored(state: Any) -> Any:
    """What a device built alike has when it was given the records of one with `state`."""
    first, second = built(), built()
    skeleton = Skeleton(first, "device")
    first.state = state
    Applied(Skeleton(second, "device"), Capture(skeleton).records)
    return second.state


@pytest.mark.parametrize(
    "state",
    [7, -(2**70), "text", b"bytes", None, True, 0.5, (1, (2, b"x")), [1, [2]], {"a": {1, 2}, 3: deque([4])},
     frozenset({1, 2}), bytearray(b"12")],
    ids=repr,
)  # fmt: skip
def test_plain_values_and_containers_come_back(state: Any) -> None:
    assert restored(state) == state


def test_one_object_that_two_places_hold_is_one_object_again() -> None:
    shared = [1]
    state = restored([shared, {"x": shared}])
    assert state[0] is state[1]["x"]


def test_methods_and_partials_are_those_of_the_restored_object() -> None:
    class Owner:
        def __init__(self) -> None:
            self.pin = Pin()
            self.calls: list[Callable[..., None]] = []

    first, second = Owner(), Owner()
    skeleton = Skeleton(first, "owner")
    first.calls[:] = [first.pin.drive, partial(first.pin.drive, True)]
    Applied(Skeleton(second, "owner"), Capture(skeleton).records)
    second.calls[1]()
    assert second.pin.level is True
    second.calls[0](False)
    assert second.pin.level is False


def _numbers() -> Generator[int, None, None]:
    yield from range(10)


@pytest.mark.parametrize(
    ("state", "name"),
    [
        (_numbers(), "generator"), ([1, {"k": _numbers()}], "generator"), (lambda: None, "function"),
        (random.Random(1), "Random"), (OrderedDict(a=1), "OrderedDict"), (memoryview(b"x"), "memoryview"),
        (partial(print, end=""), "partial"), (iter([1]), "list_iterator"),
    ],
    ids=["generator", "generator in a container", "lambda", "random", "subclass in C", "view", "partial", "iterator"],
)  # fmt: skip
def test_a_value_without_a_form_is_an_error_with_its_place(state: Any, name: str) -> None:
    device = built()
    skeleton = Skeleton(device, "world.hosts[0].device")
    device.state = state
    with pytest.raises(ConfigError, match=rf"world\.hosts\[0\]\.device\.state.* is a {name}, which has no form"):
        Capture(skeleton)


def test_so_is_one_that_was_there_from_the_start() -> None:
    """A generator on a device once vanished without an error."""
    device = built()
    device.state = {"program": [_numbers()]}
    with pytest.raises(ConfigError, match=r"device\.state\['program'\]\[0\] is a generator"):
        Capture(Skeleton(device, "device"))


def test_an_object_of_an_unknown_class_that_comes_while_the_guest_runs_is_an_error() -> None:
    device = built()
    skeleton = Skeleton(device, "device")
    device.state = Pin()
    with pytest.raises(ConfigError, match=r"device\.state is a Pin, made while the guest ran"):
        Capture(skeleton)


def test_a_wire_that_was_changed_is_an_error() -> None:
    device = built()
    skeleton = Skeleton(device, "device")
    device.on_output = print
    with pytest.raises(ConfigError, match=r"device\.on_output is wired, and was changed"):
        Capture(skeleton)


def test_a_device_of_a_guest_that_keeps_a_generator_is_named() -> None:
    saveable = SaveableGuest.build(plan_of("pci", "shadow", devices=("edu",)), bytearray().append)
    saveable.guest.board.pci_devices[0].program = _numbers()  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"this state cannot be saved: guest\..*\.program is a generator"):
        saveable.snapshot()
