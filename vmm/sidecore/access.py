"""The guest's accesses to its page of slots: in order of time, with what the lines take; and its spinning.

    load or store --> trap (emulator/engine/watched_page.c) --> now? --> the line's cost --> the access itself
                                                                |
                                              no: another core is behind; again in another turn

A guest that waits for an answer loads the same word again and again: rounds that nobody could end are jumped over
(spinning.py).
"""

from functools import partial

from emulator.timing.shared_lines import SharedLines
from vmm.line_access import LineAccess
from vmm.sidecore import abi
from vmm.sidecore.service import Sidecore
from vmm.sidecore.slots import SlotPage
from vmm.spinning import Spin, Spinning
from vmm.vcpu import VCpu

LINE_MASK = abi.SLOT_BYTES - 1


class GuestAccess:
    """Accesses of `vcpu` to `page`, which `sidecore` serves. `jumps` False: every spin is executed."""

    def __init__(
        self, vcpu: VCpu, page: SlotPage, sidecore: Sidecore, lines: SharedLines, *, jumps: bool = True
    ) -> None:
        self._vcpu = vcpu
        self._page = page
        self._sidecore = sidecore
        self._access = LineAccess(vcpu, lines)
        self._jumps = jumps
        self._stored: tuple[int, int] | None = None  # (hpa, visible from)
        self._spinning = Spinning(vcpu, self._line)

    def begin(self, hpa: int, is_store: bool) -> bool:
        """May the access take place now? Charges what it takes."""
        access = self._access
        if not access.is_due:
            return False
        if is_store:
            self._spinning.forget()
            self._stored = (hpa, access.store(hpa))
            return True
        if access.load(hpa):
            self._spinning.forget()
            if not access.is_in_turn:
                return False
        spin = self._spinning.watch(hpa)
        if spin is not None and self._jumps:
            self._jump(spin)
        return not self._vcpu.pcpu.waiting.is_spinning

    def finish_store(self) -> None:
        """A store has taken place: it may have posted a request."""
        assert self._stored is not None
        hpa, visible_cycles = self._stored
        slot = self._page.slot_at(hpa)
        if slot is not None:
            self._sidecore.notice(slot, visible_cycles)
            if self._sidecore.is_on_duty:
                self._vcpu.pcpu.bound_by(self._sidecore.pcpu)

    # --- spinning ----------------------------------------------------------------------------------------------------

    def _line(self, hpa: int) -> bytes:
        page = self._page
        return page.domain.read(page.gpa + (hpa & ~LINE_MASK) - page.hpa, abi.SLOT_BYTES)

    def _jump(self, spin: Spin) -> None:
        """Jump over the rounds that end before anybody else can do anything to the line."""
        slot, waiting, spinning = self._page.slot_at(spin.load.hpa), self._vcpu.pcpu.waiting, self._spinning
        if slot is None or len(self._page.vcpus) > 1 or not self._sidecore.will_wake(slot):
            spinning.skip(spin, self._next_change_cycles())
        elif slot.answer_cycles is None:
            waiting.spin(partial(spinning.skip, spin))
        elif spinning.rounds_until(slot.answer_cycles, spin) > 0:
            waiting.spin(partial(spinning.skip, spin))
            waiting.end_spin(slot.answer_cycles - 1)

    def _next_change_cycles(self) -> int:
        """Until when the line stays as it is, and no interrupt comes.

        Of a guest with one processor only the sidecore changes it, by an event, or after it goes on; so other guests
        that are behind do not matter, though this core gets ahead of them.
        """
        shared, pcpu, ready = self._vcpu.shared, self._vcpu.pcpu, self._sidecore.pcpu.waiting.ready_cycles
        limit_cycles = min(int(shared.deadline_cycles), pcpu.clock.horizon_cycles)
        if ready is None or len(self._page.vcpus) > 1:
            return limit_cycles
        next_cycles = pcpu.timeline.next_event_cycles()
        return max(limit_cycles, ready if next_cycles is None else min(ready, next_cycles))
