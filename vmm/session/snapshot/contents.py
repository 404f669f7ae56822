"""All that changes while machines run, as a value: taken from one set of objects, put into another that is built alike.

    objects        records of Python's objects                      objects.py
    cpus           each engine as bytes                             emulator/engine/saved_state.c
    hierarchies    each machine's caches and TLBs as bytes          emulator/timing/hierarchy.py
    memories       each machine's pages, mapped copy-on-write       memory_file.py

Which engines and machines there are, and in which order, the skeleton says.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from emulator.engine import Engine
from emulator.errors import ConfigError
from emulator.machine import Machine
from vmm.session.snapshot.memory_file import MemoryFile
from vmm.session.snapshot.objects import Applied, Capture, Skeleton

DAMAGED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)  # of records that do not fit


# By class: what says only up to where the last slice went.
OF_SLICES = {"World": {"now_ps"}, "Interleaver": {"_limit_cycles", "_events_end_ps", "_bound_cycles"}}


@dataclass(frozen=True)
class Contents:
    """The state between two instructions. `document` is all but memory, as JSON has it."""

    document: dict[str, Any]
    memories: tuple[MemoryFile, ...]

    @staticmethod
    def take(skeleton: Skeleton) -> "Contents":
        """The state now; not while anybody runs. Raises ConfigError when it has something that has no form."""
        machines = _machines_of(skeleton)
        for machine in machines:
            for pcpu in machine.pcpus:
                pcpu.clock.commit()
        document = {
            "skeleton": skeleton.digest(),
            "objects": Capture(skeleton).records,
            "cpus": [_text(engine.save()) for engine in _engines_of(skeleton)],
            "hierarchies": [_hierarchy(machine) for machine in machines],
        }
        memories = [MemoryFile(machine.memory.end_hpa) for machine in machines]
        for memory, machine in zip(memories, machines, strict=True):
            memory.add_all(machine.memory)
        return Contents(document, tuple(memories))

    def put(self, skeleton: Skeleton) -> None:
        """Give the skeleton's objects this state. Raises ConfigError when it is not theirs, or damaged."""
        if skeleton.digest() != self.document.get("skeleton"):
            raise ConfigError("the snapshot was made by another version of sidecore; make it anew")
        machines = _machines_of(skeleton)
        if [machine.memory.end_hpa for machine in machines] != [memory.size_bytes for memory in self.memories]:
            raise ConfigError("the snapshot is damaged: its memory has another size than its machine")
        try:
            self._fill(skeleton, machines)
        except DAMAGED as error:
            raise damaged(error) from None

    def _fill(self, skeleton: Skeleton, machines: list[Machine]) -> None:
        Applied(skeleton, self.document["objects"])
        for machine, memory in zip(machines, self.memories, strict=True):
            machine.memory.begin_with(memory.descriptor)
            for pcpu in machine.pcpus:
                pcpu.clock.resume()
        for engine, saved in zip(_engines_of(skeleton), self._cpus, strict=True):
            engine.restore(saved)
        for machine, saved_hierarchy in zip(machines, self.document["hierarchies"], strict=True):
            if machine.timing.hierarchy is not None:
                machine.timing.hierarchy.restore(base64.b64decode(saved_hierarchy, validate=True))

    def digest(self) -> str:
        """What two states have in common that are equal, whatever slices the run was cut into."""
        records = [[kind, _unsliced(kind, state)] for kind, state in self.document["objects"]]
        digest = hashlib.sha256(json.dumps({**self.document, "objects": records}, sort_keys=True).encode())
        for memory in self.memories:
            for first, count in memory.runs:
                digest.update(first.to_bytes(8, "little") + memory.read(first, count))
        return digest.hexdigest()

    @cached_property
    def _cpus(self) -> list[bytes]:
        return [base64.b64decode(saved, validate=True) for saved in self.document["cpus"]]


def _unsliced(kind: str, state: Any) -> Any:
    left_out = OF_SLICES.get(kind)
    return state if left_out is None else {name: value for name, value in state.items() if name not in left_out}


def damaged(error: Exception) -> ConfigError:
    """What is said of a document that does not fit."""
    return ConfigError(f"the snapshot is damaged: {type(error).__name__}: {error}")


def _engines_of(skeleton: Skeleton) -> list[Engine]:
    return [thing for thing in skeleton.objects if isinstance(thing, Engine)]


def _machines_of(skeleton: Skeleton) -> list[Machine]:
    return [thing for thing in skeleton.objects if isinstance(thing, Machine)]


def _hierarchy(machine: Machine) -> str:
    hierarchy = machine.timing.hierarchy
    return "" if hierarchy is None else _text(hierarchy.save())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
