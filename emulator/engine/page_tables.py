"""A walk of page tables by software, in C: see tables.c."""

from collections.abc import Sequence

from emulator.engine._engine import ffi, lib
from emulator.engine.code_map import code_map
from emulator.memory import HIGH_START, LOW_END, HostMemory

WRITE, USER, FETCH, PROBE = 1, 2, 4, 16  # how a walk is made: ACCESS_* of arch.h
Piece = tuple[int, int, int]  # [start, end) of the addresses that tables hold, and where that lies in the host's memory
VISIT_WORDS = 3  # address, host-physical address, entry
IS_FAULT, ERROR_CODE, ADDRESS, RIGHTS, IS_DIRTY, PAGE_SHIFT, VISIT_COUNT, MARK_COUNT, MARKED, VISITS = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 12,
)  # fmt: skip


class TableMemory:
    """Memory in `pieces`, in which page tables lie. Where there is none, an entry lies at `nobody_hpa`.

    Entries there are all ones; the address within `nobody_bytes`, a power of two, is kept.
    """

    def __init__(self, host: HostMemory, pieces: Sequence[Piece], *, nobody_hpa: int, nobody_bytes: int) -> None:
        code = code_map(host)
        self._memory = ffi.new("sc_table_memory *")
        self._memory.memory = ffi.cast("uint8_t *", host.address)
        self._memory.code = code.map
        self._memory.nobody_hpa, self._memory.nobody_mask = nobody_hpa, nobody_bytes - 1
        for number, (start, end, hpa) in enumerate(pieces):
            piece = self._memory.pieces[number]
            piece.start, piece.end, piece.hpa = start, end, hpa
        self._memory.piece_count = len(pieces)
        self._kept = host, code
        self._found = ffi.new("sc_table_walk *")
        self._words = memoryview(ffi.buffer(self._found)).cast("B").cast("Q")

    @classmethod
    def of_host(cls, host: HostMemory) -> "TableMemory":
        """All of a host's memory."""
        pieces = [(0, min(host.size_bytes, LOW_END), 0), (HIGH_START, max(host.end_hpa, HIGH_START), HIGH_START)]
        return cls(host, pieces, nobody_hpa=0, nobody_bytes=1)

    def walk(self, cr0: int, cr3: int, cr4: int, efer: int, linear: int, access: int) -> list[int]:
        """Walk the tables of CR3, with paging on, for `access` (WRITE, USER, FETCH) to a linear address of 64 bits.

        The words of `sc_table_walk`: a fault and its error code, or the address, the rights of the whole path and the
        page's size; the entries read, and those whose accessed or dirty bits were set, which with PROBE are none.
        """
        lib.sc_walk_tables(self._memory, cr0, cr3, cr4, efer, linear, access, self._found)
        return self._words.tolist()
