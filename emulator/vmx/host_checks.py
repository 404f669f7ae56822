"""VM-entry checks on the host-state area; a failure is VMfailValid with error 8.

Source: Intel SDM volume 3, 26.2.2 to 26.2.4, in their order.
MODEL: the VMM runs in IA-32e mode, so 'host address-space size' must be 1; the rules for a 32-bit host are left out.
MODEL: PERF_GLOBAL_CTRL, PKRS, CET and FRED state is not checked: no processor here offers its load controls.
"""

from emulator.vmx import controls as c
from emulator.vmx import fields as f
from emulator.vmx.capabilities import VmxCapabilities
from emulator.vmx.check import Check
from emulator.x86 import (
    CR4_PAE,
    EFER_DEFINED,
    EFER_LMA,
    EFER_LME,
    SELECTOR_RPL,
    SELECTOR_TI,
    is_canonical,
    is_pat,
)

_CONTROL_REGISTERS = "26.2.2"
_SEGMENTS = "26.2.3"
_ADDRESS_SPACE = "26.2.4"
_EXIT = f.VM_EXIT_CONTROLS

_SELECTORS = {
    "CS": f.HOST_CS_SELECTOR,
    "SS": f.HOST_SS_SELECTOR,
    "DS": f.HOST_DS_SELECTOR,
    "ES": f.HOST_ES_SELECTOR,
    "FS": f.HOST_FS_SELECTOR,
    "GS": f.HOST_GS_SELECTOR,
    "TR": f.HOST_TR_SELECTOR,
}
_BASES = {
    "FS": f.HOST_FS_BASE,
    "GS": f.HOST_GS_BASE,
    "GDTR": f.HOST_GDTR_BASE,
    "IDTR": f.HOST_IDTR_BASE,
    "TR": f.HOST_TR_BASE,
}


def _canonical(name: str, section: str, field: int) -> Check:
    return Check(
        f"host {name} must be canonical",
        section,
        (field,),
        lambda cap, address: is_canonical(address, cap.linear_address_bits),
    )


def _is_efer_long_mode(cap: VmxCapabilities, exit_: int, efer: int) -> bool:
    expected = EFER_LMA | EFER_LME if exit_ & c.EXIT_HOST_ADDRESS_SPACE_SIZE else 0
    return not exit_ & c.EXIT_LOAD_IA32_EFER or efer & (EFER_LMA | EFER_LME) == expected


# fmt: off
HOST_CHECKS: tuple[Check, ...] = (
    Check("host CR0 must have the bits fixed in VMX operation", _CONTROL_REGISTERS,
          (f.HOST_CR0,), lambda cap, cr0: cap.cr0.allows(cr0)),
    Check("host CR4 must have the bits fixed in VMX operation", _CONTROL_REGISTERS,
          (f.HOST_CR4,), lambda cap, cr4: cap.cr4.allows(cr4)),
    Check("host CR3 must not set bits beyond the physical-address width", _CONTROL_REGISTERS,
          (f.HOST_CR3,), lambda cap, cr3: cr3 >> cap.physical_address_bits == 0),
    _canonical("IA32_SYSENTER_ESP", _CONTROL_REGISTERS, f.HOST_IA32_SYSENTER_ESP),
    _canonical("IA32_SYSENTER_EIP", _CONTROL_REGISTERS, f.HOST_IA32_SYSENTER_EIP),
    Check("host IA32_PAT must hold memory types when 'load IA32_PAT' is 1", _CONTROL_REGISTERS,
          (_EXIT, f.HOST_IA32_PAT), lambda cap, exit_, pat: not exit_ & c.EXIT_LOAD_IA32_PAT or is_pat(pat)),
    Check("reserved bits of host IA32_EFER must be 0 when 'load IA32_EFER' is 1", _CONTROL_REGISTERS,
          (_EXIT, f.HOST_IA32_EFER), lambda cap, exit_, efer: not exit_ & c.EXIT_LOAD_IA32_EFER
          or not efer & ~EFER_DEFINED),
    Check("host EFER.LMA and EFER.LME must equal 'host address-space size'", _CONTROL_REGISTERS,
          (_EXIT, f.HOST_IA32_EFER), _is_efer_long_mode),
    *(Check(f"RPL and TI of the host {name} selector must be 0", _SEGMENTS,
            (field,), lambda cap, selector: not selector & (SELECTOR_RPL | SELECTOR_TI))
      for name, field in _SELECTORS.items()),
    *(Check(f"the host {name} selector must not be null", _SEGMENTS, (_SELECTORS[name],),
            lambda cap, selector: selector != 0)
      for name in ("CS", "TR")),
    *(_canonical(f"{name} base", _SEGMENTS, field) for name, field in _BASES.items()),
    Check("'host address-space size' must be 1 for a VMM in IA-32e mode", _ADDRESS_SPACE,
          (_EXIT,), lambda cap, exit_: bool(exit_ & c.EXIT_HOST_ADDRESS_SPACE_SIZE)),
    Check("host CR4.PAE must be 1 when 'host address-space size' is 1", _ADDRESS_SPACE,
          (_EXIT, f.HOST_CR4), lambda cap, exit_, cr4: not exit_ & c.EXIT_HOST_ADDRESS_SPACE_SIZE
          or bool(cr4 & CR4_PAE)),
    _canonical("RIP", _ADDRESS_SPACE, f.HOST_RIP),
)
# fmt: on
