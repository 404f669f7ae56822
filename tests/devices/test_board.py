"""The board through its ports, as a guest sees it."""

import itertools
import pickle
import random

from hypothesis import given
from hypothesis import strategies as st

from devices.board import PCI_DEVICES, Board
from devices.cpu_pins import CpuPins
from devices.pci.dma import Nowhere
from emulator.bus import PORT_COUNT, MmioBus, PortBus
from emulator.events import PS_PER_SECOND, EventQueue


class Host:
    """The machine around a board; plain methods, so that it can be snapshotted together with the board."""

    def __init__(self, *pci_devices: str) -> None:
        self.sent = bytearray()
        self.exits: list[int] = []
        self.resets = 0
        self.intr = False
        self.is_off = False
        self.bus = PortBus()
        self.mmio = MmioBus()
        self.events = EventQueue()
        self.board = Board(
            self.bus,
            self.mmio,
            self.events,
            memory_bytes=128 << 20,
            memory=Nowhere(),
            transmit=self.sent.append,
            on_exit=self.exits.append,
            on_reset=self.reset,
            on_power_off=self.power_off,
            cpus=[CpuPins(on_intr=self.set_intr, tsc_to_ps=self.tsc_to_ps)],
            apic_timer_hz=100_000_000,
            pci_devices=[PCI_DEVICES[name] for name in pci_devices],
        )

    def reset(self) -> None:
        self.resets += 1

    def power_off(self) -> None:
        self.is_off = True

    def set_intr(self, level: bool) -> None:
        self.intr = level

    def tsc_to_ps(self, tsc: int) -> int:
        return tsc * 1000

    def out(self, *pairs: tuple[int, int]) -> None:
        for port, value in pairs:
            self.bus.write(port, 1, value)

    def initialise_pic(self, mask: int = 0) -> None:
        self.out((0x20, 0x11), (0x21, 0x20), (0x21, 0x04), (0x21, 0x01), (0x21, mask & 0xFF))
        self.out((0xA0, 0x11), (0xA1, 0x28), (0xA1, 0x02), (0xA1, 0x01), (0xA1, mask >> 8))


def test_the_port_map_has_no_overlaps_and_names_devices_of_the_board() -> None:
    board = Host().board
    ranges = sorted((base, base + length) for base, length, _ in board.port_map)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    owned = [*vars(board).values(), board.pic.master, board.pic.slave, board.pic.elcr]
    assert all(any(device is other for other in owned) for _, _, device in board.port_map)


def test_the_timer_interrupts_on_irq_0_at_100_hz() -> None:
    host = Host()
    host.initialise_pic()
    host.out((0x43, 0x34), (0x40, 11932 & 0xFF), (0x40, 11932 >> 8))
    assert host.board.apics[0].acknowledge() == 0x20  # OUT rises with the control word, as on hardware
    host.out((0x20, 0x20))
    for period in (1, 2, 3):
        due_ps = -(-period * 11932 * PS_PER_SECOND // 1193182)
        host.events.run_until(due_ps - 1)
        assert not host.intr
        host.events.run_until(due_ps)
        assert host.intr
        assert host.board.apics[0].acknowledge() == 0x20
        host.out((0x20, 0x20))
    assert not host.intr


def test_the_uart_interrupts_on_irq_4() -> None:
    host = Host()
    host.initialise_pic()
    host.out((0x3FC, 0x0B), (0x3F9, 0x01))
    host.board.uart.receive(b"x")
    assert host.board.apics[0].acknowledge() == 0x24
    assert host.bus.read(0x3F8, 1) == ord("x")
    host.out((0x20, 0x20))
    assert not host.intr
    host.out((0x3F8, ord("y")))
    assert host.sent == b"y"


def test_the_clock_interrupts_on_irq_8() -> None:
    host = Host()
    host.initialise_pic()
    host.out((0x70, 0x0B), (0x71, 0x12))
    host.events.run_until(PS_PER_SECOND)
    assert host.board.apics[0].acknowledge() == 0x28
    host.out((0x70, 0x0C))
    assert host.bus.read(0x71, 1) & 0x90 == 0x90


def test_the_elcr_makes_the_uarts_line_level_triggered() -> None:
    host = Host()
    host.initialise_pic()
    host.out((0x4D0, 0x10), (0x3FC, 0x0B), (0x3F9, 0x01))
    host.board.uart.receive(b"x")
    assert host.board.apics[0].acknowledge() == 0x24
    host.out((0x20, 0x20))
    assert host.intr


def test_pci_mechanism_1_and_the_reset_register_share_0xcf8_by_access_width() -> None:
    host = Host()
    host.bus.write(0xCF8, 4, 0x8000_0604)  # byte 0xcf9 of it is 0x06: no reset
    assert host.resets == 0
    assert host.bus.read(0xCF8, 4) == 0x8000_0604
    assert host.bus.read(0xCFC, 4) == 0xFFFF_FFFF
    assert host.bus.read(0xCFE, 2) == 0xFFFF
    assert host.bus.read(0xCF9, 1) == 0
    host.out((0xCF8, 0), (0xCFA, 0), (0xCFB, 1))
    assert host.bus.read(0xCF8, 4) == 0x8000_0604
    assert [host.bus.read(port, 1) for port in (0xCF8, 0xCFA, 0xCFB)] == [0xFF] * 3  # nor mechanism #2
    host.out((0xCF9, 0x06))
    assert host.resets == 1


def test_every_way_to_reset_and_to_exit() -> None:
    host = Host()
    assert host.bus.read(0x60, 1) == host.bus.read(0x64, 1) == 0xFF
    host.out((0x64, 0xFE), (0x92, 0x01), (0xCF9, 0x04))
    assert host.resets == 3
    host.out((0x80, 0x77), (0xF4, 0x10))
    assert host.board.post.code == 0x77
    assert host.exits == [0x10]


def test_the_timers_third_counter_hangs_on_port_0x61() -> None:
    host = Host()
    host.out((0x43, 0xB0), (0x61, 0x01), (0x42, 0x02), (0x42, 0x00))
    assert host.bus.read(0x61, 1) & 0x20 == 0
    host.events.run_until(1_676_191)
    assert host.bus.read(0x61, 1) & 0x20


claimed_ports = sorted(
    {port for base, length, _ in Host().board.port_map for port in range(base - 1, base + length + 1)}
)
accesses = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(claimed_ports), st.integers(0, PORT_COUNT - 1)),
        st.sampled_from([1, 2, 4]),
        st.one_of(st.none(), st.integers(0, 0xFFFF_FFFF)),
        st.one_of(st.just(0), st.integers(0, 10**9)),
    ),
    max_size=60,
)


def play(host: Host, traffic: list[tuple[int, int, int | None, int]]) -> list[int]:
    """Do each access (a read where the value is None) after its delay in ps, some INTAs between; what was read."""
    results = []
    for port, size_bytes, value, delay_ps in traffic:
        host.events.run_until(host.events.now_ps + delay_ps)
        if value is None:
            results.append(host.bus.read(port, size_bytes))
            assert 0 <= results[-1] < 1 << 8 * size_bytes
        else:
            host.bus.write(port, size_bytes, value)
        assert host.intr == host.board.pic.output
        if host.intr and port & 1:
            results.append(host.board.apics[0].acknowledge())
            assert 0 <= results[-1] < 256
        if port & 7 == 3:
            host.board.uart.receive(bytes([port & 0xFF]))
    return results


@given(accesses)
def test_hostile_traffic_raises_nothing_and_reads_fit_their_width(
    traffic: list[tuple[int, int, int | None, int]],
) -> None:
    play(Host(), traffic)


@given(accesses, accesses)
def test_a_board_restored_from_a_snapshot_goes_on_as_the_original(
    before: list[tuple[int, int, int | None, int]], after: list[tuple[int, int, int | None, int]]
) -> None:
    host = Host()
    play(host, before)
    restored = pickle.loads(pickle.dumps(host))
    assert play(restored, after) == play(host, after)
    assert restored.sent == host.sent
    assert restored.events.next_ps() == host.events.next_ps()


@given(accesses, accesses)
def test_two_boards_in_one_process_do_not_meet(
    one: list[tuple[int, int, int | None, int]], other: list[tuple[int, int, int | None, int]]
) -> None:
    alone, beside = Host(), Host()
    expected = play(alone, one)
    neighbour = Host()
    got: list[int] = []
    for index in range(max(len(one), len(other))):
        got += play(beside, one[index : index + 1])
        play(neighbour, other[index : index + 1])
    assert got == expected


def test_isa_interrupts_reach_the_io_apic_too_irq_0_on_pin_2() -> None:
    host = Host()
    host.board.apics[0].write(0x0F0, 4, 0x1FF)
    for pin, vector in ((2, 0x42), (4, 0x54)):
        host.mmio.write(0xFEC0_0000, 4, 0x10 + 2 * pin)
        host.mmio.write(0xFEC0_0010, 4, vector)
    host.out((0x43, 0x34), (0x40, 100), (0x40, 0))
    host.out((0x3FC, 0x0B), (0x3F9, 0x01))
    host.board.uart.receive(b"x")
    apic = host.board.apics[0]
    assert apic.acknowledge() == 0x54
    apic.write(0x0B0, 4, 0)
    assert apic.acknowledge() == 0x42


def test_the_8259s_reach_the_cpu_through_pin_0_as_ext_int() -> None:
    host = Host()
    host.initialise_pic()
    host.board.apics[0].write(0x350, 4, 1 << 16)
    host.mmio.write(0xFEC0_0000, 4, 0x10)
    host.mmio.write(0xFEC0_0010, 4, 0x700)
    assert not host.intr
    host.out((0x3FC, 0x0B), (0x3F9, 0x01))
    host.board.uart.receive(b"x")
    assert host.board.apics[0].acknowledge() == 0x24


def test_s5_turns_the_power_off() -> None:
    host = Host()
    host.bus.write(0x604, 2, 5 << 10 | 1 << 13)
    assert host.is_off


EDU_SLOT, EDU_PIRQ, EDU_IRQ = 2, 2, 10


class EduHost(Host):
    """A host with the educational device, driven through its bus."""

    def __init__(self) -> None:
        super().__init__("edu")
        self.registers = self.config(0x10) & ~0xF

    def config(self, register: int) -> int:
        self.bus.write(0xCF8, 4, 1 << 31 | EDU_SLOT << 11 | register)
        return self.bus.read(0xCFC, 4)

    def raise_interrupt(self, bits: int) -> None:
        self.mmio.write(self.registers + 0x60, 4, bits)

    def acknowledge_interrupt(self, bits: int) -> None:
        self.mmio.write(self.registers + 0x64, 4, bits)


def test_firmware_has_placed_a_pci_device_and_noted_its_irq() -> None:
    host = EduHost()
    assert host.config(0) == 0x11E8_1234
    assert host.registers == 0xE000_0000
    assert host.config(0x04) & 0xFFFF == 0x0002
    assert host.config(0x3C) & 0xFFFF == 0x0100 | EDU_IRQ
    assert host.mmio.read(host.registers, 4) == 0x0100_00ED
    assert host.mmio.read(0xE800_0000, 4) == 0xFFFF_FFFF


def test_a_pci_interrupt_is_level_triggered_at_the_8259s_by_its_route() -> None:
    host = EduHost()
    host.initialise_pic()
    host.raise_interrupt(3)
    apic = host.board.apics[0]
    assert apic.acknowledge() == 0x28 + EDU_IRQ - 8
    host.acknowledge_interrupt(1)
    host.out((0xA0, 0x20), (0x20, 0x20))
    assert apic.acknowledge() == 0x28 + EDU_IRQ - 8  # again, while the device holds its pin
    host.acknowledge_interrupt(2)
    host.out((0xA0, 0x20), (0x20, 0x20))
    assert not host.intr


def test_a_pci_interrupt_is_on_pins_16_to_19_of_the_io_apic_by_wire() -> None:
    host = EduHost()
    host.initialise_pic(mask=0xFFFF)
    host.board.apics[0].write(0x0F0, 4, 0x1FF)
    host.mmio.write(0xFEC0_0000, 4, 0x10 + 2 * (16 + EDU_PIRQ))
    host.mmio.write(0xFEC0_0010, 4, 0x1_0000 | 0xA061)
    host.raise_interrupt(1)
    assert not host.intr
    host.mmio.write(0xFEC0_0010, 4, 0xA061)
    assert host.board.apics[0].acknowledge() == 0x61
    host.acknowledge_interrupt(1)
    host.board.apics[0].write(0x0B0, 4, 0)
    assert not host.intr


def test_a_pci_route_to_the_uarts_irq_shares_its_wire() -> None:
    host = EduHost()
    host.initialise_pic()
    host.bus.write(0xCF8, 4, 1 << 31 | 1 << 11 | 0x60)
    host.bus.write(0xCFC + EDU_PIRQ, 1, 4)
    host.out((0x3FC, 0x0B), (0x3F9, 0x01))
    host.board.uart.receive(b"x")
    host.raise_interrupt(1)
    assert host.bus.read(0x3F8, 1) == ord("x")
    assert host.board.apics[0].acknowledge() == 0x24
    host.acknowledge_interrupt(1)
    host.out((0x20, 0x20))
    assert not host.intr


def test_random_traffic_at_a_pci_device_raises_nothing_and_reads_fit_their_width() -> None:
    rng, host = random.Random(6), EduHost()
    for _ in range(3000):
        size = rng.choice((1, 2, 4, 8))
        address = rng.choice((0xE000_0000, host.registers)) + rng.randrange(0x100)
        match rng.randrange(4):
            case 0:
                host.bus.write(0xCF8, 4, 1 << 31 | rng.randrange(4) << 11 | rng.randrange(0x40) << 2)
                host.bus.write(0xCFC + rng.randrange(4), min(size, 4), rng.getrandbits(8 * min(size, 4)))
            case 1:
                host.mmio.write(address, size, rng.getrandbits(8 * size))
            case 2:
                assert 0 <= host.mmio.read(address, size) < 1 << 8 * size
            case 3:
                host.events.run_until(host.events.now_ps + rng.randrange(2_000_000))
        host.registers = 0xE000_0000 | host.config(0x10) & 0xFFF_FFF0
