"""Debug exit, POST code, the reset registers and system control ports."""

from devices.isa.debug_exit import DebugExit
from devices.isa.post import PostCode
from devices.isa.reset import KeyboardResetPort, ResetControl
from devices.isa.system_control import SystemControlPortA


class Resets:
    """Counts calls of on_reset."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def test_debug_exit_hands_on_each_byte_and_reads_as_a_floating_bus() -> None:
    statuses: list[int] = []
    device = DebugExit(statuses.append)
    device.write(0, 1, 0x31)
    assert statuses == [0x31]
    assert device.read(0, 1) == 0xFF


def test_the_post_display_shows_the_last_code() -> None:
    post = PostCode()
    post.write(0, 1, 0x12)
    post.write(0, 1, 0x34)
    assert (post.code, post.read(0, 1)) == (0x34, 0x34)


def test_the_keyboard_controller_is_absent_but_for_its_reset_pulse() -> None:
    resets = Resets()
    keyboard = KeyboardResetPort(resets)
    assert keyboard.read(0, 1) == 0xFF
    keyboard.write(0, 1, 0xD1)
    assert resets.count == 0
    keyboard.write(0, 1, 0xFE)
    assert resets.count == 1


def test_the_fast_reset_is_an_edge_and_a20_reads_back() -> None:
    resets = Resets()
    port = SystemControlPortA(resets)
    assert port.read(0, 1) == 0x02
    port.write(0, 1, 0xFC)
    assert (port.read(0, 1), resets.count) == (0x00, 0)
    port.write(0, 1, 0x03)
    port.write(0, 1, 0x03)
    assert (port.read(0, 1), resets.count) == (0x03, 1)


def test_linux_resets_through_0xcf9() -> None:
    resets = Resets()
    register = ResetControl(resets)
    register.write(0, 1, register.read(0, 1) & ~0x06 | 0x02)
    assert resets.count == 0
    register.write(0, 1, register.read(0, 1) | 0x06)
    assert (register.read(0, 1), resets.count) == (0x06, 1)
