"""A core that is a sidecore now and runs guests then, as a policy says.

                     the core leaves its guest, vCPUs go to others           slots open
    RUNS GUESTS  ---------------------------------------------------->  SERVES
                 <----------------------------------------------------
                     slots close, what was posted is served, the scheduler has the core again

A guest finds its slots closed while nobody serves, and does by VM exits what it would have asked for. It may have seen
a slot open just before; what it posts then is answered as closed (ECLOSED) at the next sample.

Samples are taken at multiples of the policy's period on the machine's clock, and not while nothing but the outside
could wake any core. MODEL: taking one takes no time, and the core that is wanted gets its interrupt from nobody.
"""

from collections.abc import Sequence

from emulator.events import Event
from emulator.ledger import HOST, IDLING
from emulator.machine import Machine
from vmm.core import INTERRUPTS, Core
from vmm.scheduler import Scheduler
from vmm.sidecore.policy import Policy, Sample, UseMeter
from vmm.sidecore.registry import Sidecores
from vmm.vcpu import VCpu

PS_PER_US = 10**6


class DynamicSidecore:
    """Lets the last of `cores` change between its two duties. It starts with guests."""

    def __init__(
        self,
        machine: Machine,
        cores: Sequence[Core],
        scheduler: Scheduler[VCpu],
        sidecores: Sidecores,
        policy: Policy,
    ) -> None:
        self.sidecore = sidecores.cores[0]
        self.is_wanted = False
        self.changes: list[tuple[int, bool]] = []  # (when in ps, whether it serves from then on)
        self._machine = machine
        self._cores = cores
        self._core = cores[-1]
        self._scheduler = scheduler
        self._sidecores = sidecores
        self._policy = policy
        self._meter = UseMeter(machine.pcpus)
        self._event: Event | None = None
        self._core.duty = self

    # --- samples -----------------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Take samples, if that was left off: a core has something to do."""
        if self._event is None:
            events, period_ps = self._machine.events, self._policy.period_us * PS_PER_US
            now_ps = max(events.now_ps, self._machine.pcpus[0].clock.now_ps)
            self._event = events.schedule(now_ps - now_ps % period_ps + period_ps, self._sample)

    def _sample(self) -> None:
        machine, events = self._machine, self._machine.events
        for pcpu in machine.pcpus:
            pcpu.waiting.pass_time(machine.timeline.event_cycles)
            pcpu.clock.book()
        sample = Sample(
            now_ps=events.now_ps,
            cores=self._meter.take(),
            candidate=self._core.pcpu.number,
            is_sidecore=self.is_wanted,
            waiting_vcpus=self._scheduler.waiting_count,
        )
        self._event = None
        self.want(self._policy.wants_sidecore(sample))
        if not self.sidecore.is_on_duty:
            self._sidecores.answer_late_posts()
        if events.next_ps() is not None or any(pcpu.waiting.ready_cycles is not None for pcpu in machine.pcpus):
            self.resume()

    # --- changes -----------------------------------------------------------------------------------------------------

    def want(self, is_wanted: bool) -> None:
        """Let the core become a sidecore, or run guests again. Nothing happens when a vCPU may run nowhere else."""
        if is_wanted == self.is_wanted:
            return
        core = self._core
        if is_wanted and not self._scheduler.retire(core.pcpu.number):
            return
        self.is_wanted = is_wanted
        if self.sidecore.is_on_duty:
            self._sidecores.set_served(is_wanted)
            core.pcpu.waiting.wake(self.sidecore.poll_end_cycles(self._machine.timeline.event_cycles))
        else:
            if not is_wanted:
                self._scheduler.enlist(core.pcpu.number)
            core.ask(None)

    def run(self, deadline_cycles: int) -> bool:
        """The core's turn, if it serves; False: it runs guests, from now on or still."""
        sidecore, pcpu = self.sidecore, self._core.pcpu
        if not sidecore.is_on_duty:
            return False
        if pcpu.interrupts.is_asserted:  # MODEL: polling, it takes them when a request comes
            pcpu.clock.open_account(HOST, INTERRUPTS)
            self._core.take_interrupts()
            pcpu.clock.open_account(HOST, IDLING)
        if not self.is_wanted and sidecore.is_drained:
            sidecore.end_duty()
            self.changes.append((pcpu.clock.now_ps, False))
            self._scheduler.enlist(pcpu.number)
            self._core.needs_scheduling = True
            return False
        sidecore.run(deadline_cycles)
        if not self.is_wanted and sidecore.is_drained:
            pcpu.waiting.wake(pcpu.clock.cycles)
        return True

    def begin(self) -> bool:
        """The core has no vCPU to run: it may serve. Whether it does."""
        if not self.is_wanted:
            return False
        core = self._core
        core.hand_over(self._cores[0])
        for other in self._cores[:-1]:
            if other.current is None:
                other.ask(core)  # a vCPU that was here may run there
        self.changes.append((core.pcpu.clock.now_ps, True))
        self._sidecores.set_served(True)
        self.sidecore.begin_duty()
        return True
