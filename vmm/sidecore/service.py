"""The loop of a sidecore: poll the slots one after the other, serve what is posted, answer, go on with the next slot.

    guest   store --.                       sees the state --> result
    line            `--visible--.           ^
    sidecore  poll poll poll poll, transfer | operation, store --visible--'
              <- jumped over -> <------- in the account "sidecall NAME" ------->

Polling is not executed: slot k of n is looked at every n polls, so the poll that finds a request follows from when the
request could be seen. Who has the lines, and how long a transfer takes, says emulator/timing/shared_lines.py.
With `mwait` it sleeps after a look at every slot, and a store to any of them wakes it (events.mwait_wake_ns).
MODEL: one MONITOR watches all slots' lines; the looks before it sleeps are booked as idle too.
MODEL: a poll sees its slot when it begins; the sidecore's stores wait in its store buffer, not it.
"""

from collections.abc import Callable, Mapping
from functools import partial

from emulator.clock import NO_HORIZON
from emulator.engine import FLUSH_ALL
from emulator.events import PS_PER_NS
from emulator.ledger import HOST, IDLING, Category
from emulator.pcpu import PCpu
from emulator.timing.shared_lines import SharedLines
from vmm.core import Core
from vmm.cost import paths
from vmm.cost.meter import Meter
from vmm.host_apic import HostApic, LocalApic
from vmm.sidecore import abi
from vmm.sidecore.flush import Flush
from vmm.sidecore.operations import OPERATIONS, Operation
from vmm.sidecore.poll import Poll
from vmm.sidecore.slots import Served, Slot, SlotPage
from vmm.sidecore.worker import Worker
from vmm.vcpu import VCpu

HEADER_BYTES = 40  # of a slot: what a request has
ANSWER_BYTES = 32


class Sidecore:
    """A core in root mode that serves the pages it is given. `jumps` False: every poll is executed, for comparison."""

    def __init__(
        self,
        pcpu: PCpu,
        chip: LocalApic,
        lines: SharedLines,
        *,
        poll: Poll = "spin",
        jumps: bool = True,
        is_on_duty: bool = True,
        operations: Mapping[int, Operation] = OPERATIONS,
    ) -> None:
        self.pcpu = pcpu
        self.meter = Meter(pcpu)
        self.apic = HostApic(chip, self.meter)
        self.pages: list[SlotPage] = []
        self.is_on_duty = is_on_duty  # if not, the core runs guests: see dynamic.py
        self._is_dedicated = is_on_duty
        self.core_of: Callable[[VCpu], Core | None] = lambda vcpu: None  # that runs it; set by who knows
        self.on_served: Callable[[Served], None] | None = None  # who wants to know of each request
        self._lines = lines
        self._operations = dict(operations)
        self._sleeps = poll == "mwait"
        self._jumps = jumps or self._sleeps
        self._wake_cycles = pcpu.timeline.ps_to_cycles(pcpu.profile.events.mwait_wake_ns * PS_PER_NS)
        self._slots: list[Slot] = []
        self._position = 0  # the slot that is looked at next,
        self._since_cycles = 0  # at this time
        self._finds: tuple[int, Slot] | None = None  # (when, what) the polling will find
        profile = pcpu.profile
        self._poll_cycles = paths.POLL.cycles(profile) + profile.caches.l1d_latency_cycles
        if is_on_duty:
            self._poll_on()

    # --- pages -------------------------------------------------------------------------------------------------------

    def add(self, page: SlotPage, now_cycles: int) -> None:
        """Serve `page` from now on."""
        self._change_pages([*self.pages, page], now_cycles)

    def remove(self, page: SlotPage, now_cycles: int) -> None:
        """Serve `page` no longer; what it has posted is forgotten."""
        self._change_pages([other for other in self.pages if other is not page], now_cycles)

    def _change_pages(self, pages: list[SlotPage], now_cycles: int) -> None:
        """The slots are others from the first poll at or after `now_cycles` on; it looks at the first of them."""
        if not self.is_on_duty:
            self._set_pages(pages)
            return
        if self._slots:
            polls = max(0, -(-(now_cycles - self._since_cycles) // self._poll_cycles))
            self._since_cycles += polls * self._poll_cycles
        else:
            self._since_cycles = max(now_cycles, self._since_cycles)
        self._set_pages(pages)
        self.pcpu.waiting.pass_time(self._since_cycles)
        self._poll_on()

    def _set_pages(self, pages: list[SlotPage]) -> None:
        self.pages = pages
        self._slots = [slot for page in pages for slot in page.slots]
        self._position = 0
        self._finds = None
        if self.is_on_duty:
            for slot in self._slots:
                self._expect(slot)

    # --- duty --------------------------------------------------------------------------------------------------------

    def begin_duty(self) -> None:
        """Poll from now on."""
        self.is_on_duty = True
        self._since_cycles = self.pcpu.clock.cycles
        self._set_pages(self.pages)
        self._poll_on()

    @property
    def is_drained(self) -> bool:
        """Whether nothing is posted that could be seen."""
        return all(slot.visible_cycles is None for slot in self._slots if slot.page.is_alive)

    def poll_end_cycles(self, now_cycles: int) -> int:
        """When the poll in progress at `now_cycles` ends: then the core can turn to something else."""
        if self._sleeps or not self._slots:
            return now_cycles
        return (
            self._since_cycles + max(0, -(-(now_cycles - self._since_cycles) // self._poll_cycles)) * self._poll_cycles
        )

    def end_duty(self) -> None:
        """Poll no longer; the core does something else."""
        self.is_on_duty = False
        self._finds = None

    # --- a turn ------------------------------------------------------------------------------------------------------

    def run(self, deadline_cycles: int) -> None:
        """Serve what polling has found."""
        pcpu = self.pcpu
        if self._slots and not self._jumps:
            self._poll_until(min(deadline_cycles, pcpu.clock.horizon_cycles + 1, self._next_event_cycles()))
        if self._finds is not None and self._finds[0] <= pcpu.clock.cycles <= pcpu.clock.horizon_cycles:
            slot = self._finds[1]
            self._finds = None
            if slot.visible_cycles is not None and slot.page.is_alive:
                self._position = self._slots.index(slot) + 1
                self._serve(slot)
            self._drop_ended()
            self._look_on()
        self._poll_on()

    def _look_on(self) -> None:
        """Polling begins anew behind the slot that was served."""
        self._since_cycles = self.pcpu.clock.cycles
        for slot in self._slots:
            self._expect(slot)

    def _poll_on(self) -> None:
        """Poll from now on; without slots there is nothing to poll."""
        self.pcpu.waiting.wait(Category.SPIN if self._slots and not self._sleeps else Category.IDLE)
        if self._finds is not None:
            self._wake()
        elif self._slots and not self._jumps:
            self.pcpu.waiting.wake(self._since_cycles)

    def _poll_until(self, limit_cycles: int) -> None:
        """Execute polls up to the one that finds something, or to the limit."""
        pcpu = self.pcpu
        account = pcpu.clock.ledger.account(HOST, IDLING)
        while pcpu.clock.cycles < limit_cycles and not (self._finds and self._finds[0] <= pcpu.clock.cycles):
            account[Category.SPIN] += self._poll_cycles
            pcpu.clock.commit(self._poll_cycles)

    def _next_event_cycles(self) -> int:
        """When the machine's next event is due, which may end the duty."""
        next_cycles = self.pcpu.timeline.next_event_cycles()
        return NO_HORIZON if next_cycles is None else next_cycles

    def _drop_ended(self) -> None:
        if any(not page.is_alive for page in self.pages):
            self.pages = [page for page in self.pages if page.is_alive]
            self._slots = [slot for page in self.pages for slot in page.slots]
            self._position = 0

    def notice(self, slot: Slot, visible_cycles: int) -> None:
        """A guest has stored to `slot`; that can be seen from `visible_cycles` on."""
        if slot.is_in_service or slot.visible_cycles is not None or not slot.page.is_alive:
            return
        if abi.state_of(slot.read()) & abi.STATE == abi.POSTED:
            slot.visible_cycles = visible_cycles
            if self.is_on_duty:
                self._expect(slot)
            if self._finds is not None:
                self._wake()

    def _wake(self) -> None:
        """Go on when polling finds something; the guest that waits for it is to get there, too."""
        assert self._finds is not None
        when_cycles, slot = self._finds
        self.pcpu.waiting.wake(when_cycles)
        slot.page.vcpus[0].pcpu.waiting.end_spin(when_cycles)

    def will_wake(self, slot: Slot) -> bool:
        """Whether nothing happens to the request in `slot` before the guest's spinning is ended here."""
        if not self._is_dedicated:
            return False
        is_queued = slot.visible_cycles is not None and self._finds is not None and self._finds[1] is not slot
        return is_queued or slot.is_in_service

    def _expect(self, slot: Slot) -> None:
        """Work out which poll finds the request in `slot`, if it has one."""
        if slot.visible_cycles is None or not slot.page.is_alive:
            return
        count, poll_cycles = len(self._slots), self._poll_cycles
        first = (self._slots.index(slot) - self._position) % count
        since_cycles = self._since_cycles
        if self._sleeps and slot.visible_cycles > since_cycles + count * poll_cycles:  # nothing found: it sleeps
            since_cycles = slot.visible_cycles + self._wake_cycles
        late = slot.visible_cycles - since_cycles - first * poll_cycles
        rounds = max(0, -(-late // (count * poll_cycles)))
        when_cycles = since_cycles + (first + rounds * count) * poll_cycles
        if self._finds is None or when_cycles < self._finds[0]:
            self._finds = (when_cycles, slot)

    # --- a request ---------------------------------------------------------------------------------------------------

    def _serve(self, slot: Slot) -> None:
        pcpu, page, began_cycles = self.pcpu, slot.page, self.pcpu.clock.cycles
        assert slot.visible_cycles is not None
        counts = page.counts
        counts.requests += 1
        visible_cycles = slot.visible_cycles
        waited_cycles = began_cycles - visible_cycles
        counts.waiting_cycles += waited_cycles
        counts.waiting_max_cycles = max(counts.waiting_max_cycles, waited_cycles)
        slot.visible_cycles, slot.is_in_service = None, True
        request = abi.unpack(slot.read())
        operation = self._operations.get(request.operation)
        name = "unknown" if operation is None else operation.name
        pcpu.clock.open_account(f"d{page.domain.number}", f"sidecall {name}")
        self._load_line(slot)
        meter, worker = self.meter, Worker(page.vcpus[0], self.meter)
        meter.follow(paths.SIDECALL)
        meter.touch(slot.hpa, HEADER_BYTES, False)
        answer = self._carry_out(slot, request, worker)
        meter.follow(paths.SIDECALL_ANSWER)
        if answer.status != abi.OK:
            counts.errors += 1
        meter.touch(slot.hpa, ANSWER_BYTES, True)
        meter.commit()
        if worker.needs_flush:
            self._flush(page, partial(self._store_answer, slot, answer))
        else:
            self._store_answer(slot, answer, pcpu.clock.cycles)
        counts.service_cycles += pcpu.clock.cycles - began_cycles
        if self.on_served is not None:
            self.on_served(Served(page.domain.number, name, visible_cycles, began_cycles, pcpu.clock.cycles))
        pcpu.clock.open_account(HOST, IDLING)

    def _flush(self, page: SlotPage, then: Callable[[int], None]) -> None:
        """Flush the TLBs of all vCPUs of the page's domain; `then` gets the time when all are."""
        pcpu = self.pcpu
        hardware_cycles = pcpu.profile.vmx.remote_tlb_flush_cycles
        in_guest: list[Core] = []
        for vcpu in page.vcpus:
            vcpu.shared.flush_tlb = FLUSH_ALL
            core = self.core_of(vcpu)
            if core is not None:
                in_guest.append(core)
        if in_guest and not hardware_cycles:
            Flush(self, self._lines, page.domain, in_guest, then)
            return
        if in_guest:
            self.meter.pay(Category.COHERENCE, hardware_cycles, "TLB flush by hardware", "vmx.remote_tlb_flush_cycles")
            self.meter.commit()
        then(pcpu.clock.cycles)

    def _store_answer(self, slot: Slot, answer: abi.Answer, now_cycles: int) -> None:
        """The sidecore stores the answer at `now_cycles`; it can be seen when the line is its."""
        timeline = self.pcpu.timeline
        seen_cycles = now_cycles + self._lines.store_cycles(self.pcpu.number, slot.hpa)
        timeline.events.schedule(timeline.cycles_to_ps(seen_cycles), partial(self._answer, slot, answer, now_cycles))
        slot.answer_cycles = seen_cycles
        slot.page.vcpus[0].pcpu.waiting.end_spin(seen_cycles - 1)

    def _carry_out(self, slot: Slot, request: abi.Request, worker: Worker) -> abi.Answer:
        if not slot.page.is_open:
            return abi.Answer(abi.ECLOSED)
        if request.sequence == slot.last_sequence:
            return abi.Answer(abi.ESEQUENCE)
        slot.last_sequence = request.sequence
        operation = self._operations.get(request.operation)
        if operation is None:
            return abi.Answer(abi.EOPERATION)
        return operation.function(worker, request.arguments)

    def _answer(self, slot: Slot, answer: abi.Answer, issued_cycles: int) -> None:
        """The answer can be seen now."""
        slot.is_in_service, slot.answer_cycles = False, None
        if slot.page.is_alive:
            self._lines.store(self.pcpu.number, slot.hpa, issued_cycles)
            slot.answer(answer, is_open=slot.page.is_open)

    def _load_line(self, slot: Slot) -> None:
        """Get the line; `detailed` has its cost from the caches, when it is touched."""
        cycles = self._lines.load(self.pcpu.number, slot.hpa)
        if self.pcpu.clock.fidelity != "detailed":
            self.pcpu.clock.charge(Category.COHERENCE, cycles)
