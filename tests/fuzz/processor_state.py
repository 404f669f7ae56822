"""The state of a processor as both sides of the comparison give it: one list of 64-bit words, in this order.

`bochs.c` has the same order.
"""

from emulator.vmx import fields as f
from emulator.x86 import GPR_NAMES

SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
SEGMENT_PARTS = ("selector", "base", "limit", "access_rights")
MSRS = {
    "star": 0xC000_0081,
    "lstar": 0xC000_0082,
    "cstar": 0xC000_0083,
    "fmask": 0xC000_0084,
    "kernel_gs_base": 0xC000_0102,
    "sysenter_cs": 0x174,
    "sysenter_esp": 0x175,
    "sysenter_eip": 0x176,
    "pat": 0x277,
    "tsc_aux": 0xC000_0103,
}
NAMES = (
    *GPR_NAMES,
    "rip",
    "rflags",
    *(f"{segment}_{part}" for segment in SEGMENT_NAMES for part in SEGMENT_PARTS),
    *("gdtr_base", "gdtr_limit", "idtr_base", "idtr_limit"),
    *("cr0", "cr2", "cr3", "cr4", "efer"),
    *("dr0", "dr1", "dr2", "dr3", "dr6", "dr7"),
    *MSRS,
)
PLACE = {name: at for at, name in enumerate(NAMES)}
_OTHER_FIELDS = {"efer": "ia32_efer", "pat": "ia32_pat"} | {
    f"sysenter_{part}": f"ia32_sysenter_{part}" for part in ("cs", "esp", "eip")
}
IN_SHARED = ("cr2", "dr0", "dr1", "dr2", "dr3", "dr6")
IN_ENGINE = ("star", "lstar", "cstar", "fmask", "kernel_gs_base", "tsc_aux")


def _slot(name: str) -> int:
    return f.SLOT[int(getattr(f, "GUEST_" + _OTHER_FIELDS.get(name, name).upper()))]


SLOTS = tuple(  # (place in the state, VMCS slot)
    (PLACE[name], _slot(name))
    for name in NAMES
    if (name not in GPR_NAMES or name == "rsp") and name not in IN_SHARED and name not in IN_ENGINE
)
State = list[int]
