"""Snapshots: the whole state of a guest and its machine, in memory or in a file, and guests that go on from it.

    World, SaveableGuest --run, pause--> .snapshot() --> Snapshot --write--> file
                                                          |  ^------read-----'
                                                          +--clone--> the same again, any number

    state.py      what of Python's objects is state     contents.py      all that changes while machines run
    objects.py    the objects as plain data             memory_file.py   a machine's pages; touched.py: which may count
    saved.py      Snapshot                              file.py          the file: format, checks
    saved_guest.py   one guest, as the command runs it

A guest that goes on is in nothing different from one that was never stopped: same cycles, statistics, trace. All clones
share the pages of memory that none of them has changed.
"""

from vmm.session.snapshot.file import read_snapshot, write_snapshot
from vmm.session.snapshot.saved import Snapshot
from vmm.session.snapshot.saved_guest import SaveableGuest, console_tail, plan_of

__all__ = ["SaveableGuest", "Snapshot", "console_tail", "plan_of", "read_snapshot", "write_snapshot"]
