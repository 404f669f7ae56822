"""A virtual-machine control structure: typed access to the array that Python and C share.

    VMREAD/VMWRITE (Python) --+                       +-- VM exit:  C saves guest state and exit information
                              v                       v
              storage: SLOT_COUNT x uint64, indexed by fields.SLOT[encoding]
                              ^                       |
    EntryChecker: dirty ------+                       +-> VM entry: C loads guest state

`write` notes which fields changed in bits that a VM-entry check looks at (`dirty`, one bit per slot), so that an entry
repeats only those checks. What hardware saves at an exit is valid already and marks nothing.

Source: Intel SDM volume 3, 24.11 "Software Use of the VMCS and Related Structures", 30.3 VMREAD, VMWRITE.
Left out: the VMCS's format in guest-physical memory, so VMPTRLD of a VMCS that software copied by hand.
MODEL: every field exists on every processor; hardware gives error 12 for those of features it lacks.
"""

from typing import Protocol

from emulator.vmx import fields
from emulator.vmx.check import EntryFailure
from emulator.vmx.instruction_errors import (
    READ_ONLY_COMPONENT,
    UNSUPPORTED_COMPONENT,
    VmFailure,
)

REVISION_ID = 0x5C0DE001 & 0x7FFF_FFFF  # bit 31 is the shadow-VMCS indicator and stays 0

_ALL_ONES = (1 << 64) - 1
_ALL_DIRTY = (1 << fields.SLOT_COUNT) - 1

# Bits that any VM-entry check looks at, for the fields that VMMs write all the time; every bit of the others.
# RIP: 26.3.1.4 checks bits 63:32 only. RFLAGS: reserved bits (63:22, 15, 5, 3, 1), VM, IF and TF. RSP: none.
CHECKED_BITS: dict[int, int] = {
    fields.GUEST_RIP: 0xFFFF_FFFF_0000_0000,
    fields.GUEST_RSP: 0,
    fields.GUEST_RFLAGS: 0xFFFF_FFFF_FFC2_832A,
}

# encoding -> slot, mask of the width, bits that matter to an entry, bit in `dirty`
WRITABLE: dict[int, tuple[int, int, int, int]] = {
    field.encoding: (slot, field.mask, CHECKED_BITS.get(field.encoding, _ALL_ONES), 1 << slot)
    for slot, field in enumerate(fields.FIELDS)
    if not field.is_read_only
}
_SLOT = fields.SLOT


class Checker(Protocol):
    """What checks a VMCS at a VM entry: `entry_checks.EntryChecker`."""

    def check(self) -> EntryFailure | None:
        """The first failing check, or None."""
        ...


class Vmcs:
    """One VMCS; its storage is `fields.SLOT_COUNT` unsigned 64-bit words that a C file may share.

    Costs on the 2-core development machine: `read` 0.06 us, `write` 0.2 us.
    """

    __slots__ = ("checker", "dirty", "is_launched", "revision_id", "storage")

    def __init__(self, storage: memoryview | None = None) -> None:
        """Use `storage`, a writable memoryview of format "Q", or memory of our own, all zero.

        Raises ValueError if the storage has another shape.
        """
        if storage is None:
            storage = memoryview(bytearray(8 * fields.SLOT_COUNT)).cast("Q")
        if storage.format != "Q" or storage.readonly or storage.ndim != 1 or len(storage) < fields.SLOT_COUNT:
            raise ValueError(f"a VMCS needs {fields.SLOT_COUNT} writable words of format 'Q'")
        self.storage = storage  # the words themselves, in slot order
        self.revision_id = REVISION_ID
        self.is_launched = False
        self.dirty = _ALL_DIRTY
        self.checker: Checker | None = None  # of VM entries, with what it remembers: the processor's, from VMPTRLD on

    def read(self, encoding: int) -> int:
        """VMREAD of a field known to exist; a VMM's own constants. Raises KeyError for any other encoding."""
        try:
            return self.storage[_SLOT[encoding]]
        except KeyError:
            return self.storage[_high_half_slot(encoding)] >> 32

    def try_read(self, encoding: int) -> int | VmFailure:
        """VMREAD of whatever `encoding` names: the value, or VMfail 12 for an unsupported component."""
        try:
            return self.read(encoding)
        except KeyError:
            return self.fail(UNSUPPORTED_COMPONENT)

    def write(self, encoding: int, value: int) -> VmFailure | None:
        """VMWRITE: store `value`, cut to the field's width; VMfail 12 (unsupported) or 13 (read-only)."""
        row = WRITABLE.get(encoding)
        if row is None:
            return self._write_rare(encoding, value)
        slot, mask, checked_bits, dirty_bit = row
        storage = self.storage
        value &= mask
        if (storage[slot] ^ value) & checked_bits:
            self.dirty |= dirty_bit
        storage[slot] = value
        return None

    def _write_rare(self, encoding: int, value: int) -> VmFailure | None:
        """VMWRITE of a high half, or of something that cannot be written."""
        if encoding in _SLOT:
            return self.fail(READ_ONLY_COMPONENT)
        try:
            slot = _high_half_slot(encoding)
        except KeyError:
            return self.fail(UNSUPPORTED_COMPONENT)
        return self.write(encoding & ~fields.HIGH, (value & 0xFFFF_FFFF) << 32 | self.storage[slot] & 0xFFFF_FFFF)

    def save(self, encoding: int, value: int) -> None:
        """Store what hardware reports (exit information, saved guest state): any field, valid by construction."""
        field = fields.FIELD_BY_ENCODING[encoding]
        self.storage[_SLOT[encoding]] = value & field.mask

    def fail(self, error: int) -> VmFailure:
        """VMfailValid: record `error` in the VM-instruction error field and return it as a value."""
        self.save(fields.VM_INSTRUCTION_ERROR, error)
        return VmFailure(error)

    def clear(self) -> None:
        """VMCLEAR: the launch state becomes clear; everything is checked again at the next entry."""
        self.is_launched = False
        self.dirty = _ALL_DIRTY

    def dump(self) -> dict[str, int]:
        """Every field by name, in table order."""
        return {field.name: self.storage[slot] for slot, field in enumerate(fields.FIELDS)}


def _high_half_slot(encoding: int) -> int:
    """Slot of the 64-bit field whose high half `encoding` names; KeyError if it names none."""
    field = fields.FIELD_BY_ENCODING[encoding - fields.HIGH]
    if field.width != "64":
        raise KeyError(encoding)
    return _SLOT[field.encoding]
