"""Where a Linux lies that was not loaded where it was linked."""

import pytest

import sidecore
from emulator.vmx import fields as f
from guest_images.images import resolve
from tests.vmm.session.debugger.views.rig import MIB, stopped
from vmm.session.debugger.views.backtrace import backtrace
from vmm.session.debugger.views.subject import Subject
from vmm.session.report.guest_report import guest_report
from vmm.session.slide import GATE_BYTES, gate_address, slide_of
from vmm.session.symbols import Symbol, Symbols, symbols_of

IDT = 28 * MIB  # memory that the kernel does not use
LINKED = 0xFFFF_FFFF_8180_0AE0
SYMBOLS = Symbols(
    [Symbol(LINKED, 0, "asm_exc_page_fault", True), Symbol(LINKED - 8000, 0, "early_idt_handler_array", True)]
)


def with_handler(address: int) -> Subject:
    """A guest whose IDT leads there by vector 14."""
    subject = stopped("default", "ept", 1_000_000)
    data = (address & (1 << 64) - 1).to_bytes(8, "little")
    subject.memory.write(IDT + 14 * 16, data[:2] + b"\x10\0\0\x8e" + data[2:] + bytes(4))
    subject.vmcs.save(f.GUEST_IDTR_BASE, IDT)
    return Subject(subject.guest, 0, SYMBOLS)


def slide_in(subject: Subject) -> int:
    return slide_of(SYMBOLS, subject.read_gva(gate_address(subject.vmcs), GATE_BYTES))


@pytest.mark.parametrize("slide", [0, 2 * MIB, 0x20A0_0000, -2 * MIB])
def test_the_idt_tells_how_far_a_kernel_was_moved(slide: int) -> None:
    subject = with_handler(LINKED + slide)
    assert slide_in(subject) == slide
    subject.find_kernel()
    subject.find_kernel()
    assert subject.symbols.name_of(LINKED + slide + 3) == "asm_exc_page_fault+0x3"


def test_early_handlers_tell_it_too() -> None:
    assert slide_in(with_handler(LINKED - 8000 + 14 * 9 + 4 * MIB)) == 4 * MIB
    assert slide_in(with_handler(LINKED - 8000 + 14 * 13 + 4 * MIB)) == 4 * MIB


@pytest.mark.parametrize("handler", [0, LINKED + 4096, LINKED + (2 << 30), (1 << 64) - 1, 0x100000])
def test_another_handler_tells_nothing(handler: int) -> None:
    subject = with_handler(handler)
    assert slide_in(subject) == 0
    subject.find_kernel()
    assert subject.symbols is SYMBOLS
    assert slide_of(Symbols(), bytes(GATE_BYTES)) == 0


def test_an_idt_that_is_not_mapped_tells_nothing() -> None:
    subject = with_handler(LINKED)
    for base in (1 << 47, (1 << 64) - 8):
        subject.vmcs.save(f.GUEST_IDTR_BASE, base)
        assert slide_in(subject) == 0


@pytest.mark.slow
def test_debians_kernel_is_found_where_it_has_put_itself() -> None:
    image = resolve("linux")
    kernel = image.kernel.with_name("bzImage")
    world = sidecore.World()
    spec = sidecore.GuestSpec(kernel=kernel, initrd=image.initrd, append="console=ttyS0 mitigations=off")
    guest = world.add_host(sidecore.HostSpec(paging="ept")).add_guest(spec)
    world.run(sidecore.Limits(until="BusyBox shell ready", max_cycles=6_000_000_000))
    world.run(sidecore.Limits(max_cycles=world.cycles + 500_000_000))
    symbols = symbols_of(kernel)
    subject = Subject(guest.built, 0, symbols)
    slide = slide_of(symbols, subject.read_gva(gate_address(subject.vmcs), GATE_BYTES))
    assert slide > 0
    assert slide % (2 * MIB) == 0
    subject.find_kernel()
    names = [frame.symbol.partition("+")[0] for frame in backtrace(subject).guest]
    assert "do_idle" in names
    assert "rest_init" in names
    assert "code on the stack: " in guest_report(guest.built, symbols)
    assert "do_idle" in guest_report(guest.built, symbols)
