"""Registers that a user may change: general ones, RIP and RFLAGS.

Control registers, segments and MSRs decide how the VMM runs the guest; they are left to the guest's own instructions.
"""

from emulator.errors import ConfigError, choices_text
from emulator.vmx import fields as f
from emulator.x86 import GPR_NAMES, is_canonical
from vmm.session.debugger.views.subject import LINEAR_BITS, WORD, Subject

FLAGS = 0x25_7FD5  # CF PF AF ZF SF TF IF DF OF IOPL NT RF AC ID; VM decides the mode, the others are reserved
FLAGS_ALWAYS = 2
FIELDS = {"rsp": f.GUEST_RSP, "rip": f.GUEST_RIP, "rflags": f.GUEST_RFLAGS}
NAMES = (*GPR_NAMES, "rip", "rflags")


def set_register(subject: Subject, name: str, value: int) -> None:
    """Raises ConfigError when there is no such register, or it cannot have the value."""
    if name not in NAMES:
        raise ConfigError(f"register {name!r} cannot be set; {choices_text(name, list(NAMES))}")
    if not 0 <= value <= WORD:
        raise ConfigError(f"{value:#x} does not fit; registers have 64 bits")
    if name == "rip" and not is_canonical(value, LINEAR_BITS):
        raise ConfigError(f"rip cannot be {value:#x}, which is not canonical")
    if name == "rflags":
        now = subject.read(f.GUEST_RFLAGS)
        if (value ^ now) & ~(FLAGS | FLAGS_ALWAYS):
            raise ConfigError(f"rflags cannot be {value:#x}; these bits can be changed: {FLAGS:#x}")
        value |= FLAGS_ALWAYS
    if name in FIELDS:
        subject.vmcs.storage[f.SLOT[FIELDS[name]]] = value
    else:
        subject.engine.gpr[GPR_NAMES.index(name)] = value
