"""Nothing a guest holds crashes the engine or keeps it from its deadline: random code, and random guest state.

Each case prints its seed when it fails; `run_code(seed)` and `run_state(seed)` repeat it.
"""

import random

import pytest

from emulator.engine import RESUME, Next
from emulator.vmx import fields as f
from tests.emulator.engine.rig import DATA, EPT, MSR_BITMAP, PT, TSS, Exit, Rig

SEEDS_PER_TEST = 40
DEADLINE_CYCLES = 3000
LONGEST_STEP_CYCLES = 1200  # a block of one page, and what an exit handler adds
# Beginnings of instructions that this project handles itself, and prefixes.
STARTS_TEXT = """
    0f22c0 0f22d8 0f22e0 0f20c0 440f22c0 0f01f8 0fa2 0f30 0f32 0f05 480f07 0f34 480f35 cf 48cf cb cc cd80 ce f1 f4
    fb fa ee ec 6c 6e f36c f36e f3aa f3a4 0f00d8 0f0118 0f0110 0f01f0 0f01e0 0f06 8ed0 8ed8 9d 9c 0f01c1 0f0b
    0f23f8 0f21f0 0f09 0f08 0f31 0f01f9 e8 ff15 ff25 ea 9a 0fae 0fc7 66 67 f2 f0 48 2e 64 0f38 0f3a c8 0f78 0f0103
    660f3880
"""
STARTS = [bytes.fromhex(text) for text in STARTS_TEXT.split()]


def step_or_inject(rig: Rig, how: int) -> None:
    """Three things a VMM may do about an exit, each at a price."""

    def handle(seen: Exit) -> Next:
        rig.shared.clock_cycles += 20
        if how == 0:
            rig["rip"] = rig["rip"] + max(1, seen.instruction_bytes) & (1 << 64) - 1
        elif how == 1:
            rig.vmcs.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, 0x80000306)
        else:
            rig.vmcs.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, 1 << 31 | len(rig.exits) % 256)
        return RESUME

    rig.on_exit = handle


def check_run(rig: Rig) -> None:
    rig.platform.vectors = [vector % 256 for vector in range(5000)]
    rig.run(DEADLINE_CYCLES)
    shared = rig.shared
    assert shared.clock_cycles < DEADLINE_CYCLES + LONGEST_STEP_CYCLES
    stopped = rig["activity_state"] != 0 or shared.shutdown or rig.exits
    assert stopped or shared.clock_cycles >= DEADLINE_CYCLES
    assert shared.guest_cycles + shared.event_cycles >= shared.instructions
    rig.engine.close()


def random_code(random_: random.Random) -> bytes:
    if random_.random() < 0.3:
        return random_.randbytes(100)
    return b"".join(random_.choice(STARTS) + random_.randbytes(random_.randint(0, 6)) for _ in range(30))


def run_code(seed: int) -> None:
    random_ = random.Random(seed)
    bits, non_root = random_.choice([64, 64, 32, 16]), random_.random() < 0.5
    cpl = random_.choice([0, 3]) if bits != 16 else 0
    rig = Rig(random_code(random_) + random_.randbytes(200), bits=bits, cpl=cpl, non_root=non_root)
    places = (
        DATA,
        DATA + 0xFFE,
        0x6000,
        0x7000,
        PT,
        TSS,
        0,
        1,
        2,
        0x10,
        0x277,
        0xC0000080,
        0x80000000,
        1 << 47,
        (1 << 64) - 8,
    )
    for index in (0, 1, 2, 3, *range(5, 16)):
        rig.engine.gpr[index] = random_.choice([*places, random_.getrandbits(64)])
    rig["rflags"] = 2 | random_.choice([0, 0x200, 0x3000, 0x3200, 0x100, 0x20000, 0x4000, 0x40000])
    rig.shared.interrupt_pending = random_.random() < 0.2
    if non_root:
        rig.vmcs.write(f.EXCEPTION_BITMAP, random_.choice([0, 0xFFFFFFFF, 1 << 14]))
        rig.set_control(f.PRIMARY_PROCESSOR_BASED_CONTROLS, random_.choice([0, random_.getrandbits(32)]))
        rig.vmcs.write(f.SECONDARY_PROCESSOR_BASED_CONTROLS, random_.getrandbits(32) & ~2)
        rig.put(MSR_BITMAP, random_.randbytes(4096))
        if random_.random() < 0.3:
            use_ept(rig, random_)
        step_or_inject(rig, random_.randrange(3))
    check_run(rig)


def use_ept(rig: Rig, random_: random.Random) -> None:
    """Identity below 2 MiB, with a few entries spoilt."""
    for i in range(3):
        rig.put_word(EPT + 0x1000 * i, EPT + 0x1000 * (i + 1) | 7)
    for page in range(512):
        rig.put_word(EPT + 0x3000 + page * 8, page << 12 | 7 | 6 << 3)
    for _ in range(random_.randrange(10)):
        rig.put_word(EPT + 0x3000 + random_.randrange(512) * 8, random_.getrandbits(64))
    rig.vmcs.write(f.EPT_POINTER, EPT | 6 | 3 << 3)
    rig.set_control(f.SECONDARY_PROCESSOR_BASED_CONTROLS, 2)


GUEST_FIELDS = [field for field in f.FIELDS if field.name.startswith("GUEST_")]


def run_state(seed: int) -> None:
    random_ = random.Random(seed)
    rig = Rig(random_code(random_), non_root=random_.random() < 0.7)
    share = random_.choice([1.0, 0.15, 0.05])
    for field in GUEST_FIELDS:
        if random_.random() < share:
            slot = f.SLOT[field.encoding]
            was = rig.engine.vmcs[slot]
            values = [
                random_.getrandbits(64),
                0,
                (1 << 64) - 1,
                1 << random_.randrange(64),
                was ^ 1 << random_.randrange(32),
            ]
            rig.engine.vmcs[slot] = random_.choice(values)
    if random_.random() < 0.7:
        rig["activity_state"] = 0
    rig.vmcs.write(f.EXCEPTION_BITMAP, random_.choice([0, 0xFFFFFFFF]))
    if random_.random() < 0.3:
        rig.vmcs.write(f.VM_ENTRY_INTERRUPTION_INFORMATION, random_.getrandbits(32))
    for control in (f.PIN_BASED_CONTROLS, f.PRIMARY_PROCESSOR_BASED_CONTROLS, f.SECONDARY_PROCESSOR_BASED_CONTROLS):
        if random_.random() < 0.3:
            rig.vmcs.write(control, random_.getrandbits(32))
    for field_ in (
        f.EPT_POINTER,
        f.CR3_TARGET_COUNT,
        f.IO_BITMAP_A_ADDRESS,
        f.MSR_BITMAP_ADDRESS,
        f.CR0_GUEST_HOST_MASK,
    ):
        if random_.random() < 0.3:
            rig.vmcs.write(field_, random_.getrandbits(31))
    step_or_inject(rig, random_.randrange(3))
    check_run(rig)


@pytest.mark.parametrize("first_seed", range(0, 8 * SEEDS_PER_TEST, SEEDS_PER_TEST))
def test_random_code_meets_its_deadline(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + SEEDS_PER_TEST):
        print("seed", seed)
        run_code(seed)


@pytest.mark.parametrize("first_seed", range(0, 6 * SEEDS_PER_TEST, SEEDS_PER_TEST))
def test_random_guest_state_meets_its_deadline(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + SEEDS_PER_TEST):
        print("seed", seed)
        run_state(seed)


@pytest.mark.parametrize("seed", range(12))
def test_a_random_run_can_be_repeated_exactly_and_in_slices(seed: int) -> None:
    def final(slices: int) -> tuple[object, ...]:
        random_ = random.Random(seed)
        rig = Rig(random_code(random_) + random_.randbytes(200))
        rig["rdi"] = rig["rsi"] = DATA
        rig.platform.vectors = [0x40] * 1000
        for number in range(slices):
            rig.engine.run(DEADLINE_CYCLES * (number + 1) // slices)
            if rig.is_halted or rig.shared.shutdown:
                break
        shared = rig.shared
        if shared.clock_cycles >= DEADLINE_CYCLES:
            rig.engine.run(2 * DEADLINE_CYCLES)
        return list(rig.engine.gpr), list(rig.engine.vmcs), int(shared.clock_cycles), rig.memory.read(0, 0x80000)

    reference = final(1)
    assert final(1) == reference
    assert final(150) == reference
