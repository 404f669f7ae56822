"""Random VMCS contents against the checks of VM entry, and behind them the CPU that runs what passed.

    a valid VMCS + a few random fields --checks--> passes, or fails by the name of a check that looks at one of them
    a guest      + a few random fields --VM entry--> a failed entry, a guest error, an end, or the limit

SIDECORE_FUZZ_SEED is the first seed, SIDECORE_FUZZ_ENTRIES how many there are of each kind.
"""

import os
import random

import pytest

from emulator.vmx import fields as f
from emulator.vmx.entry_checks import bind_checks, check_entry
from tests.emulator.vmx.examples import EXAMPLES, everything_allowed, make_vmcs
from tests.guest.hostile_guest import make_guest
from vmm.session.virtual_guest import VirtualGuest

FIRST_SEED = int(os.environ.get("SIDECORE_FUZZ_SEED", "0"))
ENTRIES = int(os.environ.get("SIDECORE_FUZZ_ENTRIES", "1000"))
FIELDS_OF_CHECK = {check.name: set(check.fields) for check, _failure in bind_checks(None)}
WRITABLE = [field.encoding for field in f.FIELDS if field.kind != "exit information"]
GUEST_AND_ENTRY = [
    field.encoding for field in f.FIELDS if field.kind == "guest" or field.name.startswith(("VM_ENTRY", "EXCEPTION"))
]
PORT, LIMIT_CYCLES, SLACK_CYCLES = 0x1234, 200_000, 4_000_000
PROGRAM = """
    mov ebx, 0x9000
    mov ecx, 20
    1: inc dword ptr [rbx]
    pause
    loop 1b
    mov dx, 0x1234
    out dx, al
    mov rax, cr3
    mov cr3, rax
    inc dword ptr [rbx]
    jmp 1b
"""


def random_value(random_: random.Random, before: int) -> int:
    """For a field: one bit changed, or something else."""
    roll = random_.random()
    if roll < 0.5:
        return before ^ 1 << random_.choice((random_.randrange(16), random_.randrange(32), random_.randrange(64)))
    return random_.choice((0, (1 << 64) - 1, 1 << 47, random_.getrandbits(16), random_.getrandbits(64)))


def test_a_failed_check_looks_at_a_field_that_was_changed() -> None:
    outcomes = {True: 0, False: 0}
    for seed in range(FIRST_SEED, FIRST_SEED + ENTRIES):
        random_ = random.Random(seed)
        name = random_.choice(list(EXAMPLES))
        changes = {}
        for encoding in random_.sample(WRITABLE, random_.choice((1, 1, 2, 4))):
            changes[encoding] = random_value(random_, EXAMPLES[name].get(encoding, 0))
        failure = check_entry(make_vmcs(EXAMPLES[name] | changes), everything_allowed())
        outcomes[failure is None] += 1
        where = f"SIDECORE_FUZZ_SEED={seed}: {name}, {[f.FIELD_BY_ENCODING[field].name for field in changes]}"
        assert failure is None or FIELDS_OF_CHECK[failure.check_name] & set(changes), f"{where}: {failure}"
        backwards = dict(reversed(changes.items()))
        assert check_entry(make_vmcs(EXAMPLES[name] | backwards), everything_allowed()) == failure, where
    assert min(outcomes.values()) > ENTRIES // 20, f"always the same answer: {outcomes}"


class Saboteur:
    """A port whose write changes the VMCS in the middle of the VM exit that it causes."""

    widths_bytes: tuple[int, ...] = (1,)

    def __init__(self, guest: VirtualGuest, random_: random.Random) -> None:
        self._vmcs = guest.vcpu.vmcs
        self._random = random_
        guest.domain.ports.attach(PORT, 1, self)

    def read(self, offset: int, size_bytes: int) -> int:
        return 0

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        for encoding in self._random.sample(GUEST_AND_ENTRY, self._random.choice((1, 1, 2, 6))):
            self._vmcs.write(encoding, random_value(self._random, self._vmcs.read(encoding)))


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_a_guest_whose_vmcs_is_changed_ends_in_a_result_an_error_or_its_limit(paging: str) -> None:
    failed = 0
    for seed in range(FIRST_SEED, FIRST_SEED + ENTRIES // 50):
        print(f"SIDECORE_FUZZ_SEED={seed} {paging}")
        guest = make_guest(paging, PROGRAM)
        assert isinstance(guest, VirtualGuest)
        Saboteur(guest, random.Random(seed))
        guest.advance(LIMIT_CYCLES)
        message = "" if guest.end is None else guest.end.detail
        assert "\n" not in message
        failed += message.startswith("VM entry failed")
        assert 0 < guest.pcpu.clock.cycles <= LIMIT_CYCLES + SLACK_CYCLES
    assert 0 < failed < ENTRIES // 50, f"{failed} entries failed: the test shows nothing"
