"""MSI-X as a driver programs it: the capability, the table, masks and pending bits."""

import pytest

from devices.pci.function import PciFunction, Region
from devices.pci.msix import REGION_BYTES, MsixTable
from tests.devices.pci.memory import FakeMemory
from tests.devices.wire import Wire

COMMAND_ROW = (0x04, 2, 0, 0x0407)
MSIX, ENABLE, MASK_ALL = 0x40, 1 << 15, 1 << 14


class Rig:
    """A function with 40 vectors, unmasked; vector n stores 0x4100 + n at 0x1000 + 16 * n."""

    def __init__(self) -> None:
        self.table = MsixTable(40)
        regions = [Region(self.table, REGION_BYTES)]
        self.function = PciFunction([COMMAND_ROW], regions=regions, pin=1, msix=self.table)
        self.memory, self.wire = FakeMemory(), Wire()
        self.function.bus_master.port, self.function.line = self.memory, self.wire
        self.function.write(0x04, 2, 0x0006)
        for vector in range(40):
            self.table.write(16 * vector, 8, 0x1000 + 16 * vector)
            self.table.write(16 * vector + 8, 8, 0x4100 + vector)

    def control(self, value: int) -> None:
        self.function.write(MSIX + 2, 2, value)

    def sent(self) -> list[int]:
        """The vectors whose messages were sent since it was asked last."""
        vectors = [(address - 0x1000) // 16 for address, _, _ in self.memory.accesses]
        for vector in vectors:
            data = self.memory.bytes[0x1000 + 16 * vector :][:4]
            assert int.from_bytes(data, "little") == 0x4100 + vector
        self.memory.accesses.clear()
        return vectors


def test_the_capability_says_how_many_vectors_there_are_and_where() -> None:
    rig = Rig()
    assert [rig.function.read(MSIX + at, 4) for at in (0, 4, 8)] == [39 << 16 | 0x11, 0, 0x800]
    rig.control(0xFFFF)
    assert rig.function.read(MSIX + 2, 2) == ENABLE | MASK_ALL | 39


def test_each_vector_has_its_own_message_and_the_pin_is_silent() -> None:
    rig = Rig()
    rig.table.send(3)
    assert rig.sent() == []
    rig.control(ENABLE)
    rig.function.set_interrupt(True)
    for vector in (39, 0, 39):
        rig.table.send(vector)
    assert (rig.sent(), rig.wire.level) == ([39, 0, 39], False)
    rig.function.send_message(7)
    assert rig.sent() == [7]


def test_vectors_are_masked_after_reset() -> None:
    table = MsixTable(2)
    assert [table.read(offset, 4) for offset in (12, 28)] == [1, 1]
    table.write(28, 4, 0xFFFF_FFFE)
    assert (table.read(24, 8), table.read(0x20, 4), table.read(0xFF8, 8)) == (0, 0, 0)
    table.write(0x20, 8, 5)
    assert table.read(0x20, 8) == 0


def test_a_masked_vector_is_pending_until_it_no_longer_is() -> None:
    rig = Rig()
    rig.control(ENABLE)
    rig.table.write(16 * 35 + 12, 4, 1)
    rig.table.send(35)
    rig.table.send(35)
    rig.table.send(2)
    assert (rig.sent(), rig.table.read(0x800, 8), rig.table.read(0x804, 4)) == ([2], 1 << 35, 1 << 3)
    rig.table.write(16 * 35 + 12, 4, 0)
    assert (rig.sent(), rig.table.read(0x800, 8)) == ([35], 0)


def test_all_can_be_masked_at_once() -> None:
    rig = Rig()
    rig.control(ENABLE | MASK_ALL)
    rig.table.send(4)
    rig.table.send(1)
    assert rig.sent() == []
    rig.control(ENABLE)
    assert rig.sent() == [1, 4]


def test_there_are_no_other_vectors() -> None:
    with pytest.raises(ValueError, match="no vector 40"):
        Rig().table.send(40)
    for vectors in (0, 129):
        with pytest.raises(ValueError, match="vectors"):
            MsixTable(vectors)
