"""What a sidecore does with a request: read it, carry it out, answer.

guest     store --.                       sees the state --> result
line              `--visible--.           ^
sidecore          poll, transfer | operation, store --visible--'
                  <------- in the account "sidecall NAME" ------->
"""

from collections.abc import Callable, Mapping
from functools import partial

from emulator.engine import FLUSH_ALL
from emulator.ledger import HOST, IDLING, Category
from emulator.timing.shared_lines import SharedLines
from vmm.core import Core, Sender
from vmm.cost import paths
from vmm.sidecore import abi
from vmm.sidecore.flush import Flush
from vmm.sidecore.operations import Operation
from vmm.sidecore.slots import Served, Slot, SlotPage
from vmm.sidecore.worker import Worker
from vmm.vcpu import VCpu

HEADER_BYTES = 40  # of a slot: what a request has
ANSWER_BYTES = 32


class Requests:
    """The requests that `sidecore` serves, by `operations`."""

    WIRED = ("on_taken", "on_served")

    def __init__(self, sidecore: Sender, lines: SharedLines, operations: Mapping[int, Operation]) -> None:
        self.core_of: Callable[[VCpu], Core | None] = lambda vcpu: None  # that runs it; set by who knows
        self.on_taken: Callable[[Served], None] | None = None  # who wants to know of each request: it begins,
        self.on_served: Callable[[Served], None] | None = None  # and it is done
        self._sidecore = sidecore
        self._lines = lines
        self._operations = dict(operations)

    @property
    def names(self) -> list[str]:
        """Of the operations."""
        return [operation.name for operation in self._operations.values()]

    def serve(self, slot: Slot) -> None:
        """Serve what is posted there."""
        pcpu, page = self._sidecore.pcpu, slot.page
        began_cycles = pcpu.clock.cycles
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
        if self.on_taken is not None:
            self.on_taken(Served(page.domain.number, name, visible_cycles, began_cycles, began_cycles))
        pcpu.clock.open_account(f"d{page.domain.number}", f"sidecall {name}")
        self._load_line(slot)
        meter, worker = self._sidecore.meter, Worker(page.vcpus[0], self._sidecore.meter)
        meter.follow(paths.SIDECALL)
        meter.touch(slot.hpa, HEADER_BYTES, False)
        answer = self._carry_out(slot, request, worker)
        meter.follow(paths.SIDECALL_ANSWER)
        if answer.status != abi.OK:
            counts.errors += 1
        pcpu.clock.issue_store(ANSWER_BYTES)
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
        pcpu = self._sidecore.pcpu
        hardware_cycles = pcpu.profile.vmx.remote_tlb_flush_cycles
        in_guest: list[Core] = []
        for vcpu in page.vcpus:
            vcpu.shared.flush_tlb = FLUSH_ALL
            core = self.core_of(vcpu)
            if core is not None:
                in_guest.append(core)
        if in_guest and not hardware_cycles:
            Flush(self._sidecore, self._lines, page.domain, in_guest, then)
            return
        if in_guest:
            self._sidecore.meter.pay(
                Category.COHERENCE, hardware_cycles, "TLB flush by hardware", "vmx.remote_tlb_flush_cycles"
            )
            self._sidecore.meter.commit()
        then(pcpu.clock.cycles)

    def _store_answer(self, slot: Slot, answer: abi.Answer, now_cycles: int) -> None:
        """The sidecore stores the answer at `now_cycles`; it can be seen when the line is its."""
        timeline = self._sidecore.pcpu.timeline
        seen_cycles = now_cycles + self._lines.store_cycles(self._sidecore.pcpu.number, slot.hpa)
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
            self._lines.store(self._sidecore.pcpu.number, slot.hpa, issued_cycles)
            self._sidecore.pcpu.clock.store_seen(slot.hpa, ANSWER_BYTES)
            slot.answer(answer, is_open=slot.page.is_open)

    def _load_line(self, slot: Slot) -> None:
        """Get the line; `detailed` has its cost from the caches, when it is touched."""
        cycles = self._lines.load(self._sidecore.pcpu.number, slot.hpa)
        if self._sidecore.pcpu.clock.fidelity != "detailed":
            self._sidecore.pcpu.clock.charge(Category.COHERENCE, cycles)
