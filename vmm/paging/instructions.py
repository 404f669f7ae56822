"""Instructions carried out by the VMM in a vCPU's place: stores to guest page tables, accesses to devices in memory.

    instruction at RIP --vmm/emulation--> load, store --guest's page tables--> gpa: RAM of the domain, or a device

Stores to RAM are returned, so that shadow tables follow.
"""

from emulator.vmx import fields as f
from emulator.x86 import AR_D, AR_L, EFER_LMA
from vmm.cost import paths
from vmm.emulation import Emulated, PageFault, Unhandled, emulate
from vmm.paging.guest_walk import GuestFault, PagingMode, Translation, walk, walk_tables
from vmm.vcpu import VCpu

PAGE_MASK = 0xFFF
ADDRESS_SPACE = (1 << 64) - 1

Stored = list[tuple[int, int, int]]  # stores to RAM: (gpa, size in bytes, value), each inside one page


class GuestState:
    """A vCPU as the instruction emulator sees it. Memory goes through the guest's own page tables."""

    __slots__ = ("_domain", "_is_ram", "_is_user", "_known", "_mode", "_vcpu", "stored")

    def __init__(self, vcpu: VCpu, mode: PagingMode, known: dict[int, int]) -> None:
        """For one instruction; `known` are the guest-physical pages of linear pages that are known to be writable."""
        self._vcpu, self._mode, self._known = vcpu, mode, known
        self._domain = vcpu.domain
        self._is_ram = vcpu.domain.memory.is_ram
        self._is_user = vcpu.cpl == 3
        self.stored: Stored = []

    def read_gpr(self, index: int) -> int:
        """A general register."""
        return self._vcpu.read_gpr(index)

    def write_gpr(self, index: int, value: int) -> None:
        """Set a general register."""
        self._vcpu.write_gpr(index, value)

    @property
    def rip(self) -> int:
        """Instruction pointer."""
        return self._vcpu.read(f.GUEST_RIP)

    @rip.setter
    def rip(self, value: int) -> None:
        self._vcpu.write(f.GUEST_RIP, value)

    @property
    def rflags(self) -> int:
        """Flags."""
        return self._vcpu.read(f.GUEST_RFLAGS)

    @rflags.setter
    def rflags(self, value: int) -> None:
        self._vcpu.write(f.GUEST_RFLAGS, value)

    def segment_base(self, index: int) -> int:
        """Base of ES, CS, SS, DS, FS or GS (0 to 5)."""
        return self._vcpu.read(f.GUEST_ES_BASE + 2 * index)

    def load(self, linear: int, size_bytes: int) -> int | PageFault:
        """Read guest memory."""
        places = self._places(linear, size_bytes, write=False)
        if isinstance(places, PageFault):
            return places
        return int.from_bytes(b"".join(self._read(gpa, size) for gpa, size in places), "little")

    def store(self, linear: int, size_bytes: int, value: int) -> PageFault | None:
        """Write guest memory, and remember that."""
        places = self._places(linear, size_bytes, write=True)
        if isinstance(places, PageFault):
            return places
        for gpa, size in places:
            part = value & (1 << 8 * size) - 1
            if self._is_ram(gpa):
                self._charge_copy(gpa, size, is_write=True)
                self._domain.write(gpa, part.to_bytes(size, "little"))
                self.stored.append((gpa, size, part))
            else:
                self._vcpu.mmio.write(gpa, size, part)
            value >>= 8 * size
        return None

    def _read(self, gpa: int, size_bytes: int) -> bytes:
        if self._is_ram(gpa):  # a piece lies inside one page
            self._charge_copy(gpa, size_bytes, is_write=False)
            return self._domain.read(gpa, size_bytes)
        return self._vcpu.mmio.read(gpa, size_bytes).to_bytes(size_bytes, "little")

    def _charge_copy(self, gpa: int, size_bytes: int, *, is_write: bool) -> None:
        self._vcpu.meter.follow(paths.GUEST_COPY)
        self._vcpu.meter.touch(self._domain.hpa_of(gpa), size_bytes, is_write)

    def _places(self, linear: int, size_bytes: int, *, write: bool) -> list[tuple[int, int]] | PageFault:
        """Where the bytes lie: one or two pieces of (gpa, size in bytes)."""
        first = min(size_bytes, 0x1000 - (linear & PAGE_MASK))
        pieces = [(linear, first)] if first == size_bytes else [(linear, first), (linear + first, size_bytes - first)]
        places = []
        for start, size in pieces:
            page = self._known.get(start >> 12)
            if page is None:
                found = walk(self._vcpu, self._mode, start & ADDRESS_SPACE, write=write, user=self._is_user)
                if isinstance(found, GuestFault):
                    return PageFault(found.gva, found.error_code)
                page = found.gpa & ~PAGE_MASK
            places.append((page | start & PAGE_MASK, size))
        return places


def emulate_instruction(
    vcpu: VCpu, mode: PagingMode, *, known: dict[int, int] | None = None
) -> tuple[Emulated | PageFault | Unhandled, Stored]:
    """Carry out the instruction at RIP: what came of it, and its stores to RAM. A PageFault is the guest's.

    `known` are linear pages, with the guest-physical page of each, that are known to translate for writing.
    """
    rights = vcpu.read(f.GUEST_CS_ACCESS_RIGHTS)
    bits = 64 if mode.efer & EFER_LMA and rights & AR_L else 32 if rights & AR_D else 16
    state = GuestState(vcpu, mode, {} if known is None else known)
    rip = vcpu.rip
    vcpu.meter.follow(paths.EMULATE)
    result = emulate(state, vcpu.engine.code_at_rip(), bits)
    if isinstance(result, Emulated):
        vcpu.finish_instruction()
        _charge_fetches(vcpu, mode, rip, result.fetch_count)
    return result, state.stored


def _charge_fetches(vcpu: VCpu, mode: PagingMode, rip: int, count: int) -> None:
    """The engine gives the code for nothing; a VMM fetches it piece by piece, each by a walk of the tables.

    MODEL: as if the whole instruction were in the page of its first byte.
    """
    domain = vcpu.domain
    linear = vcpu.read(f.GUEST_CS_BASE) + rip & ADDRESS_SPACE
    found, meter = walk_tables(domain, mode, linear, fetch=True, probe=True), vcpu.meter
    entries = found.visits.hpas
    touched = [*entries, domain.hpa_of(found.gpa)] if isinstance(found, Translation) else entries
    meter.follow(paths.FETCH, count)
    meter.follow(paths.WALK, count)
    meter.follow(paths.WALK_STEP, count * len(entries))
    meter.touch_words(touched * count, 1, False)
