"""Small kernels stopped here and there, and what all views have to keep to there."""

import inspect
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import sidecore
from emulator.errors import ConfigError
from emulator.timing.fidelity import Fidelity
from emulator.vmx import fields as f
from emulator.x86 import RSI, RSP
from guest_images.kernels import build_kernel
from vmm.outcome import Outcome
from vmm.session.debugger.views.backtrace import backtrace
from vmm.session.debugger.views.check import check
from vmm.session.debugger.views.disassembly import disassemble
from vmm.session.debugger.views.exit_screen import exit_screen
from vmm.session.debugger.views.info import cores, devices, guests
from vmm.session.debugger.views.interrupts import irq
from vmm.session.debugger.views.memory import examine, read_format
from vmm.session.debugger.views.page_map import aliases, page_map
from vmm.session.debugger.views.page_tables import tables
from vmm.session.debugger.views.page_walk import Access
from vmm.session.debugger.views.registers import registers
from vmm.session.debugger.views.sidecores import sidecores
from vmm.session.debugger.views.subject import WORD, Space, Subject
from vmm.session.debugger.views.translation import walk
from vmm.session.debugger.views.values import COLUMNS, View
from vmm.session.debugger.views.vmcs import changed, fields_of
from vmm.session.debugger.views.why import why
from vmm.session.symbols import symbols_of
from vmm.vcpu import Exit, VCpu

MIB = 1 << 20

VIEWS: dict[str, Callable[[Subject], View]] = {
    "registers": registers,
    "disassembly": lambda subject: disassemble(subject, before=4),
    "exit_screen": lambda subject: exit_screen(subject, number=1, before=subject.words()),
    "why": why,
    "vmcs": lambda subject: fields_of(subject, with_zeros=True),
    "changed": lambda subject: changed(subject, [0] * f.SLOT_COUNT),
    "check": lambda subject: check(subject, {"GUEST_RIP": 1 << 63}),
    "memory by gva": lambda subject: examine(subject, Space.GVA, subject.linear_rip, read_format("64xb")),
    "memory by gpa": lambda subject: examine(subject, Space.GPA, 0xFEDF_FFF0, read_format("8xg")),
    "memory by hpa": lambda subject: examine(
        subject, Space.HPA, subject.host_memory.size_bytes - 8, read_format("4dw")
    ),
    "text": lambda subject: examine(subject, Space.GVA, subject.gpr(RSI) & WORD, read_format("3s")),
    "addresses": lambda subject: examine(subject, Space.GVA, subject.gpr(RSP) & WORD, read_format("9a")),
    "walk": lambda subject: walk(subject, subject.linear_rip, Access(is_fetch=True)),
    "walk for a write": lambda subject: walk(subject, subject.gpr(RSP), Access(is_write=True, is_user=True)),
    "map": lambda subject: page_map(subject, attributes="x-u"),
    "aliases": lambda subject: aliases(subject, 0x100000),
    "tables": tables,
    "backtrace": lambda subject: backtrace(subject, inspect.currentframe()),
    "irq": irq,
    "sidecores": sidecores,
    "guests": lambda subject: guests([[subject]]),
    "cores": cores,
    "devices": devices,
}


def world_of(
    image: str = "default", paging: sidecore.Paging = "shadow", *, observer: sidecore.ExitObserver | None = None,
    timing: Fidelity = "fast", vcpu_count: int = 1, sidecore_count: int = 0,
) -> sidecore.World:  # fmt: skip
    """A world with one guest, a kernel of ours."""
    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(paging=paging, timing=timing, sidecore_count=sidecore_count))
    host.add_guest(sidecore.GuestSpec(image=image, memory_bytes=32 * MIB, vcpu_count=vcpu_count))
    if observer is not None:
        host.observe(observer)
    return world


def subject_of(world: sidecore.World, image: str = "default", number: int = 0) -> Subject:
    """A processor of its guest, with the kernel's symbols."""
    return Subject(world.guests[0].built, number, symbols_of(build_kernel(image)))


def stopped(image: str, paging: sidecore.Paging, cycles: int) -> Subject:
    """One that has run for so long."""
    world = world_of(image, paging)
    world.run(sidecore.Limits(max_cycles=cycles))
    return subject_of(world, image)


def state_bytes(world: sidecore.World, folder: Path) -> bytes:
    """All of a world, as a snapshot has it."""
    path = folder / "state"
    world.snapshot().write(path)
    return path.read_bytes()


def check_view(view: View) -> None:
    """Lines of 80 columns, and plain values."""
    lines = view.text().splitlines()
    assert lines
    assert [line for line in lines if len(line) > COLUMNS] == []
    assert json.loads(json.dumps(view.json())) == view.json()


def check_all(subject: Subject, names: Iterable[str] = VIEWS) -> None:
    """Every view, unless it says in one line why not."""
    for name in names:
        view = view_or_refusal(VIEWS[name], subject)
        if isinstance(view, str):
            assert "\n" not in view
        else:
            check_view(view)


def view_or_refusal(make: Callable[[Subject], View], subject: Subject) -> View | str:
    """What a view gives, or the line that says why it gives nothing."""
    try:
        return make(subject)
    except ConfigError as error:
        return str(error)


class Watcher(sidecore.ExitObserver):
    """Hears of exits, and has the subjects of all processors: see `looked_at`."""

    def __init__(self) -> None:
        self.subjects: list[Subject] = []


class Looker(Watcher):
    """Looks at every `every`-th exit, when it begins and when it is handled; `look` is called besides."""

    def __init__(self, every: int = 1, look: Callable[[Subject, Exit], None] | None = None) -> None:
        super().__init__()
        self.count = 0
        self._every, self._look = every, look

    def exit_began(self, vcpu: VCpu, exit: Exit) -> None:
        self.count += 1
        subject = self.subjects[vcpu.number]
        assert subject.exit == exit
        if self._look is not None:
            self._look(subject, exit)
        elif self.count % self._every == 0:
            check_all(subject)

    def exit_handled(self, vcpu: VCpu, exit: Exit, outcome: Outcome) -> None:
        if self._look is None and self.count % self._every == 0:
            check_all(self.subjects[vcpu.number])


def looked_at(
    looker: Watcher, image: str, paging: sidecore.Paging, *, timing: Fidelity = "fast", vcpu_count: int = 1
) -> sidecore.World:
    """A world, not run yet, that `looker` looks at."""
    world = world_of(image, paging, observer=looker, timing=timing, vcpu_count=vcpu_count)
    world.build()
    looker.subjects = [subject_of(world, image, number) for number in range(vcpu_count)]
    return world


def scramble(subject: Subject, rng: random.Random) -> None:
    """Whatever a guest, a VMM or a person who edits could leave in registers and in the pages they lead to."""
    for field in f.FIELDS:
        kind = rng.random()
        if kind < 0.5:
            subject.vmcs.save(field.encoding, rng.getrandbits(64) if kind < 0.3 else rng.choice(EDGES))
    for index in range(16):
        subject.engine.gpr[index] = rng.choice((*EDGES, rng.getrandbits(64)))
    pages = subject.host_memory.size_bytes >> 12
    for _ in range(8):  # tables that lead to themselves, to each other, out of memory
        hpa = rng.randrange(pages) << 12
        entry = rng.choice((hpa, rng.getrandbits(40) & ~0xFFF, rng.getrandbits(64))) | rng.choice((0, 1, 0x67, 0xE7))
        subject.host_memory.write(hpa, (entry & (1 << 64) - 1).to_bytes(8, "little") * 512)
        for field_number in (f.GUEST_CR3, f.EPT_POINTER):
            if rng.random() < 0.5:
                subject.vmcs.save(field_number, hpa | rng.choice((0, 0x1E)))


EDGES = (0, 1, 0x7FFF_FFFF_FFFF, 1 << 47, (1 << 64) - 1, (1 << 63) - 1, 1 << 63, 0xFFFF_8000_0000_0000, 0xFEE0_0000)
