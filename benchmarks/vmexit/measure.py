"""What `sidecore bench vmexit` measures: cycles of each operation that a VMM may have to step in for, in a guest.

    guest kernel `vmexit` --lines--> Results of each (profile, paging)

Next to what the guest measured stands what the machine's ledger booked for the same round, by category; without
caches the two agree to the cycle. After kvm-unit-tests' vmexit in what is measured, and LMbench in how.
"""

from collections.abc import Iterable, Sequence

from benchmarks.harness.accounts import Account
from benchmarks.harness.guest_runs import run_all
from benchmarks.harness.results import Results, Run
from emulator.ledger import LABELS

IMAGE = "vmexit"
# The guest's names, in the order to show them.
OPERATIONS = {
    "cpuid": "CPUID",
    "vmcall": "VMCALL, unknown number",
    "mov_from_cr0": "MOV from CR0",
    "mov_to_cr0": "MOV to CR0, same value",
    "mov_from_cr3": "MOV from CR3",
    "mov_to_cr3": "MOV to CR3, same value",
    "mov_from_cr4": "MOV from CR4",
    "mov_to_cr4": "MOV to CR4, same value",
    "mov_from_cr8": "MOV from CR8",
    "mov_to_cr8": "MOV to CR8, same value",
    "inl": "IN, 32 bits, port 0xcf8",
    "outl": "OUT, 32 bits, port 0xcf8",
    "rdmsr": "RDMSR of IA32_PAT",
    "wrmsr": "WRMSR of IA32_PAT",
    "hlt_interrupt": "HLT ended by a waiting interrupt, with its EOI",
    "null_interrupt": "INT n and IRETQ",
    "ipi": "interrupt command to itself, and EOI",
    "page_fault_reflected": "page fault for the guest",
    "page_fault_fixed": "first load of a mapped page",
    "pte_write": "PTE write: a page becomes read-only",
    "pte_write_access": "new PTE, then a load of its page",
    "invlpg": "INVLPG",
}


def measure(runs: Sequence[Run]) -> list[Results]:
    """Run the guest on every machine. Raises ConfigError."""
    return run_all(runs)


def categories_of(accounts: Iterable[Account]) -> list[str]:
    """The ledger's categories that any of `accounts` has, in the ledger's order."""
    present = {name for account in accounts for name in account.cycles}
    return [label for label in LABELS if label in present]
