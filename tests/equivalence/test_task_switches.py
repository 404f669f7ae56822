"""The VMM switches tasks as the processor does by itself: the same registers and memory, in both ways of paging.

A case of `far_transfer_cases.py` runs on a CPU without a VMM, and in a guest whose processor and memory are set to it.
"""

import pytest

from emulator.engine import FLUSH_ALL
from emulator.memory import HostMemory
from tests.fuzz import modes as m
from tests.fuzz.bochs import HALT, SHUTDOWN
from tests.fuzz.engine_side import OurCpu
from tests.fuzz.far_transfer_cases import far_transfer_case
from tests.fuzz.instruction_cases import Case
from tests.fuzz.processor_state import NAMES, PLACE, SLOTS
from tests.guest.bare_guest import bare_virtual_guest
from vmm.boot.loaders import BootImage, EntryMode
from vmm.domain import Domain
from vmm.vcpu import VCpu

FIRST_SEED, CASES = 20261202, 70
MEMORY_BYTES = 4 << 20
CYCLES, GUEST_CYCLES = 1_000, 400_000
PAGED = ("cr0", "cr3", "cr4", "efer")  # which shadow paging has otherwise
LOOP = BootImage(
    segments=((m.CODE, b"\xeb\xfe"),), entry_gpa=m.CODE, registers={}, mode=EntryMode.PROTECTED,
    cr3_gpa=0, gdt_gpa=0, gdt_limit=0, description="a loop",
)  # fmt: skip


def fill(memory: HostMemory | Domain, case: Case) -> None:
    memory.write(0, m.memory_image())
    memory.write(m.CODE, b"".join(case.code) + m.HLT * 192)
    for at, data in case.memory.items():
        memory.write(at, data)


def by_the_processor(case: Case, cpu: OurCpu) -> tuple[int, dict[str, int], bytes]:
    fill(cpu.memory, case)
    cpu.shared.flush_tlb = FLUSH_ALL
    how, state = cpu.run(case.state(), CYCLES)
    return how, dict(zip(NAMES, state, strict=True)), cpu.memory.read(0, m.MEMORY_BYTES)


def set_registers(vcpu: VCpu, case: Case) -> None:
    state = case.state()
    for index in range(16):
        vcpu.write_gpr(index, state[index])
    for place, slot in SLOTS:
        if NAMES[place] not in PAGED:
            vcpu.vmcs.storage[slot] = state[place]
    vcpu.paging.write_cr4(vcpu, state[PLACE["cr4"]])
    vcpu.paging.write_efer(vcpu, state[PLACE["efer"]])
    vcpu.paging.write_cr3(vcpu, state[PLACE["cr3"]])
    vcpu.paging.write_cr0(vcpu, state[PLACE["cr0"]])


def by_the_vmm(case: Case, paging: str) -> tuple[str, dict[str, int], bytes]:
    _machine, guest = bare_virtual_guest(LOOP, paging, memory_bytes=MEMORY_BYTES)
    guest.advance(1_000)
    vcpu = guest.vcpu
    fill(vcpu.domain, case)
    set_registers(vcpu, case)
    guest.advance(GUEST_CYCLES)
    registers = {NAMES[place]: vcpu.vmcs.storage[slot] for place, slot in SLOTS if NAMES[place] not in PAGED}
    registers |= {name: vcpu.read_gpr(index) for index, name in enumerate(NAMES[:16])}
    registers |= {"cr0": vcpu.guest_cr0, "cr2": int(vcpu.shared.cr2), "cr3": vcpu.paging.guest_cr3(vcpu)}
    return str(guest.end), registers, vcpu.domain.read(0, m.MEMORY_BYTES)


@pytest.mark.parametrize("paging", ["shadow", "ept"])
def test_the_vmm_does_what_the_processor_does(paging: str) -> None:
    cpu = OurCpu(m.MEMORY_BYTES)
    switched = 0
    for seed in range(FIRST_SEED, FIRST_SEED + CASES):
        case = far_transfer_case(seed)
        if m.MODES[case.mode].is_wide:
            continue
        how, expected, memory = by_the_processor(case, cpu)
        if how not in (HALT, SHUTDOWN):
            continue
        end, registers, its_memory = by_the_vmm(case, paging)
        if how == SHUTDOWN:
            assert end.endswith("triple fault"), f"seed {seed}: {end}"
            continue
        different = {name: (expected[name], value) for name, value in registers.items() if expected[name] != value}
        assert not different, f"seed {seed}: {case.as_json()}"
        assert its_memory == memory, f"seed {seed}: {case.as_json()}"
        switched += registers["tr_selector"] != m.TSS_SELECTOR
    assert switched > CASES // 20
