"""MSI as a driver programs it: the capability list, messages, masks."""

from collections.abc import Iterator

import pytest

from devices.pci.capabilities import Capability
from devices.pci.function import PciFunction
from devices.pci.msi import msi
from tests.devices.pci.memory import FakeMemory
from tests.devices.wire import Wire

COMMAND_ROW = (0x04, 2, 0, 0x0407)
VENDOR = Capability(0x09, ((0x02, 1, 7, 0), (0x04, 1, 0, 0xFF)))  # five bytes
MSI = 0x48  # behind that one
AT = 0x1230


class Rig:
    """A function with MSI, whose messages are stores at AT."""

    def __init__(self, *, vectors_log2: int = 2, has_masks: bool = True) -> None:
        capabilities = [VENDOR, msi(vectors_log2=vectors_log2, has_masks=has_masks)]
        self.function = PciFunction([COMMAND_ROW], pin=1, capabilities=capabilities)
        self.memory, self.wire = FakeMemory(), Wire()
        self.function.bus_master.port, self.function.line = self.memory, self.wire
        self.write(0x04, 2, 0x0006)
        self.write(MSI + 4, 4, AT)
        self.write(MSI + 12, 2, 0x4100)

    def write(self, register: int, size_bytes: int, value: int) -> None:
        self.function.write(register, size_bytes, value)

    def enable(self, granted_log2: int = 0) -> None:
        self.write(MSI + 2, 2, 1 | granted_log2 << 4)

    def sent(self) -> list[int]:
        """The messages since it was asked last."""
        assert all(access == (AT, 4, True) for access in self.memory.accesses)
        count = len(self.memory.accesses)
        self.memory.accesses.clear()
        return [int.from_bytes(self.memory.bytes[AT : AT + 4], "little")] * count


def numbers(function: PciFunction) -> Iterator[tuple[int, int]]:
    at = function.read(0x34, 1)
    while at:
        yield at, function.read(at, 1)
        at = function.read(at + 1, 1)


def test_the_list_of_capabilities_leads_to_each() -> None:
    function = Rig().function
    assert list(numbers(function)) == [(0x40, 0x09), (MSI, 0x05)]
    assert function.read(0x06, 2) & 0x10
    assert not PciFunction([COMMAND_ROW]).read(0x06, 2) & 0x10
    function.write(0x40, 4, 0xFFFF_FFFF)
    function.write(0x44, 4, 0xFFFF_FFFF)
    assert (function.read(0x40, 4), function.read(0x44, 4)) == (0x0007_4809, 0xFF)


def test_only_what_is_the_software_s_can_be_written() -> None:
    rig = Rig()
    for offset in range(0, 24, 4):
        rig.write(MSI + offset, 4, 0xFFFF_FFFF)
    words = [rig.function.read(MSI + offset, 4) for offset in range(0, 24, 4)]
    assert words == [0x01F5_0005, 0xFFFF_FFFC, 0xFFFF_FFFF, 0xFFFF, 0xF, 0]


def test_messages_need_msi_and_bus_mastering() -> None:
    rig = Rig()
    rig.function.send_message()
    assert rig.sent() == []
    rig.enable()
    rig.function.send_message()
    assert rig.sent() == [0x4100]
    rig.write(0x04, 2, 0x0002)
    rig.function.send_message()
    assert rig.sent() == []


def test_the_pin_is_silent_while_msi_is_enabled() -> None:
    rig = Rig()
    rig.function.set_interrupt(True)
    rig.enable()
    assert not rig.wire.level
    assert rig.function.read(0x06, 2) & 8
    rig.write(MSI + 2, 2, 0)
    assert rig.wire.level


@pytest.mark.parametrize(("granted_log2", "expected"), [(0, 0x4100), (1, 0x4101), (2, 0x4103), (7, 0x4103)])
def test_a_vector_is_the_low_bits_of_the_data_as_far_as_they_are_granted(granted_log2: int, expected: int) -> None:
    rig = Rig()
    rig.write(MSI + 12, 2, 0x41FC & ~((1 << min(granted_log2, 2)) - 1) & 0x4100)
    rig.enable(granted_log2)
    rig.function.send_message(3)
    assert rig.sent() == [expected]


def test_a_masked_message_waits_until_it_is_not() -> None:
    rig = Rig()
    rig.enable(2)
    rig.write(MSI + 16, 4, 0b0110)
    for vector in (1, 1, 2):
        rig.function.send_message(vector)
    assert (rig.sent(), rig.function.read(MSI + 20, 4)) == ([], 0b0110)
    rig.write(MSI + 16, 4, 0b0100)
    assert (rig.sent(), rig.function.read(MSI + 20, 4)) == ([0x4101], 0b0100)
    rig.write(MSI + 16, 1, 0)
    assert (rig.sent(), rig.function.read(MSI + 20, 4)) == ([0x4102], 0)


def test_without_masks_there_are_no_such_registers() -> None:
    rig = Rig(has_masks=False)
    rig.enable()
    rig.write(MSI + 16, 4, 0xF)
    rig.function.send_message()
    assert (rig.sent(), rig.function.read(MSI + 16, 4)) == ([0x4100], 0)


def test_more_vectors_than_there_can_be_are_refused() -> None:
    with pytest.raises(ValueError, match="no 2\\*\\*6 vectors"):
        msi(vectors_log2=6)
