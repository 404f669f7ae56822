"""VM-entry checks on the guest segment and descriptor-table registers; a failure is exit reason 33.

Source: Intel SDM volume 3, 26.3.1.2 "Checks on Guest Segment Registers" and 26.3.1.3 "Checks on Guest
Descriptor-Table Registers", in their order: selectors, bases, limits, access rights.

Three kinds of segment register are checked differently: CS, TR always; SS, DS, ES, FS, GS, LDTR when usable; and in
virtual-8086 mode (RFLAGS.VM) CS to GS must look exactly as that mode loads them.
"""

from emulator import x86
from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.capabilities import VmxCapabilities
from emulator.vmx.check import Check, secondary

_SEGMENTS = "26.3.1.2"
_TABLES = "26.3.1.3"
PROC = f.PRIMARY_PROCESSOR_BASED_CONTROLS
PROC2 = f.SECONDARY_PROCESSOR_BASED_CONTROLS
ENTRY = f.VM_ENTRY_CONTROLS
RFLAGS = f.GUEST_RFLAGS

# name -> selector, base, limit, access rights
REGISTERS: dict[str, tuple[int, int, int, int]] = {
    name: (
        f.FIELD_BY_NAME[f"GUEST_{name}_SELECTOR"].encoding,
        f.FIELD_BY_NAME[f"GUEST_{name}_BASE"].encoding,
        f.FIELD_BY_NAME[f"GUEST_{name}_LIMIT"].encoding,
        f.FIELD_BY_NAME[f"GUEST_{name}_ACCESS_RIGHTS"].encoding,
    )
    for name in ("CS", "SS", "DS", "ES", "FS", "GS", "TR", "LDTR")
}
CODE_AND_DATA = ("CS", "SS", "DS", "ES", "FS", "GS")
DATA = ("DS", "ES", "FS", "GS")

_VIRTUAL_8086_LIMIT = 0xFFFF
_VIRTUAL_8086_RIGHTS = 0xF3  # present, DPL 3, accessed read/write data
_CODE_TYPES = (9, 11, 13, 15)  # accessed; 13 and 15 are conforming
_READ_WRITE_DATA = 3
_STACK_TYPES = (3, 7)  # accessed read/write data, expand up or down
_LDT_TYPE = 2
_BUSY_TSS_16, _BUSY_TSS_32_OR_64 = 3, 11


def is_v86(rflags: int) -> bool:
    """Whether the guest will be in virtual-8086 mode."""
    return bool(rflags & x86.RFLAGS_VM)


def is_unrestricted(cap: VmxCapabilities, proc: int, proc2: int) -> bool:
    """Whether 'unrestricted guest' is in effect, or what comes near it."""
    return cap.has_paged_real_mode or bool(secondary(proc, proc2) & c.PROC2_UNRESTRICTED_GUEST)


def is_usable(rights: int) -> bool:
    """Whether the register holds a usable segment."""
    return not rights & x86.AR_UNUSABLE


def is_granular(limit: int, rights: int) -> bool:
    """G is 0 if any of limit bits 11:0 is 0, and 1 if any of limit bits 31:20 is 1."""
    if limit & 0xFFF != 0xFFF and rights & x86.AR_G:
        return False
    return not limit >> 20 or bool(rights & x86.AR_G)


def _is_cs_type(cap: VmxCapabilities, rflags: int, proc: int, proc2: int, rights: int) -> bool:
    kind = rights & x86.AR_TYPE
    return is_v86(rflags) or kind in _CODE_TYPES or (kind == _READ_WRITE_DATA and is_unrestricted(cap, proc, proc2))


def _is_data_type(cap: VmxCapabilities, rflags: int, rights: int) -> bool:
    if is_v86(rflags) or not is_usable(rights):
        return True
    return bool(rights & x86.AR_ACCESSED) and (not rights & x86.AR_CODE or bool(rights & x86.AR_READABLE))


def _is_cs_dpl(cap: VmxCapabilities, rflags: int, cs: int, ss: int) -> bool:
    if is_v86(rflags):
        return True
    kind = cs & x86.AR_TYPE
    if kind == _READ_WRITE_DATA:
        return x86.dpl(cs) == 0
    return x86.dpl(cs) == x86.dpl(ss) if kind in (9, 11) else x86.dpl(cs) <= x86.dpl(ss)


def _is_ss_dpl_rpl(cap: VmxCapabilities, rflags: int, proc: int, proc2: int, selector: int, rights: int) -> bool:
    return is_v86(rflags) or is_unrestricted(cap, proc, proc2) or x86.dpl(rights) == selector & x86.SELECTOR_RPL


def _is_ss_dpl_real(cap: VmxCapabilities, rflags: int, cr0: int, cs: int, ss: int) -> bool:
    if is_v86(rflags) or (cs & x86.AR_TYPE != _READ_WRITE_DATA and cr0 & x86.CR0_PE):
        return True
    return x86.dpl(ss) == 0


def _is_data_dpl(cap: VmxCapabilities, rflags: int, proc: int, proc2: int, selector: int, rights: int) -> bool:
    is_conforming = rights & x86.AR_TYPE > 11
    if is_v86(rflags) or is_unrestricted(cap, proc, proc2) or not is_usable(rights) or is_conforming:
        return True
    return x86.dpl(rights) >= selector & x86.SELECTOR_RPL


def _is_tr_type(cap: VmxCapabilities, entry: int, rights: int) -> bool:
    kind = rights & x86.AR_TYPE
    return kind == _BUSY_TSS_32_OR_64 or (kind == _BUSY_TSS_16 and not entry & c.ENTRY_IA32E_MODE_GUEST)


def _canonical(name: str, section: str, field: int) -> Check:
    return Check(
        f"guest {name} base must be canonical",
        section,
        (field,),
        lambda cap, base: x86.is_canonical(base, cap.linear_address_bits),
    )


def _rights(name: str, rule: str, mask: int, value: int) -> Check:
    """`rights & mask == value`, for CS outside virtual-8086 mode and for the others there when usable."""
    field = REGISTERS[name][3]
    title = f"guest {name} {rule}"
    if name == "TR":
        return Check(title, _SEGMENTS, (field,), lambda cap, rights: rights & mask == value)
    if name == "LDTR":
        return Check(title, _SEGMENTS, (field,), lambda cap, rights: not is_usable(rights) or rights & mask == value)
    if name == "CS":
        return Check(
            title, _SEGMENTS, (RFLAGS, field), lambda cap, rflags, rights: is_v86(rflags) or rights & mask == value
        )
    return Check(
        title,
        _SEGMENTS,
        (RFLAGS, field),
        lambda cap, rflags, rights: is_v86(rflags) or not is_usable(rights) or rights & mask == value,
    )


def _granularity(name: str) -> Check:
    _, _, limit_field, rights_field = REGISTERS[name]
    title = f"guest {name} granularity must fit its limit"
    is_always = name in ("CS", "TR")
    if name in CODE_AND_DATA:
        return Check(
            title,
            _SEGMENTS,
            (RFLAGS, limit_field, rights_field),
            lambda cap, rflags, limit, rights: (
                is_v86(rflags) or (not is_always and not is_usable(rights)) or is_granular(limit, rights)
            ),
        )
    return Check(
        title,
        _SEGMENTS,
        (limit_field, rights_field),
        lambda cap, limit, rights: (not is_always and not is_usable(rights)) or is_granular(limit, rights),
    )


def _low_base(name: str) -> Check:
    """Bits 63:32 of a base that is 32 bits wide outside 64-bit mode, and ignored in it."""
    _, base_field, _, rights_field = REGISTERS[name]
    is_always = name == "CS"
    return Check(
        f"bits 63:32 of guest {name} base must be 0",
        _SEGMENTS,
        (base_field, rights_field),
        lambda cap, base, rights: (not is_always and not is_usable(rights)) or base >> 32 == 0,
    )


# fmt: off
_SELECTOR_CHECKS: tuple[Check, ...] = (
    Check("TI of the guest TR selector must be 0", _SEGMENTS,
          (f.GUEST_TR_SELECTOR,), lambda cap, selector: not selector & x86.SELECTOR_TI),
    Check("TI of the guest LDTR selector must be 0", _SEGMENTS,
          (f.GUEST_LDTR_SELECTOR, f.GUEST_LDTR_ACCESS_RIGHTS),
          lambda cap, selector, rights: not is_usable(rights) or not selector & x86.SELECTOR_TI),
    Check("RPL of the guest SS selector must equal that of CS", _SEGMENTS,
          (RFLAGS, PROC, PROC2, f.GUEST_SS_SELECTOR, f.GUEST_CS_SELECTOR),
          lambda cap, rflags, proc, proc2, ss, cs: is_v86(rflags) or is_unrestricted(cap, proc, proc2)
          or not (ss ^ cs) & x86.SELECTOR_RPL),
)

_BASE_CHECKS: tuple[Check, ...] = (
    *(Check(f"guest {name} base must be the selector times 16 in virtual-8086 mode", _SEGMENTS,
            (RFLAGS, *REGISTERS[name][:2]),
            lambda cap, rflags, selector, base: not is_v86(rflags) or base == selector << 4)
      for name in CODE_AND_DATA),
    *(_canonical(name, _SEGMENTS, REGISTERS[name][1]) for name in ("TR", "FS", "GS")),
    Check("guest LDTR base must be canonical", _SEGMENTS,
          (f.GUEST_LDTR_BASE, f.GUEST_LDTR_ACCESS_RIGHTS),
          lambda cap, base, rights: not is_usable(rights) or x86.is_canonical(base, cap.linear_address_bits)),
    *(_low_base(name) for name in ("CS", "SS", "DS", "ES")),
)

_LIMIT_CHECKS: tuple[Check, ...] = tuple(
    Check(f"guest {name} limit must be FFFFH in virtual-8086 mode", _SEGMENTS,
          (RFLAGS, REGISTERS[name][2]),
          lambda cap, rflags, limit: not is_v86(rflags) or limit == _VIRTUAL_8086_LIMIT)
    for name in CODE_AND_DATA
)

_RIGHTS_CHECKS: tuple[Check, ...] = (
    *(Check(f"guest {name} access rights must be F3H in virtual-8086 mode", _SEGMENTS,
            (RFLAGS, REGISTERS[name][3]),
            lambda cap, rflags, rights: not is_v86(rflags) or rights == _VIRTUAL_8086_RIGHTS)
      for name in CODE_AND_DATA),
    Check("guest CS type must be accessed code, or read/write data for an unrestricted guest", _SEGMENTS,
          (RFLAGS, PROC, PROC2, f.GUEST_CS_ACCESS_RIGHTS), _is_cs_type),
    Check("guest SS type must be accessed read/write data", _SEGMENTS,
          (RFLAGS, f.GUEST_SS_ACCESS_RIGHTS),
          lambda cap, rflags, rights: is_v86(rflags) or not is_usable(rights) or rights & x86.AR_TYPE in _STACK_TYPES),
    *(Check(f"guest {name} type must be accessed, and readable if it is code", _SEGMENTS,
            (RFLAGS, REGISTERS[name][3]), _is_data_type)
      for name in DATA),
    *(_rights(name, "must be a code or data segment", x86.AR_S, x86.AR_S) for name in CODE_AND_DATA),
    Check("guest CS DPL must fit its type and SS DPL", _SEGMENTS,
          (RFLAGS, f.GUEST_CS_ACCESS_RIGHTS, f.GUEST_SS_ACCESS_RIGHTS), _is_cs_dpl),
    Check("guest SS DPL must equal the RPL of the SS selector", _SEGMENTS,
          (RFLAGS, PROC, PROC2, f.GUEST_SS_SELECTOR, f.GUEST_SS_ACCESS_RIGHTS), _is_ss_dpl_rpl),
    Check("guest SS DPL must be 0 when CS is data or CR0.PE is 0", _SEGMENTS,
          (RFLAGS, f.GUEST_CR0, f.GUEST_CS_ACCESS_RIGHTS, f.GUEST_SS_ACCESS_RIGHTS), _is_ss_dpl_real),
    *(Check(f"guest {name} DPL must not be below the RPL of its selector", _SEGMENTS,
            (RFLAGS, PROC, PROC2, REGISTERS[name][0], REGISTERS[name][3]), _is_data_dpl)
      for name in DATA),
    *(_rights(name, "must be present", x86.AR_P, x86.AR_P) for name in CODE_AND_DATA),
    *(_rights(name, "access rights bits 11:8 must be 0", x86.AR_RESERVED_LOW, 0) for name in CODE_AND_DATA),
    Check("guest CS.D must be 0 when CS.L is 1 in IA-32e mode", _SEGMENTS,
          (RFLAGS, ENTRY, f.GUEST_CS_ACCESS_RIGHTS),
          lambda cap, rflags, entry, rights: is_v86(rflags) or not entry & c.ENTRY_IA32E_MODE_GUEST
          or rights & (x86.AR_L | x86.AR_D) != x86.AR_L | x86.AR_D),
    *(_granularity(name) for name in CODE_AND_DATA),
    *(_rights(name, "access rights bits 31:17 must be 0", x86.AR_RESERVED_HIGH, 0) for name in CODE_AND_DATA),
    Check("guest TR must be a busy TSS of the right size", _SEGMENTS,
          (ENTRY, f.GUEST_TR_ACCESS_RIGHTS), _is_tr_type),
    _rights("TR", "must be a system segment", x86.AR_S, 0),
    _rights("TR", "must be present", x86.AR_P, x86.AR_P),
    _rights("TR", "access rights bits 11:8 must be 0", x86.AR_RESERVED_LOW, 0),
    _granularity("TR"),
    _rights("TR", "must be usable", x86.AR_UNUSABLE, 0),
    _rights("TR", "access rights bits 31:17 must be 0", x86.AR_RESERVED_HIGH, 0),
    _rights("LDTR", "type must be an LDT", x86.AR_TYPE, _LDT_TYPE),
    _rights("LDTR", "must be a system segment", x86.AR_S, 0),
    _rights("LDTR", "must be present", x86.AR_P, x86.AR_P),
    _rights("LDTR", "access rights bits 11:8 must be 0", x86.AR_RESERVED_LOW, 0),
    _granularity("LDTR"),
    _rights("LDTR", "access rights bits 31:17 must be 0", x86.AR_RESERVED_HIGH, 0),
)

_TABLE_CHECKS: tuple[Check, ...] = (
    _canonical("GDTR", _TABLES, f.GUEST_GDTR_BASE),
    _canonical("IDTR", _TABLES, f.GUEST_IDTR_BASE),
    Check("bits 31:16 of guest GDTR limit must be 0", _TABLES,
          (f.GUEST_GDTR_LIMIT,), lambda cap, limit: limit <= 0xFFFF),
    Check("bits 31:16 of guest IDTR limit must be 0", _TABLES,
          (f.GUEST_IDTR_LIMIT,), lambda cap, limit: limit <= 0xFFFF),
)
# fmt: on

SEGMENT_CHECKS: tuple[Check, ...] = _SELECTOR_CHECKS + _BASE_CHECKS + _LIMIT_CHECKS + _RIGHTS_CHECKS + _TABLE_CHECKS
