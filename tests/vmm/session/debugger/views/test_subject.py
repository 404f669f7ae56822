"""Memory as a subject reads it: by three kinds of address, or not at all; and with no trace left in it."""

import pytest

import sidecore
from emulator.vmx import fields as f
from emulator.x86 import ACCESSED, PAGE_BYTES
from tests.vmm.session.debugger.views.rig import MIB, stopped
from vmm.session.debugger.views.subject import Space, Subject

PAGINGS = ("shadow", "ept", "native")
CODE = 0x100000  # where our kernels lie
APIC = 0xFEE0_0000


def tables_of(subject: Subject) -> int:
    """Turn the guest's paging to an empty table at a page nobody uses; its gpa."""
    gpa = 20 * MIB
    subject.memory.write(gpa, bytes(4 * PAGE_BYTES))
    if subject.shadow is not None:
        mode = subject.shadow.mode
        subject.shadow.mode = type(mode)(mode.cr0, gpa, mode.cr4, mode.efer)
    else:
        subject.vmcs.save(f.GUEST_CR3, gpa)
    return gpa


def put(subject: Subject, gpa: int, index: int, entry: int) -> None:
    subject.memory.write(gpa + 8 * index, entry.to_bytes(8, "little"))


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_linear_address_a_physical_one_and_the_hosts_lead_to_the_same_bytes(paging: sidecore.Paging) -> None:
    subject = stopped("default", paging, 2_000_000)
    hpa = subject.place(Space.GVA, CODE)
    assert hpa is not None
    assert (hpa == CODE) == (paging == "native")
    data = subject.read_gva(CODE, 3 * PAGE_BYTES)
    assert data
    assert data == subject.read_gpa(CODE, 3 * PAGE_BYTES) == subject.read_hpa(hpa, 3 * PAGE_BYTES)
    seen = subject.engine.read_linear(CODE, len(data))  # as far as there are shadows
    assert len(seen) > 0
    assert data.startswith(seen)


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("gva", [1 << 47, (1 << 63) - 1, 0x1234_5678_9000, (1 << 64) - 1, -1, 1 << 64])
def test_where_nothing_is_mapped_there_is_nothing(gva: int, paging: sidecore.Paging) -> None:
    subject = stopped("default", paging, 2_000_000)
    assert subject.read_gva(gva, 1) is None
    assert subject.read_available(Space.GVA, gva, 16) == b""


@pytest.mark.parametrize("paging", PAGINGS)
def test_a_device_is_not_read(paging: sidecore.Paging) -> None:
    subject = stopped("apic", paging, 600_000)
    assert subject.read_gpa(APIC, 4) is None
    assert subject.read_gva(APIC, 4) is None


def test_the_vmms_memory_and_other_guests_are_the_hosts_alone() -> None:
    subject = stopped("default", "shadow", 2_000_000)
    assert subject.read_gpa(32 * MIB - 4, 4) is not None
    assert subject.read_gpa(32 * MIB - 4, 8) is None
    assert subject.read_hpa(subject.host_memory.size_bytes - 4, 4) is not None
    assert subject.read_hpa(subject.host_memory.size_bytes - 4, 8) is None


@pytest.mark.parametrize("paging", PAGINGS)
def test_memory_is_read_as_far_as_it_is_mapped_and_no_bit_is_set(paging: sidecore.Paging) -> None:
    subject = stopped("default", paging, 2_000_000)
    top = tables_of(subject)
    for level in range(3):
        put(subject, top + level * PAGE_BYTES, 0, top + (level + 1) * PAGE_BYTES | 7)
    put(subject, top + 3 * PAGE_BYTES, 5, CODE | 7)
    before = subject.memory.read(top, 4 * PAGE_BYTES)
    assert subject.read_available(Space.GVA, 0x5FF0, 64) == subject.read_gpa(CODE + 0xFF0, 16)
    assert subject.read_gva(0x5FF0, 17) is None
    assert subject.memory.read(top, 4 * PAGE_BYTES) == before
    assert not before[0] & ACCESSED


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("target", ["itself", "outside", "reserved"])
def test_tables_that_lead_nowhere_end_a_walk(target: str, paging: sidecore.Paging) -> None:
    subject = stopped("default", paging, 2_000_000)
    top = tables_of(subject)
    put(subject, top, 0, {"itself": top, "outside": 1 << 38, "reserved": 1 << 45}[target] | 0x67)
    data = subject.read_gva(0, 8)
    assert data == (subject.read_gpa(top, 8) if target == "itself" else None)
