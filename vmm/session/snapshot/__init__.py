"""Snapshots: the whole state of a guest and its machine, in memory or in a file, and guests that go on from it.

    SaveableGuest.build(plan, transmit) --run, pause--> .snapshot() --> Snapshot --write--> file
                                                                           |  ^-----read-----'
                                                                           +--clone()--> SaveableGuest, any number

    state.py      what of Python's objects is state     contents.py      all that changes while machines run
    objects.py    the objects as plain data             memory_file.py   a machine's pages
    saved.py      Snapshot, SaveableGuest               file.py          the file: format, checks

A guest that goes on is in nothing different from one that was never stopped: same cycles, statistics, trace. All clones
share the pages of memory that none of them has changed.
"""

from vmm.session.snapshot.file import read_snapshot, write_snapshot
from vmm.session.snapshot.saved import SaveableGuest, Snapshot

__all__ = ["SaveableGuest", "Snapshot", "read_snapshot", "write_snapshot"]
