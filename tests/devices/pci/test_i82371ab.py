"""PIRQA# to PIRQD# reach the 8259s by the routes that firmware and drivers set."""

from devices.pci.i82371ab import ROUTABLE_IRQS, I82371ab
from tests.devices.wire import Wire


class Rig:
    def __init__(self) -> None:
        self.irqs = {irq: Wire() for irq in ROUTABLE_IRQS}
        self.bridge = I82371ab(self.irqs)
        self.pirqs = [self.bridge.pirq(number) for number in range(4)]

    def asserted(self) -> list[int]:
        return [irq for irq, wire in self.irqs.items() if wire.level]


def test_nothing_is_routed_after_reset() -> None:
    rig = Rig()
    assert rig.bridge.read(0x60, 4) == 0x8080_8080
    rig.pirqs[0](True)
    assert rig.asserted() == []


def test_each_wire_has_its_route_and_only_the_bits_of_the_data_sheet() -> None:
    rig = Rig()
    rig.bridge.write(0x60, 4, 0x7A_05_0B_0A)
    assert rig.bridge.read(0x60, 4) == 0x0A_05_0B_0A
    for number, irq in enumerate((10, 11, 5, 10)):
        rig.pirqs[number](True)
        assert rig.asserted() == [irq]
        rig.pirqs[number](False)


def test_two_wires_with_one_route_share_the_irq() -> None:
    rig = Rig()
    rig.bridge.write(0x60, 2, 0x0A0A)
    rig.pirqs[0](True)
    rig.pirqs[1](True)
    rig.pirqs[0](False)
    assert rig.asserted() == [10]
    rig.pirqs[1](False)
    assert [level for _, level in rig.irqs[10].changes] == [True, False]


def test_a_new_route_moves_an_asserted_wire_at_once() -> None:
    rig = Rig()
    rig.bridge.write(0x62, 1, 9)
    rig.pirqs[2](True)
    rig.bridge.write(0x62, 1, 12)
    assert rig.asserted() == [12]
    rig.bridge.write(0x62, 1, 0x8C)
    assert rig.asserted() == []


def test_irqs_that_belong_to_the_board_cannot_be_routed_to() -> None:
    rig = Rig()
    rig.pirqs[3](True)
    for irq in range(16):
        rig.bridge.write(0x63, 1, irq)
        assert rig.asserted() == ([irq] if irq not in (0, 1, 2, 8, 13) else [])
