"""What a BIOS does with PCI before it starts a kernel: routes, addresses, interrupt lines, what functions decode.

PIRQA# --> IRQ 10    PIRQB# --> IRQ 11    PIRQC# --> IRQ 10    PIRQD# --> IRQ 11        level-triggered by the ELCR
regions in memory: from WINDOW_BASE on; at ports: from PORT_WINDOW_BASE on; each at a multiple of its size
"""

from devices.interrupts.i8259_pair import EdgeLevelControl
from devices.pci.bus import PORT_WINDOW_BASE, PORT_WINDOW_END, WINDOW_BASE, WINDOW_END, PciBus, pirq_of
from devices.pci.function import BARS, COMMAND, DECODES_MEMORY, DECODES_PORTS, INTERRUPT_LINE, PciFunction
from devices.pci.i82371ab import PIRQRC, I82371ab

IRQ_OF_PIRQ = (10, 11, 10, 11)


def set_up_pci(bus: PciBus, bridge: I82371ab, elcr: EdgeLevelControl) -> None:
    """Leave everything so that a kernel can use it without knowing how."""
    for pirq, irq in enumerate(IRQ_OF_PIRQ):
        bridge.write(PIRQRC + pirq, 1, irq)
        elcr.write(irq >> 3, 1, elcr.read(irq >> 3, 1) | 1 << (irq & 7))
    free = {False: WINDOW_BASE, True: PORT_WINDOW_BASE}
    for slot, function in bus.functions.items():
        if function.pin:
            function.write(INTERRUPT_LINE, 1, IRQ_OF_PIRQ[pirq_of(slot, function.pin)])
        _place(function, free)
    assert free[False] <= WINDOW_END
    assert free[True] <= PORT_WINDOW_END


def _place(function: PciFunction, free: dict[bool, int]) -> None:
    """Give the regions of `function` addresses from `free` on, by whether they are ports, and let it decode them."""
    command = function.command
    for number, region in enumerate(function.regions):
        start = -(-free[region.is_ports] // region.length_bytes) * region.length_bytes
        free[region.is_ports] = start + region.length_bytes
        function.write(BARS + 4 * number, 4, start)
        command |= DECODES_PORTS if region.is_ports else DECODES_MEMORY
    function.write(COMMAND, 2, command)
