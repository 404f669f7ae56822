"""MSI-X: interrupts by writes to memory, each vector with its own address and data (PCI 3.0, 6.8.2).

    capability  | next | 0x11 | +0    control, +2: 15 enable | 14 mask all | 10-0 vectors - 1
                | table: offset | region in bits 2-0 | +4    | pending bits: the same | +8

    region      0x000  a row of 16 bytes for each vector: address, its upper half, data, control: 0 masked
                0x800  pending bits

A message whose vector is masked is pending, and is sent when it no longer is.
"""

from devices.pci.capabilities import Capability, Registers
from devices.pci.dma import BusMaster

MSIX_ID = 0x11
CONTROL, TABLE, PENDING = 0x02, 0x04, 0x08
ENABLE, MASK_ALL = 1 << 15, 1 << 14
ROW_BYTES, PENDING_AT, REGION_BYTES = 16, 0x800, 4096
VECTORS_MAX = PENDING_AT // ROW_BYTES
ROW_ADDRESS, ROW_DATA, ROW_CONTROL = 0, 8, 12
IS_MASKED = 1 << 0
MESSAGE_BYTES = 4


class MsixTable:
    """The table of `vectors`, as a region of a function; its function connects it."""

    widths_bytes: tuple[int, ...] = (4, 8)

    def __init__(self, vectors: int) -> None:
        if not 1 <= vectors <= VECTORS_MAX:
            raise ValueError(f"a table of {vectors} vectors")
        self.vectors = vectors
        self._rows = bytearray(vectors * ROW_BYTES)
        for vector in range(vectors):
            self._rows[vector * ROW_BYTES + ROW_CONTROL] = IS_MASKED
        self._pending = 0
        self._registers: Registers | None = None
        self._bus_master: BusMaster | None = None

    def capability(self, region: int) -> Capability:
        """The capability of a function that has the table as its region of that number."""
        rows = (
            (CONTROL, 2, self.vectors - 1, ENABLE | MASK_ALL),
            (TABLE, 4, region, 0),
            (PENDING, 4, PENDING_AT | region, 0),
        )
        return Capability(MSIX_ID, rows)

    def connect(self, registers: Registers, bus_master: BusMaster) -> None:
        """The function's registers of the capability, and its way to memory."""
        self._registers, self._bus_master = registers, bus_master

    @property
    def is_enabled(self) -> bool:
        """Whether interrupts are messages: then the function's pin is silent."""
        return bool(self._control & ENABLE)

    @property
    def _control(self) -> int:
        return 0 if self._registers is None else self._registers.read(CONTROL, 2)

    def enable(self) -> None:
        """What a driver does in the capability."""
        assert self._registers is not None
        self._registers.set(CONTROL, 2, self._control | ENABLE)

    def aim(self, vector: int, address: int, data: int) -> None:
        """What a driver does by four stores: let a vector send `data` to `address`, unmasked."""
        self.write(vector * ROW_BYTES + ROW_ADDRESS, 8, address)
        self.write(vector * ROW_BYTES + ROW_DATA, 8, data)

    def mask(self, vector: int) -> None:
        """What a driver does by one: let a vector send nothing."""
        self.write(vector * ROW_BYTES + ROW_CONTROL, 4, IS_MASKED)

    def send(self, vector: int) -> None:
        """Interrupt with `vector`, if enabled. There must be such a vector."""
        if not 0 <= vector < self.vectors:
            raise ValueError(f"MSI-X has no vector {vector}")
        if self.is_enabled:
            self._pending |= 1 << vector
            self.follow()

    def follow(self) -> None:
        """Software has written to the capability or to the table: messages that may go are sent."""
        control = self._control
        if not self._pending or not control & ENABLE or control & MASK_ALL:
            return
        for vector in range(self.vectors):
            row = vector * ROW_BYTES
            if self._pending >> vector & 1 and not self._rows[row + ROW_CONTROL] & IS_MASKED:
                self._pending &= ~(1 << vector)
                address = int.from_bytes(self._rows[row + ROW_ADDRESS : row + ROW_DATA], "little") & ~3
                assert self._bus_master is not None
                self._bus_master.write(address, bytes(self._rows[row + ROW_DATA : row + ROW_DATA + MESSAGE_BYTES]))

    def read(self, offset: int, size_bytes: int) -> int:
        """Rows and pending bits; what is neither reads 0."""
        if offset >= PENDING_AT:
            return self._pending >> 8 * (offset - PENDING_AT) & (1 << 8 * size_bytes) - 1
        return int.from_bytes(self._rows[offset : offset + size_bytes], "little")

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store in a row; of its control only the mask exists."""
        if offset + size_bytes > len(self._rows):
            return
        self._rows[offset : offset + size_bytes] = value.to_bytes(size_bytes, "little")
        control = (offset + size_bytes - 1) // ROW_BYTES * ROW_BYTES + ROW_CONTROL
        self._rows[control : control + 4] = bytes((self._rows[control] & IS_MASKED, 0, 0, 0))
        self.follow()
