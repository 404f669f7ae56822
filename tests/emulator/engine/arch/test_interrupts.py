"""External interrupts and single step: when they are taken, and behind which instruction."""

from emulator.x86 import RFLAGS_IF
from tests.emulator.engine.rig import CODE, DATA, HANDLERS, Rig, assemble

# --- interrupts -------------------------------------------------------------------------------------------------------


def with_interrupt(text: str, *, is_enabled: bool = True, vectors: tuple[int, ...] = (0x40,)) -> Rig:
    """An interrupt is pending from the start; the acknowledge of the last lowers the pin."""
    rig = Rig(text)
    rig["rflags"] = 2 | (RFLAGS_IF if is_enabled else 0)
    rig.platform.vectors = list(vectors)
    rig.platform.on_acknowledge = lambda: setattr(rig.shared, "interrupt_pending", len(rig.platform.vectors) > 1)
    rig.shared.interrupt_pending = 1
    return rig


def test_an_interrupt_is_taken_before_the_next_instruction() -> None:
    rig = with_interrupt("nop\n hlt").run()
    assert rig.halted_in == 0x40
    frame = rig.frame(has_error=False)
    assert (frame["rip"], frame["rflags"]) == (CODE, 2 | RFLAGS_IF)


def test_an_interrupt_waits_while_if_is_clear() -> None:
    rig = with_interrupt("nop\n hlt", is_enabled=False).run()
    assert (rig.is_halted, rig["rip"]) == (True, CODE + 2)
    assert rig.platform.vectors == [0x40]


def test_sti_keeps_interrupts_out_for_one_more_instruction() -> None:
    rig = with_interrupt("nop\n sti\n nop\n nop\n hlt", is_enabled=False).run()
    assert rig.halted_in == 0x40
    assert rig.frame(has_error=False)["rip"] == CODE + 3


def test_sti_cli_lets_no_interrupt_in() -> None:
    rig = with_interrupt("sti\n cli\n nop\n hlt", is_enabled=False).run()
    assert rig["rip"] == CODE + 4


def test_sti_hlt_wakes_behind_the_hlt() -> None:
    rig = with_interrupt("sti\n hlt\n nop", is_enabled=False).run()
    assert rig.halted_in == 0x40
    assert rig.frame(has_error=False)["rip"] == CODE + 2


def test_mov_ss_keeps_interrupts_out_for_one_more_instruction() -> None:
    rig = with_interrupt("cli\n mov eax, ss\n push 0x202\n mov ss, eax\n popfq\n nop\n hlt").run()
    assert rig.halted_in == 0x40
    assert rig.frame(has_error=False)["rip"] == CODE  # IF was set from the start
    rig = with_interrupt("mov eax, ss\n push 0x202\n mov ss, eax\n popfq\n nop\n hlt", is_enabled=False).run()
    assert rig.frame(has_error=False)["rip"] == CODE + 2 + 5 + 2 + 1


def test_popf_that_sets_if_lets_the_interrupt_in_at_once() -> None:
    rig = with_interrupt("push 0x202\n popfq\n nop\n hlt", is_enabled=False).run()
    assert rig.frame(has_error=False)["rip"] == CODE + 6


def test_a_halted_cpu_wakes_for_an_interrupt_that_comes_later() -> None:
    rig = with_interrupt("hlt\n nop")
    rig.shared.interrupt_pending = 0
    rig.run()
    assert (rig.is_halted, rig["rip"]) == (True, CODE + 1)
    before = int(rig.shared.clock_cycles)
    rig.run()
    assert rig.shared.clock_cycles == before
    rig.shared.interrupt_pending = 1
    rig.run()
    assert rig.halted_in == 0x40
    assert rig.frame(has_error=False)["rip"] == CODE + 1


def test_a_halted_cpu_with_if_clear_sleeps_on() -> None:
    rig = with_interrupt("hlt\n nop", is_enabled=False).run().run()
    assert (rig.is_halted, rig["rip"]) == (True, CODE + 1)


def test_a_second_pending_interrupt_waits_for_the_handlers_iret() -> None:
    rig = with_interrupt("nop\n hlt", vectors=(0x40, 0x41))
    rig.put(HANDLERS + 0x400, b"\x90\x48\xcf")  # NOP, IRETQ
    rig.run()
    assert rig.halted_in == 0x41
    assert rig.shared.instructions == 3
    assert rig.frame(has_error=False)["rip"] == CODE


def test_an_interrupt_that_a_port_write_raises_is_taken_behind_it() -> None:
    rig = with_interrupt("out 0x10, al\n nop\n hlt")
    rig.shared.interrupt_pending = 0
    rig.platform.on_port = lambda port: setattr(rig.shared, "interrupt_pending", 1)
    rig.run()
    assert rig.halted_in == 0x40
    assert rig.frame(has_error=False)["rip"] == CODE + 2


def test_single_step_traps_behind_each_instruction() -> None:
    rig = Rig("push 0x102\n popfq\n nop\n cpuid\n in al, 0x10\n nop\n int 0x30")
    target = HANDLERS + 0x2000
    rig.set_gate(1, target=target, ist=1)
    rig.put(target, assemble("mov rax, [rsp]\n mov [rdi], rax\n add rdi, 8\n mov r8, dr6\n iretq", 64, target))
    rig["rdi"] = DATA
    rig.run()
    assert rig.words(DATA, 6) == [*(CODE + n for n in (7, 9, 11, 12)), 0, 0]
    assert rig["r8"] == 0xFFFF4FF0
