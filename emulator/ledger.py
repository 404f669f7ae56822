"""The cycle ledger: for every cycle of a core, what it went to. The sum over everything is the core's clock.

    accounts[owner, activity][category]     owner      whose CPU the core was: a vCPU's name, or HOST
                                            activity   RUNNING, the VM exit being handled ("CPUID"), IDLING ...

A charge goes to the account that the core has open (`Clock.account`); opening another is one assignment.
"""

Account = list[int]  # cycles, indexed by Category

HOST = "host"  # owner of what a core does for nobody in particular
RUNNING = "running"  # the guest's own instructions, and what the hardware does for them
STARTING = "starting"  # a VMM's work before the first VM entry
IDLING = "idling"  # nothing to do until an event


class Category:
    """What cycles go to: the index into an account. Plain numbers: an enum's members take 80 ns each to look up."""

    GUEST = 0  # instructions the guest retired
    MEMORY = 1  # stalls of the guest's loads, stores and fetches, beyond a hit in the first-level cache
    WALKS = 2
    BRANCHES = 3
    EVENTS = 4  # exceptions and interrupts through the IDT without a VM exit
    PORT = 5  # IN and OUT that reach a device of the host
    EXIT = 6  # VM exits
    ENTRY = 7  # VM entries
    VMCS = 8  # VMREAD and VMWRITE
    PATHS = 9  # instructions of the VMM
    VMM_MEMORY = 10  # memory words the VMM touches
    COHERENCE = 11  # lines that another core has
    SPIN = 12  # polling memory that another core will write
    IDLE = 13  # halted, waiting for an event
    SIBLING = 14  # what work takes longer because of another thread of the physical core


LABELS = (  # of the categories, in their order
    "guest",
    "memory stalls",
    "page walks",
    "branch misprediction",
    "event delivery",
    "port access",
    "exit hardware",
    "entry hardware",
    "vmcs access",
    "VMM paths",
    "VMM memory",
    "coherence",
    "spin",
    "idle",
    "sibling thread",
)
RARE = (Category.SIBLING,)  # few machines have it: said only where it is


class Ledger:
    """Cycles of one core."""

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, str], Account] = {}

    def account(self, owner: str, activity: str) -> Account:
        """The account of what `owner` does, opened now if there is none."""
        return self.accounts.setdefault((owner, activity), [0] * len(LABELS))

    @property
    def total_cycles(self) -> int:
        """Sum over everything: the clock of the core."""
        return sum(map(sum, self.accounts.values()))

    @property
    def cycles(self) -> Account:
        """Cycles by category."""
        return [sum(column) for column in zip([0] * len(LABELS), *self.accounts.values(), strict=True)]

    def by_label(self) -> dict[str, int]:
        """Cycles by the label of their category, zeros too, but of RARE ones."""
        rows = enumerate(zip(LABELS, self.cycles, strict=True))
        return {label: cycles for number, (label, cycles) in rows if cycles or number not in RARE}

    def by_owner(self) -> dict[str, dict[str, dict[str, int]]]:
        """owner -> activity -> label of the category -> cycles, without zeros, in alphabetical order."""
        owners: dict[str, dict[str, dict[str, int]]] = {}
        for (owner, activity), account in sorted(self.accounts.items()):
            spent = {label: cycles for label, cycles in zip(LABELS, account, strict=True) if cycles}
            if spent:
                owners.setdefault(owner, {})[activity] = spent
        return owners
