"""What the VMM does for a vCPU is charged to the core that it does it on; no handler has "a cost".

    read, write    VMREAD, VMWRITE                                   vmx.vmread_cycles, vmx.vmwrite_cycles
    follow         the instructions of a path of paths.py            core.path_cycles_per_100_instructions
    execute        an instruction that is slower than those          instructions.*_cycles
    touch          words of memory, at their host-physical address   the core's caches (Clock.touch)
    begin_exit .. end_exit                                           vmx.exit_cycles*, vmx.entry_cycles

Charges go to the account of the exit's reason; after a sleep, `resume_exit` opens it again. explain.py shows them.
"""

from collections.abc import Callable

from emulator.engine import Engine
from emulator.ledger import RUNNING, STARTING, Account, Category
from emulator.pcpu import PCpu
from emulator.profiles.sections import BY_REASON
from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import name
from emulator.vmx.vmcs import Vmcs
from vmm.cost import paths

EXIT_REASON_MASK = 0xFFFF
LOCK_BYTES = 4
REGISTERS_BYTES = 15 * 8  # the general registers but RSP, which the VMCS has
EXECUTED = ("cpuid", "locked", "rdmsr", "wrmsr")  # what the VMM executes beside its paths: see `execute`

_EXIT_REASON_SLOT = f.SLOT[f.EXIT_REASON]
_EXIT, _ENTRY, _VMCS, _PATHS = Category.EXIT, Category.ENTRY, Category.VMCS, Category.PATHS


class SpinLocks:
    """The VMM's locks, for whoever charges paths, instructions and words of memory."""

    __slots__ = ()
    touch: Callable[[int, int, bool], int]  # (hpa, size in bytes, whether it is a write)

    def follow(self, path: paths.Path) -> None:
        """Charge the instructions of `path`."""
        raise NotImplementedError

    def execute(self, instruction: str) -> None:
        """Charge an instruction that is slower than those of paths: `<instruction>_cycles` of the profile."""
        raise NotImplementedError

    def lock(self, hpa: int) -> None:
        """Take the spin lock in the word at `hpa`."""
        self.follow(paths.LOCK)
        self.execute("locked")
        self.touch(hpa, LOCK_BYTES, True)

    def unlock(self, hpa: int) -> None:
        """Release it."""
        self.follow(paths.UNLOCK)
        self.touch(hpa, LOCK_BYTES, True)


class ChargedVmcs(SpinLocks):
    """A vCPU's VMCS and structure as a VMM on `pcpu` uses them.

    Slots, because CPython 3.11 finds attributes of an object with more than 30 of them 20 ns later.
    """

    __slots__ = (
        "_account", "_checks_ledger", "_clock", "_cycles_by_instruction", "_cycles_by_path", "_entry_cycles",
        "_entry_path_cycles", "_exit_path_cycles", "_exits", "_other_cycles", "_path_cycles", "_read_cycles",
        "_running_account", "_vmcs_cycles", "_words", "_write_cycles", "engine", "pcpu", "state_hpa",
        "touch", "vmcs",
    )  # fmt: skip

    def __init__(self, pcpu: PCpu, engine: Engine, *, state_hpa: int) -> None:
        """The vCPU's structure in the VMM's memory is the page at `state_hpa`."""
        self.engine = engine
        self.vmcs = Vmcs(engine.vmcs)
        self.state_hpa = state_hpa
        self._words = self.vmcs.storage
        self._vmcs_cycles = self._path_cycles = 0  # charged, not booked yet
        self._other_cycles = 0  # booked, not on the clock yet
        profile = pcpu.profile
        self._checks_ledger = pcpu.clock.checks_ledger
        self._entry_cycles = profile.entry_cycles
        self._read_cycles = profile.vmread_cycles
        self._write_cycles = profile.vmwrite_cycles
        self._cycles_by_instruction = {name: int(getattr(profile.instructions, f"{name}_cycles")) for name in EXECUTED}
        self._cycles_by_path = paths.cycles_by_path(profile)
        self._exit_path_cycles = self._cycles_by_path[paths.EXIT]
        self._entry_path_cycles = self._cycles_by_path[paths.ENTRY]
        self.assign(pcpu)

    def assign(self, pcpu: PCpu) -> None:
        """Let `pcpu` run this vCPU, and its ledger have the charges; those of an exit in progress too."""
        assert not self._other_cycles, "cycles of another core"
        self.pcpu = pcpu
        self._clock = pcpu.clock
        self.touch = pcpu.clock.touch
        self._exits: dict[int, tuple[Account, int, str]] = {}  # see exit_costs
        self._running_account = pcpu.clock.ledger.account(self.engine.owner, RUNNING)
        activity = name(self.pending_reason) if self.vmcs.is_launched else STARTING
        self._account = pcpu.clock.ledger.account(self.engine.owner, activity)

    # --- the account of an exit --------------------------------------------------------------------------------------

    def begin_exit(self) -> int:
        """A VM exit took place: open its account, charge the hardware, save the registers, VMREAD the exit reason.

        Every exit comes here and to `end_exit`, so both charge without the methods below.
        """
        reason = self._words[_EXIT_REASON_SLOT] & EXIT_REASON_MASK
        account, cycles, _ = self._exits.get(reason) or self.exit_costs(reason)
        self._clock.account = self._account = account
        account[_EXIT] += cycles
        self._other_cycles += cycles
        self._path_cycles += self._exit_path_cycles
        self.touch(self.state_hpa, REGISTERS_BYTES, True)
        self._vmcs_cycles += self._read_cycles
        return reason

    @property
    def pending_reason(self) -> int:
        """Reason of the last exit, for whom it costs nothing."""
        return self._words[_EXIT_REASON_SLOT] & EXIT_REASON_MASK

    def exit_costs(self, reason: int) -> tuple[Account, int, str]:
        """The account of exits for `reason`, what the hardware takes for one, and the parameter that says so."""
        costs = self._exits.get(reason)
        if costs is None:
            profile = self.pcpu.profile
            account = self._clock.ledger.account(self.engine.owner, name(reason))
            parameter = f"{BY_REASON}.{name(reason)}" if reason in profile.exit_cycles_by_reason else "vmx.exit_cycles"
            costs = self._exits[reason] = account, profile.cycles_of(reason), parameter
        return costs

    def resume_exit(self) -> None:
        """Go on with an exit after a sleep: charges go to its account again."""
        self._clock.account = self._account

    def end_exit(self) -> None:
        """VM entry: restore the registers, charge the hardware, close the account."""
        self._charge_entry()
        self.commit_cycles()
        self._clock.account = self._running_account

    def _charge_entry(self) -> None:
        cycles = self._entry_cycles
        self._path_cycles += self._entry_path_cycles
        self.touch(self.state_hpa, REGISTERS_BYTES, False)
        self._account[_ENTRY] += cycles
        self._other_cycles += cycles

    # --- charges -----------------------------------------------------------------------------------------------------

    def read(self, field: int) -> int:
        """VMREAD."""
        self._vmcs_cycles += self._read_cycles
        return self._words[f.SLOT[field]]

    def write(self, field: int, value: int) -> None:
        """VMWRITE of a field that can be written."""
        self._vmcs_cycles += self._write_cycles
        failure = self.vmcs.write(field, value)
        assert failure is None, failure

    def follow(self, path: paths.Path) -> None:
        """Charge the instructions of `path`."""
        self._path_cycles += self._cycles_by_path[path]

    def execute(self, instruction: str) -> None:
        """Charge an instruction that is slower than those of paths: `<instruction>_cycles` of the profile."""
        self._path_cycles += self._cycles_by_instruction[instruction]

    def commit_cycles(self) -> None:
        """Put what was charged on the core's clock: before time matters, and before the guest goes on."""
        vmcs_cycles, path_cycles = self._vmcs_cycles, self._path_cycles
        self._account[_VMCS] += vmcs_cycles
        self._account[_PATHS] += path_cycles
        self._clock.commit(vmcs_cycles + path_cycles + self._other_cycles)
        self._vmcs_cycles = self._path_cycles = self._other_cycles = 0
        if self._checks_ledger:
            self._clock.check_ledger()
