"""Places in memory that are watched: what has become of them since somebody looked last.

    engines: told before an instruction --.
    watcher: an exit begins, ends       --+--> taken(by) --> (processor, Access), as many as there were

All processors of a host share what is known to be there, so that each access is told once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from emulator.memory import HostMemory
from vmm.session.debugger.happening import Access, By, Place
from vmm.session.debugger.views.subject import Subject


@dataclass
class _Host:
    """Places of a host, what is known to be there, and its processors by number."""

    memory: HostMemory
    places: list[Place]
    known: bytearray
    members: list[tuple[int, Subject]]


class WatchedPlaces:
    """From now on, until `close`."""

    def __init__(self, subjects: Sequence[Subject], places: Sequence[Place]) -> None:
        """Raises ValueError for too many, or where there is no memory."""
        self.places = tuple(places)
        self._hosts: list[_Host] = []
        for memory in {id(subject.host_memory): subject.host_memory for subject in subjects}.values():
            here = [place for place in dict.fromkeys(places) if subjects[place.who].host_memory is memory]
            if here:
                known = bytearray(b"".join(memory.read(place.hpa, place.size_bytes) for place in here))
                members = [(who, subject) for who, subject in enumerate(subjects) if subject.host_memory is memory]
                self._hosts.append(_Host(memory, here, known, members))
        for host in self._hosts:
            rows = [(place.hpa, place.size_bytes, place.tells_accesses) for place in host.places]
            for _, subject in host.members:
                subject.engine.watch_places(rows, host.known)

    def close(self) -> None:
        """No more."""
        for host in self._hosts:
            for _, subject in host.members:
                subject.engine.watch_places(())

    def taken(self, who: int, by: By) -> list[tuple[int, Access]]:
        """What has happened since this was asked last; a change that no instruction made is `by`, seen by `who`."""
        found: list[tuple[int, Access]] = []
        for host in self._hosts:
            notes, last_linear = [], 0
            for number, subject in host.members:
                linear, noted = subject.engine.noted_accesses()
                last_linear = linear if number == who else last_linear
                notes += [(number, *note) for note in noted]
            is_ours = any(number == who for number, _ in host.members)
            seen_by = who if is_ours else host.members[0][0]
            at = 0
            for place in host.places:
                old, new = bytes(host.known[at : at + place.size_bytes]), host.memory.read(place.hpa, place.size_bytes)
                host.known[at : at + place.size_bytes] = new
                at += place.size_bytes
                ours = [note for note in notes if place.tells_accesses and _overlaps(place, note[1], note[2])]
                if ours:
                    number, linear = ours[-1][0], ours[-1][4]
                    is_load, is_store = not all(note[3] for note in ours), any(note[3] for note in ours)
                    access = Access(place, By.INSTRUCTION, linear, is_load, is_store or old != new, old, new)
                    found.append((number, access))
                elif old != new:
                    found.append((seen_by, Access(place, by, last_linear, False, True, old, new)))
        return found


def _overlaps(place: Place, hpa: int, size_bytes: int) -> bool:
    return hpa < place.hpa + place.size_bytes and place.hpa < hpa + size_bytes
