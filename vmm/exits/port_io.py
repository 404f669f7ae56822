"""I/O-instruction exits: the domain's own port bus answers. String forms move one page's worth of elements at most."""

from emulator.vmx import fields as f
from emulator.vmx.qualifications import IoAccess, decode_io
from emulator.x86 import AR_L, EFER_LMA, RAX, RCX, RDI, RFLAGS_DF, RSI
from vmm.cost import paths
from vmm.outcome import AGAIN, NEXT, Outcome
from vmm.paging.guest_walk import GuestFault, paging_mode, walk
from vmm.vcpu import VCpu

ES, GROWS_DOWN = 0, 4  # a segment's number, and a type of data segment
CANONICAL_END = 1 << 47
ELEMENTS_MAX = 1024  # of a REP per exit: interrupts are looked at between


def handle_io(vcpu: VCpu) -> Outcome:
    """IN, OUT, INS, OUTS."""
    vcpu.meter.follow(paths.IO_DECODE)
    access = decode_io(vcpu.read(f.EXIT_QUALIFICATION))
    domain = vcpu.domain
    vcpu.run_devices()
    if access.is_string:
        outcome = _string(vcpu, access)
    else:
        vcpu.meter.follow(paths.PORT)
        mask = (1 << 8 * access.size_bytes) - 1
        rax = vcpu.gpr[RAX]
        if access.is_in:
            value = domain.ports.read(access.port, access.size_bytes)
            vcpu.gpr[RAX] = value if access.size_bytes == 4 else rax & ~mask | value
        else:
            domain.ports.write(access.port, access.size_bytes, rax & mask)
        outcome = NEXT
    vcpu.arm_timer()
    return outcome


def _string(vcpu: VCpu, access: IoAccess) -> Outcome:
    """INS or OUTS, with or without REP; AGAIN while a REP is not finished."""
    address_bytes = 2 << (vcpu.read(f.VM_EXIT_INSTRUCTION_INFORMATION) >> 7 & 7)
    mask = (1 << 8 * address_bytes) - 1
    linear = vcpu.read(f.GUEST_LINEAR_ADDRESS)
    step = -access.size_bytes if vcpu.read(f.GUEST_RFLAGS) & RFLAGS_DF else access.size_bytes
    count = vcpu.gpr[RCX] & mask if access.is_rep else 1
    pointer = RDI if access.is_in else RSI
    room_bytes = vcpu.gpr[pointer] & mask if step < 0 else mask - (vcpu.gpr[pointer] & mask)
    limit = min(count, ELEMENTS_MAX, room_bytes // access.size_bytes + 1)  # then the pointer wraps
    if step > 0:
        limit = min(limit, max(1, _room_bytes(vcpu, access, linear) // access.size_bytes))
    done, fault = 0, None
    while done < limit and fault is None:
        fault = _move(vcpu, access, linear + done * step)
        done += fault is None
    _advance(vcpu, pointer, done * step, address_bytes)
    if access.is_rep:
        _advance(vcpu, RCX, -done, address_bytes)
    if fault is not None:
        return _reflect(vcpu, fault)
    return NEXT if done == count else AGAIN


def _room_bytes(vcpu: VCpu, access: IoAccess, linear: int) -> int:
    """How far a string may go on upwards from `linear`: then the processor itself looks, and faults.

    MODEL: segments that grow down have no end here.
    """
    segment = ES if access.is_in else vcpu.read(f.VM_EXIT_INSTRUCTION_INFORMATION) >> 15 & 7
    if vcpu.guest_efer & EFER_LMA and vcpu.read(f.GUEST_CS_ACCESS_RIGHTS) & AR_L:
        return (CANONICAL_END if linear < CANONICAL_END else 1 << 64) - linear
    if vcpu.read(f.GUEST_ES_ACCESS_RIGHTS + 2 * segment) & 0xC == GROWS_DOWN:
        return 1 << 32
    offset = linear - vcpu.read(f.GUEST_ES_BASE + 2 * segment) & 0xFFFF_FFFF
    return vcpu.read(f.GUEST_ES_LIMIT + 2 * segment) + 1 - offset


def _reflect(vcpu: VCpu, fault: GuestFault) -> Outcome:
    vcpu.inject_page_fault(fault.gva, fault.error_code)
    return AGAIN


def _move(vcpu: VCpu, access: IoAccess, linear: int) -> GuestFault | None:
    """One element between the port and guest memory."""
    vcpu.meter.follow(paths.STRING_ELEMENT)
    vcpu.meter.follow(paths.PORT)
    mode, user, size = paging_mode(vcpu), vcpu.cpl == 3, access.size_bytes
    places = []
    for i in range(size):
        place = walk(vcpu, mode, linear + i & (1 << 64) - 1, write=access.is_in, user=user)
        if isinstance(place, GuestFault):
            return place
        places.append(place.gpa)
    domain = vcpu.domain
    if access.is_in:
        data = domain.ports.read(access.port, size).to_bytes(size, "little")
        for gpa, byte in zip(places, data, strict=True):
            domain.write(gpa, bytes([byte]))
            vcpu.paging.guest_memory_written(vcpu.meter, gpa, 1)
    else:
        domain.ports.write(access.port, size, int.from_bytes(b"".join(domain.read(gpa, 1) for gpa in places), "little"))
    return None


def _advance(vcpu: VCpu, index: int, delta: int, address_bytes: int) -> None:
    """Add to a register used as an address: 32-bit results clear the upper half, 16-bit ones keep it."""
    mask = (1 << 8 * address_bytes) - 1
    old = vcpu.gpr[index]
    vcpu.gpr[index] = (old & ~mask if address_bytes == 2 else 0) | old + delta & mask
