"""The guest's function `vif` on its own PCI bus: what a driver sets its VIF up with. Each access exits; none is needed
while packets flow.

    0x00  identification   RO  0x5c010001
    0x04  VIF number       RO  all ones: there is none
    0x08  MAC address      RO  bytes 0 to 3         0x0c  bytes 4, 5
    0x10  page             RW  its guest-physical address, 64 bits, also as two halves
    0x18  command          WO  1: attach, 0: detach
          status           RO  0: detached, 1: attached, 2: refused (page not aligned, not RAM), 3: no VIF
    0x1c  upcall           RW  0: signals come as MSI; 32 to 255: the VMM injects this vector
    0x38  notify           RO  1: nobody polls the page, the guest tells by hypercall that it has something to send
    0x20  counters         RO  sent, received, send errors, receive errors, receive drops, signals

One region of 4 KiB in memory, MSI with one vector.
"""

from devices.nic.vif import Vif
from devices.pci.function import DECODES_MEMORY, IS_MASTER, PciFunction, Region
from devices.pci.msi import msi
from emulator.events import EventQueue

REGION_BYTES = 4096
IDENTIFICATION, NUMBER, MAC, PAGE, COMMAND, UPCALL, COUNTERS, NOTIFY = 0x00, 0x04, 0x08, 0x10, 0x18, 0x1C, 0x20, 0x38
IDENTIFICATION_VALUE = 0x5C01_0001
DETACH, ATTACH = 0, 1
DETACHED, ATTACHED, REFUSED, NO_VIF = range(4)
UPCALL_VECTORS = range(32, 256)
ALL_ONES = (1 << 32) - 1

# fmt: off
CONFIGURATION = (
    (0x00, 2, 0x1234, 0),      # vendor
    (0x02, 2, 0x5C01, 0),      # device
    (0x04, 2, 0, DECODES_MEMORY | IS_MASTER),
    (0x08, 1, 0x01, 0),        # revision
    (0x09, 3, 0x02_00_00, 0),  # class: Ethernet
)
# fmt: on


class VifFunction:
    """The registers; `function` is what to put on a guest's PCI bus. The VMM sets `vif`."""

    widths_bytes: tuple[int, ...] = (4, 8)

    def __init__(self, events: EventQueue) -> None:
        self.function = PciFunction(CONFIGURATION, regions=[Region(self, REGION_BYTES)], capabilities=[msi()])
        self.vif: Vif | None = None
        self.upcall_vector = 0  # 0: signals are messages, function.send_message
        self.needs_notice = False
        self._page_gpa = 0
        self._is_refused = False

    def read(self, offset: int, size_bytes: int) -> int:
        """A register; 64 bits are two of 32; what cannot be read is 0."""
        value = self._read(offset)
        return value if size_bytes == 4 else value | self._read(offset + 4) << 32

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store in a register; 64 bits are two of 32."""
        self._write(offset, value & ALL_ONES)
        if size_bytes == 8:
            self._write(offset + 4, value >> 32)

    @property
    def _has_vif(self) -> bool:
        return self.vif is not None and not self.vif.is_destroyed

    def _read(self, offset: int) -> int:
        if offset in (PAGE, PAGE + 4):
            return self._page_gpa >> 8 * (offset - PAGE) & ALL_ONES
        if COUNTERS <= offset < COUNTERS + 24:
            return self._counter((offset - COUNTERS) // 4) & ALL_ONES
        mac = bytes(8) if self.vif is None else self.vif.mac + bytes(2)
        readable = {
            IDENTIFICATION: IDENTIFICATION_VALUE,
            NUMBER: self.vif.number if self.vif is not None and self._has_vif else ALL_ONES,
            MAC: int.from_bytes(mac[:4], "little"),
            MAC + 4: int.from_bytes(mac[4:], "little"),
            COMMAND: self._status(),
            UPCALL: self.upcall_vector,
            NOTIFY: int(self.needs_notice),
        }
        return readable.get(offset, 0)

    def _status(self) -> int:
        if self.vif is None or not self._has_vif:
            return NO_VIF
        if self.vif.is_attached:
            return ATTACHED
        return REFUSED if self._is_refused else DETACHED

    def _counter(self, number: int) -> int:
        if self.vif is None:
            return 0
        c = self.vif.counters
        drops = sum(c.receive_drops.values())
        return (c.sent, c.received, c.send_errors, c.receive_errors, drops, c.signals)[number]

    def _write(self, offset: int, value: int) -> None:
        if offset in (PAGE, PAGE + 4):
            shift = 8 * (offset - PAGE)
            self._page_gpa = self._page_gpa & ~(ALL_ONES << shift) | value << shift
        elif offset == COMMAND and self.vif is not None:
            if value == ATTACH:
                self._is_refused = not self.vif.attach(self._page_gpa)
            elif value == DETACH:
                self._is_refused = False
                self.vif.detach()
        elif offset == UPCALL and (value == 0 or value in UPCALL_VECTORS):
            self.upcall_vector = value
