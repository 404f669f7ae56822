"""A world as it was, in memory or in a file, and any number of worlds that go on from there.

    world.snapshot() --> SavedWorld --clone()--> World         goes on as `world` does: same cycles, output, statistics
                           |   ^
                     write(path)   World.restore(path)

What a script adds to hosts is code: a clone has it, a file does not, so who restores a file gives it again. Observers
belong to a run; a clone gets its own.
"""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from emulator.errors import ConfigError
from emulator.x86 import PAGE_BYTES
from vmm.session.boot_plan import HostPlan
from vmm.session.snapshot import Snapshot, write_snapshot
from vmm.session.snapshot.contents import DAMAGED, Contents, damaged
from vmm.session.snapshot.objects import Skeleton
from vmm.session.world.link import Link
from vmm.session.world.switch import EthernetSwitch

LINKS: dict[str, type[Link] | type[EthernetSwitch]] = {"Link": Link, "EthernetSwitch": EthernetSwitch}


class Restorable(Protocol):
    """A world that can be built from plans, and given contents."""

    def build(self) -> None:
        """Make its hosts."""
        ...

    @property
    def skeleton(self) -> Skeleton:
        """Its objects, as they were when it was built."""
        ...

    def give_outputs(self, outputs: Sequence[bytes]) -> None:
        """What its guests have printed so far."""
        ...


W = TypeVar("W", bound=Restorable)


class SavedWorld(Generic[W]):
    """`snapshot` of a world; `make` describes one from the plans of its hosts."""

    def __init__(self, snapshot: Snapshot, make: Callable[[Sequence[HostPlan]], W]) -> None:
        self._snapshot = snapshot
        self._make = make

    def clone(self, prepare: Callable[[W], None] | None = None) -> W:
        """A world that goes on from here. `prepare` gets it before it is built: to observe. Raises ConfigError."""
        world = self._make(self._snapshot.plans())
        if prepare is not None:
            prepare(world)
        world.build()
        self._snapshot.contents.put(world.skeleton)
        try:
            world.give_outputs([base64.b64decode(text, validate=True) for text in self._snapshot.document["outputs"]])
        except DAMAGED as error:
            raise damaged(error) from None
        return world

    def digest(self) -> str:
        """What two worlds have in common that are equal: objects, CPUs, caches, memory."""
        return self._snapshot.contents.digest()

    @property
    def kept_bytes(self) -> int:
        """Memory that it takes, about: its pages."""
        memories = self._snapshot.contents.memories
        return sum(count * PAGE_BYTES for memory in memories for _, count in memory.runs)

    def write(self, path: str | Path) -> None:
        """Write it to a file, which is there whole or as it was before. Raises ConfigError."""
        write_snapshot(self._snapshot, Path(path))


def take(
    plans: Sequence[HostPlan], links: Sequence[Link | EthernetSwitch], skeleton: Skeleton, outputs: Sequence[bytes]
) -> Snapshot:
    """The snapshot of a world. Raises ConfigError when it has something that has no form."""
    texts = [base64.b64encode(output).decode() for output in outputs]
    return Snapshot.take(plans, Contents.take(skeleton), outputs=texts, links=[_saved(link) for link in links])


def _saved(link: Link | EthernetSwitch) -> list[Any]:
    return [type(link).__name__, link.saved()]


def links_of(snapshot: Snapshot) -> list[Link | EthernetSwitch]:
    """Links and switches of a world in a file; what was connected to them is in the contents. Raises ConfigError."""
    try:
        return [LINKS[name](**saved) for name, saved in snapshot.document["links"]]
    except DAMAGED as error:
        raise damaged(error) from None


def check_additions(snapshot: Snapshot, count: int) -> None:
    """Raise ConfigError unless there are additions for each host of a file."""
    if count != len(snapshot.plans()):
        raise ConfigError(f"the snapshot has {len(snapshot.plans())} hosts, and additions were given for {count}")
