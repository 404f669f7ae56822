"""Taking a snapshot, and guests that begin with one.

A clone is built like any guest, of an image that is empty, then filled: memory is the snapshot's file of pages, mapped
copy-on-write; CPUs and the model of caches from their bytes; objects by `objects.Applied`.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from emulator.engine import Engine
from emulator.errors import ConfigError
from emulator.memory import HostMemory
from emulator.profiles.profile import Profile, load_profile
from emulator.timing.allowances import Allowance
from emulator.x86 import PAGE_BYTES
from vmm.boot.loaders import BootImage, EntryMode
from vmm.exits.observer import ExitObserver
from vmm.session.boot_plan import BootPlan
from vmm.session.build import build_guest
from vmm.session.guest import Guest
from vmm.session.parameters import saved_values
from vmm.session.snapshot.objects import Applied, Capture, Skeleton
from vmm.session.spec import GuestSpec, HostSpec, Limits, Outside
from vmm.sidecore.policy import named_policy

EMPTY_IMAGE = BootImage((), 0, {}, 0, 0, 0, "a snapshot")
ZEROS = bytes(PAGE_BYTES)
DAMAGED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)  # of records that do not fit


class MemoryFile:
    """Pages of a machine's memory in a nameless file, sparse: what was never written to it is zero."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.descriptor = os.memfd_create("sidecore snapshot")
        os.ftruncate(self.descriptor, size_bytes)
        self.runs: list[tuple[int, int]] = []  # (first page, pages), ascending

    def __del__(self) -> None:
        os.close(self.descriptor)

    def add(self, first_page: int, data: bytes | memoryview) -> None:
        """Store whole pages behind all others."""
        os.pwrite(self.descriptor, data, first_page * PAGE_BYTES)
        if self.runs and sum(self.runs[-1]) == first_page:
            first, count = self.runs.pop()
            self.runs.append((first, count + len(data) // PAGE_BYTES))
        else:
            self.runs.append((first_page, len(data) // PAGE_BYTES))

    def add_all(self, memory: HostMemory) -> None:
        """Store every page that is not zero."""
        for page in range(memory.size_bytes // PAGE_BYTES):
            data = memory.map[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]
            if data != ZEROS:
                self.add(page, data)

    def read(self, first_page: int, count: int) -> bytes:
        """The contents of pages."""
        return os.pread(self.descriptor, count * PAGE_BYTES, first_page * PAGE_BYTES)


@dataclass(frozen=True)
class Snapshot:
    """The state of a guest and its machine between two instructions. `document` is all but memory, as JSON has it."""

    document: dict[str, Any]
    memory: MemoryFile

    def clone(
        self,
        transmit: Callable[[int], None],
        *,
        observers: Sequence[ExitObserver] = (),
        limits: Limits | None = None,
        outside: Outside | None = None,
    ) -> "SaveableGuest":
        """A guest that goes on from here. `limits`, `outside`: how it is run. Raises ConfigError."""
        try:
            plan = self.plan(limits or Limits(), outside or Outside())
        except DAMAGED as error:
            raise _damaged(error) from None
        guest = build_guest(plan, transmit, observers=observers, memory_file=self.memory.descriptor)
        saveable = SaveableGuest(plan, guest, Skeleton(guest))
        if saveable.skeleton.digest() != self.document.get("skeleton"):
            raise ConfigError("the snapshot was made by another version of sidecore; make it anew")
        if guest.machine.memory.size_bytes != self.memory.size_bytes:
            raise ConfigError("the snapshot is damaged: its memory has another size than its machine")
        try:
            self._fill(guest, saveable.skeleton)
        except DAMAGED as error:
            raise _damaged(error) from None
        return saveable

    @property
    def console_tail(self) -> bytes:
        """What the guest sent last. Raises ConfigError when the snapshot is damaged."""
        try:
            return base64.b64decode(self.document["console_tail"], validate=True)
        except DAMAGED as error:
            raise _damaged(error) from None

    def plan(self, limits: Limits, outside: Outside) -> BootPlan:
        """What the guest is made of, from the snapshot, and how it is run. Raises ConfigError."""
        guest = GuestSpec.take(self.document["guest"])
        saved: dict[str, Any] = self.document["image"]
        image = replace(EMPTY_IMAGE, mode=EntryMode[saved["mode"]], cr3_gpa=saved["cr3_gpa"])
        allowance = Allowance(**self.document["allowance"])
        name = self._host.sidecore_policy
        policy = None if name is None else named_policy(name)
        return BootPlan(self._host, guest, limits, outside, image, self._profile, allowance, policy=policy)

    @cached_property
    def _host(self) -> HostSpec:
        return HostSpec.take(self.document["host"])

    @cached_property
    def _profile(self) -> Profile:
        profile = load_profile(self._host.profile, self._host.overrides)
        if profile_digest(profile) != self.document["profile"]:
            raise ConfigError(f"profile {profile.name} is not what it was when the snapshot was made")
        return profile

    @cached_property
    def _cpus(self) -> list[bytes]:
        return [base64.b64decode(saved, validate=True) for saved in self.document["cpus"]]

    def _fill(self, guest: Guest, skeleton: Skeleton) -> None:
        machine, document = guest.machine, self.document
        Applied(skeleton, document["objects"])
        machine.memory.forget_changes()
        for pcpu in machine.pcpus:
            pcpu.clock.resume()
        engines = engines_of(skeleton)
        for engine, saved in zip(engines, self._cpus, strict=True):
            engine.restore(saved)
        hierarchy, saved_hierarchy = machine.timing.hierarchy, document["hierarchy"]
        if hierarchy is not None:
            hierarchy.restore(base64.b64decode(saved_hierarchy, validate=True))


@dataclass(frozen=True)
class SaveableGuest:
    """A guest of which snapshots can be taken."""

    plan: BootPlan
    guest: Guest
    skeleton: Skeleton

    @staticmethod
    def build(
        plan: BootPlan, transmit: Callable[[int], None], *, observers: Sequence[ExitObserver] = ()
    ) -> "SaveableGuest":
        """The plan's guest. Raises ConfigError."""
        guest = build_guest(plan, transmit, observers=observers)
        return SaveableGuest(plan, guest, Skeleton(guest))

    def snapshot(self, *, console_tail: bytes = b"") -> Snapshot:
        """The state now; not while the guest runs. Raises ConfigError when it has something that has no form."""
        guest = self.guest
        if guest.end is not None:
            raise ConfigError(f"there is nothing to save: the guest has ended ({guest.end})")
        for pcpu in guest.machine.pcpus:
            pcpu.clock.commit()
        hierarchy = guest.machine.timing.hierarchy
        image = self.plan.image
        document = {
            "host": saved_values(self.plan.host),
            "guest": saved_values(self.plan.guest),
            "image": {"mode": image.mode.name, "cr3_gpa": image.cr3_gpa},
            "profile": profile_digest(self.plan.profile),
            "allowance": asdict(self.plan.allowance),
            "skeleton": self.skeleton.digest(),
            "objects": Capture(self.skeleton).records,
            "cpus": [_text(engine.save()) for engine in engines_of(self.skeleton)],
            "hierarchy": "" if hierarchy is None else _text(hierarchy.save()),
            "console_tail": _text(console_tail),
        }
        memory = MemoryFile(guest.machine.memory.size_bytes)
        memory.add_all(guest.machine.memory)
        return Snapshot(document, memory)


def engines_of(skeleton: Skeleton) -> list[Engine]:
    """The CPUs of a guest, in the order in which they were found."""
    return [thing for thing in skeleton.objects if isinstance(thing, Engine)]


def profile_digest(profile: Profile) -> str:
    """What two profiles have in common that time a machine alike."""
    return hashlib.sha256(repr(profile).encode()).hexdigest()


def _damaged(error: Exception) -> ConfigError:
    return ConfigError(f"the snapshot is damaged: {type(error).__name__}: {error}")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
