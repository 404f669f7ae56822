"""vCPUs that sleep for long give back the memory that their engines have for translations.

    sleep --> asleep --no engine runs--> nothing due soon, a lot kept, not just rested? --> Engine.rest

No cycle depends on it: translations come again as they are needed. That costs the workstation some ten milliseconds,
so a vCPU rests once in REST_PERIOD_PS at most; all times are emulated, so that equal runs do equal work.
"""

from emulator.events import PS_PER_SECOND
from vmm.vcpu import VCpu

LONG_SLEEP_PS = PS_PER_SECOND // 20
REST_PERIOD_PS = PS_PER_SECOND // 10
KEPT_BYTES = 2 << 20  # of an engine that rests; with what it has besides, less than 8 MiB


class Resting:
    """The vCPUs of one core that have gone to sleep."""

    def __init__(self) -> None:
        self._asleep: list[VCpu] = []
        self._rested_ps: dict[VCpu, int] = {}  # when each rested last

    def sleep(self, vcpu: VCpu) -> None:
        """The vCPU sleeps from now on; its engine may still run this."""
        self._asleep.append(vcpu)

    def settle(self, now_ps: int) -> None:
        """No engine runs: let those rest that can."""
        asleep, self._asleep = self._asleep, []
        for vcpu in asleep:
            if vcpu.is_blocked and self._sleeps_long(vcpu, now_ps) and vcpu.engine.cached_bytes > KEPT_BYTES:
                vcpu.engine.rest()
                self._rested_ps[vcpu] = now_ps

    def _sleeps_long(self, vcpu: VCpu, now_ps: int) -> bool:
        due = [when_ps for queue in (vcpu.timers, vcpu.domain.timers) if (when_ps := queue.next_ps()) is not None]
        is_long = min(due, default=now_ps + LONG_SLEEP_PS) >= now_ps + LONG_SLEEP_PS
        return is_long and now_ps >= self._rested_ps.get(vcpu, -REST_PERIOD_PS) + REST_PERIOD_PS
