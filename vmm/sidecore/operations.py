"""What guests can ask of a sidecore: one Python function and a number each.

To add one: write a function (worker, arguments) -> Answer, and put it under a free number, here for every host, or for
one (`sidecore.Host.add_sidecall`).

A function gets what a guest has written: every argument may be anything. It charges what it does to
`worker.meter`, which is the sidecore's; guest memory is reached through `worker.domain` alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from emulator.x86 import PAGE_BYTES, PRESENT
from vmm.cost import paths
from vmm.domain import Domain
from vmm.exits.cpuid import guest_cpuid
from vmm.paging.guest_walk import ADDRESS_MASK
from vmm.sidecore.abi import EADDRESS, EVALUE, MASK_32, OK, OP_CPUID, OP_NULL, OP_PTE_CHANGE, OP_PTE_SET, Answer
from vmm.sidecore.worker import Worker

Function = Callable[[Worker, tuple[int, int, int]], Answer]

ENTRY_BYTES = 8


@dataclass(frozen=True)
class Operation:
    """`name` is for people: the ledger books its cycles under it."""

    name: str
    function: Function


def null(worker: Worker, arguments: tuple[int, int, int]) -> Answer:
    """Nothing."""
    return Answer(OK, (arguments[0], 0, 0))


def cpuid(worker: Worker, arguments: tuple[int, int, int]) -> Answer:
    """What the CPUID exit answers, by the same code."""
    worker.meter.follow(paths.CPUID)
    leaf, subleaf = arguments[0] & MASK_32, arguments[1] & MASK_32
    eax, ebx, ecx, edx = guest_cpuid(worker.vcpu, leaf, subleaf, worker.meter)
    return Answer(OK, (eax | ebx << 32, ecx | edx << 32, 0))


def pte_set(worker: Worker, arguments: tuple[int, int, int]) -> Answer:
    """A page-table entry that is not present becomes another: nothing is cached of it, so no TLB has to be flushed."""
    gpa, entry, _ = arguments
    status = _entry_status(worker.domain, gpa, entry)
    if status != OK:
        return Answer(status)
    worker.meter.follow(paths.GUEST_COPY)
    worker.meter.touch(worker.domain.hpa_of(gpa), ENTRY_BYTES, False)
    if worker.domain.read(gpa, ENTRY_BYTES)[0] & PRESENT:
        return Answer(EVALUE)
    worker.vcpu.paging.store_entry(worker.meter, gpa, entry)
    return Answer(OK)


def pte_change(worker: Worker, arguments: tuple[int, int, int]) -> Answer:
    """Any page-table entry becomes another; what TLBs have of it is flushed, on all cores that run the guest."""
    gpa, entry, _ = arguments
    status = _entry_status(worker.domain, gpa, entry)
    if status == OK:
        worker.vcpu.paging.store_entry(worker.meter, gpa, entry)
        worker.needs_flush = True
    return Answer(status)


def _entry_status(domain: Domain, gpa: int, entry: int) -> int:
    """Whether an entry may be stored: in the guest's memory, and leading to nothing else."""
    if gpa % ENTRY_BYTES or not domain.is_ram(gpa, ENTRY_BYTES):
        return EADDRESS
    return EVALUE if entry & PRESENT and not domain.is_ram(entry & ADDRESS_MASK, PAGE_BYTES) else OK


OPERATIONS: Mapping[int, Operation] = MappingProxyType(
    {
        OP_NULL: Operation("null", null),
        OP_CPUID: Operation("CPUID", cpuid),
        OP_PTE_SET: Operation("PTE set", pte_set),
        OP_PTE_CHANGE: Operation("PTE change", pte_change),
    }
)
