"""Where there is no RAM the platform answers loads and stores; what that sets off comes at the end of the block."""

from emulator.x86 import RFLAGS_IF
from tests.emulator.engine.rig import DATA, MEMORY_BYTES, P, Rig, W

DEVICE = 0xFEE0_0000


def rig_with_device(code: str) -> Rig:
    rig = Rig(code)
    rig.set_page(DATA, DEVICE | P | W)
    return rig


def test_loads_and_stores_of_each_width_carry_their_physical_address() -> None:
    rig = rig_with_device(
        f"mov [{DATA + 0x80}], eax\n mov [{DATA + 2}], cx\n mov [{DATA + 0xFFF}], dl\n"
        f"mov r8d, [{DATA + 0x20}]\n movsx r9, word ptr [{DATA + 6}]\n hlt"
    )
    rig["rax"], rig["rcx"], rig["rdx"] = 0x11223344, 0x5566, 0x77
    rig.platform.mmio = {DEVICE + 0x20: 0xA1B2C3D4, DEVICE + 6: 0x8001}
    rig.run()
    stores = [(DEVICE + 0x80, 4, 0x11223344), (DEVICE + 2, 2, 0x5566), (DEVICE + 0xFFF, 1, 0x77)]
    assert rig.platform.mmio_writes == stores
    assert rig.platform.mmio_reads == [(DEVICE + 0x20, 4), (DEVICE + 6, 2)]
    assert (rig["r8"], rig["r9"]) == (0xA1B2C3D4, 0xFFFF_FFFF_FFFF_8001)


def test_eight_bytes_are_two_accesses_lower_half_first() -> None:
    rig = rig_with_device(f"mov [{DATA}], rbx\n mov rax, [{DATA + 8}]\n hlt")
    rig["rbx"] = 0x8877665544332211
    rig.platform.mmio = {DEVICE + 8: 1, DEVICE + 12: 2}
    rig.run()
    assert rig.platform.mmio_writes == [(DEVICE, 4, 0x44332211), (DEVICE + 4, 4, 0x88776655)]
    assert rig["rax"] == 2 << 32 | 1


def test_read_modify_write_reads_and_writes_once() -> None:
    rig = rig_with_device(f"or dword ptr [{DATA}], 0x10\n hlt")
    rig.platform.mmio = {DEVICE: 0x01}
    rig.run()
    assert (rig.platform.mmio_reads, rig.platform.mmio_writes) == ([(DEVICE, 4)], [(DEVICE, 4, 0x11)])


def test_an_interrupt_that_a_store_sets_off_is_taken_at_the_next_block() -> None:
    rig = rig_with_device(f"mov [{DATA}], eax\n jmp 1f\n 1: inc ebx\n hlt")

    def assert_intr(_hpa: int) -> None:
        rig.shared.interrupt_pending = 1

    def acknowledge() -> None:
        rig.shared.interrupt_pending = 0

    rig["rflags"] |= RFLAGS_IF
    rig.platform.on_mmio, rig.platform.on_acknowledge, rig.platform.vectors = assert_intr, acknowledge, [0x40]
    rig.run()
    assert (rig.halted_in, rig["rbx"]) == (0x40, 0)


def test_an_access_may_end_the_run_and_bring_the_deadline_nearer() -> None:
    rig = rig_with_device(f"1: mov [{DATA}], eax\n jmp 1b")

    def stop_at_third(_hpa: int) -> None:
        if len(rig.platform.mmio_writes) == 3:
            rig.engine.stop()

    rig.platform.on_mmio = stop_at_third
    rig.run()
    assert len(rig.platform.mmio_writes) == 3

    def come_nearer(_hpa: int) -> None:
        rig.shared.deadline_cycles = int(rig.shared.clock_cycles)

    rig.platform.on_mmio = come_nearer
    rig.run(10**9)
    assert len(rig.platform.mmio_writes) == 4


def test_what_the_platform_raises_comes_out_of_run() -> None:
    rig = rig_with_device(f"mov [{DATA}], eax\n jmp .")

    def fail(_hpa: int) -> None:
        raise ZeroDivisionError

    rig.platform.on_mmio = fail
    try:
        rig.run()
    except ZeroDivisionError:
        return
    raise AssertionError("the exception was lost")


def test_the_first_byte_behind_ram_is_the_platforms() -> None:
    rig = Rig(f"mov eax, [{DATA}]\n hlt")
    rig.set_page(DATA, MEMORY_BYTES | P | W)
    rig.run()
    assert rig.platform.mmio_reads == [(MEMORY_BYTES, 4)]
