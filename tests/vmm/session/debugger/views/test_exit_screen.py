"""The stop at an exit: eight lines, with what is known when it begins and when its handler is done."""

from dataclasses import replace

import sidecore
from emulator.vmx.exit_reasons import ExitReason
from tests.vmm.session.debugger.views.rig import Looker, Watcher, looked_at
from vmm.exits.table import EXIT_HANDLERS
from vmm.outcome import Outcome
from vmm.session.debugger.views.exit_screen import ExitScreen, exit_screen
from vmm.session.debugger.views.subject import Subject
from vmm.vcpu import Exit, VCpu


class Screens(Watcher):
    """The screens of all exits, as they begin and as they are handled."""

    def __init__(self) -> None:
        super().__init__()
        self.began: list[ExitScreen] = []
        self.handled: list[ExitScreen] = []
        self._before: tuple[int, ...] | None = None

    def exit_began(self, vcpu: VCpu, exit: Exit) -> None:
        subject = self.subjects[0]
        self.began.append(exit_screen(subject, number=len(self.began) + 1, before=self._before))
        self._before = subject.words()

    def exit_handled(self, vcpu: VCpu, exit: Exit, outcome: Outcome) -> None:
        self.handled.append(exit_screen(self.subjects[0], before=self._before))


def screens_of(image: str, paging: sidecore.Paging, cycles: int) -> Screens:
    screens = Screens()
    world = looked_at(screens, image, paging)
    world.run(sidecore.Limits(max_cycles=cycles))
    assert len(screens.began) >= 20
    return screens


def test_every_screen_fits_eight_lines_of_80_columns() -> None:
    for paging in ("shadow", "ept"):
        screens = screens_of("apic", paging, 2_000_000)
        for screen in screens.began + screens.handled:
            lines = screen.text().splitlines()
            assert 6 <= len(lines) <= 8
            assert max(map(len, lines)) <= 80


def test_a_screen_says_what_exited_where_and_who_handles_it() -> None:
    screen = next(s for s in screens_of("default", "shadow", 500_000).began if s.reason == "CR_ACCESS")
    lines = screen.text().splitlines()
    assert lines[0] == f"VM exit {screen.number}, d0v0 on pcpu0 at cycle {screen.began_cycles:,}"
    assert lines[1] == "CR_ACCESS: MOV rax from CR3"
    assert lines[2].startswith("guest   RIP 101")
    assert lines[2].endswith(" CPL 0: mov rax, cr3")
    assert "<guest_start+" in lines[2]
    assert lines[3] == "why     CR3-store exiting (primary processor-based controls, bit 16)"
    assert "next    handle_cr_access: MOV to and from CR0, CR3, CR4, CR8; CLTS; LMSW." in lines


def test_the_cost_grows_from_0_to_what_the_statistics_say() -> None:
    screens = screens_of("default", "ept", 500_000)
    pairs = list(zip(screens.began, screens.handled, strict=False))
    assert all(began.cycles == 0 < handled.cycles for began, handled in pairs)
    first = next(began for began, _ in pairs if began.reason == "CPUID")
    assert (first.median_cycles, first.count) == (None, 0)
    others = [(began, handled) for began, handled in pairs if began.reason == "CPUID" and began.count]
    assert others
    for began, handled in others:
        assert began.median_cycles is not None
        assert handled.cycles < began.median_cycles


def test_changed_fields_are_those_of_the_guest_since_the_last_exit_and_the_handlers_own() -> None:
    screens = screens_of("default", "shadow", 1_000_000)
    assert any("GUEST_RSP" in screen.changed for screen in screens.began)
    assert any("CR0_READ_SHADOW" in screen.changed for screen in screens.handled if screen.reason == "CR_ACCESS")


def test_a_handler_of_the_users_own_is_named() -> None:
    def count_cpuid(vcpu: VCpu) -> Outcome:
        """Counts, then does what the VMM does."""
        return EXIT_HANDLERS[ExitReason.CPUID](vcpu)

    screens = Looker(look=lambda subject, exit: seen.append(exit_screen(subject)))
    seen: list[ExitScreen] = []
    world = sidecore.World()
    host = world.add_host(sidecore.HostSpec(paging="ept"))
    host.add_guest(sidecore.GuestSpec(image="default"))
    host.add_exit_handler(ExitReason.CPUID, count_cpuid)
    host.observe(screens)
    world.build()
    screens.subjects = [Subject(world.guests[0].built)]
    world.run(sidecore.Limits(max_cycles=300_000))
    screen = next(screen for screen in seen if screen.reason == "CPUID")
    assert (screen.handler, screen.handler_does) == ("count_cpuid", "Counts, then does what the VMM does.")


def test_what_does_not_fit_goes_on_in_a_second_line_and_is_cut_at_the_eighth() -> None:
    screen = screens_of("default", "shadow", 500_000).began[0]
    long = replace(
        screen, symbol="a_function_with_quite_a_long_name+0x1234", instruction="mov dword ptr [rdi - 0xa03000], esi",
        handler_does="word " * 60, cause=replace(screen.cause, control="a control " * 30),
    )  # fmt: skip
    lines = long.text().splitlines()
    assert len(lines) == 8
    assert max(map(len, lines)) <= 80
    assert lines[3].startswith("        ")
    assert lines[3].endswith("[rdi - 0xa03000], esi")
    assert lines[4].startswith("why ")
    assert lines[4].endswith("...")
    assert lines[7].startswith("next    ")
    assert lines[7].endswith("...")
