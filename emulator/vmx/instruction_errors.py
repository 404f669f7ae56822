"""VM-instruction error numbers: why a VMX instruction failed.

Source: Intel SDM volume 3, 30.4 "VM Instruction Error Numbers". A failure is a value, `VmFailure`; VMfailValid also
leaves the number in the VM-instruction error field of the current VMCS.
"""

from dataclasses import dataclass

VMLAUNCH_NON_CLEAR = 4
VMRESUME_NON_LAUNCHED = 5
INVALID_CONTROL_FIELDS = 7
INVALID_HOST_STATE = 8
VMPTRLD_INCORRECT_REVISION = 11
UNSUPPORTED_COMPONENT = 12
READ_ONLY_COMPONENT = 13
VMXON_IN_VMX_ROOT = 15

MESSAGES: dict[int, str] = {
    1: "VMCALL executed in VMX root operation",
    2: "VMCLEAR with invalid physical address",
    3: "VMCLEAR with VMXON pointer",
    VMLAUNCH_NON_CLEAR: "VMLAUNCH with non-clear VMCS",
    VMRESUME_NON_LAUNCHED: "VMRESUME with non-launched VMCS",
    6: "VMRESUME after VMXOFF",
    INVALID_CONTROL_FIELDS: "VM entry with invalid control field(s)",
    INVALID_HOST_STATE: "VM entry with invalid host-state field(s)",
    9: "VMPTRLD with invalid physical address",
    10: "VMPTRLD with VMXON pointer",
    VMPTRLD_INCORRECT_REVISION: "VMPTRLD with incorrect VMCS revision identifier",
    UNSUPPORTED_COMPONENT: "VMREAD/VMWRITE from/to unsupported VMCS component",
    READ_ONLY_COMPONENT: "VMWRITE to read-only VMCS component",
    VMXON_IN_VMX_ROOT: "VMXON executed in VMX root operation",
    16: "VM entry with invalid executive-VMCS pointer",
    17: "VM entry with non-launched executive VMCS",
    18: "VM entry with executive-VMCS pointer not VMXON pointer",
    19: "VMCALL with non-clear VMCS",
    20: "VMCALL with invalid VM-exit control fields",
    22: "VMCALL with incorrect MSEG revision identifier",
    23: "VMXOFF under dual-monitor treatment of SMIs and SMM",
    24: "VMCALL with invalid SMM-monitor features",
    25: "VM entry with invalid VM-execution control fields in executive VMCS",
    26: "VM entry with events blocked by MOV SS",
    28: "Invalid operand to INVEPT/INVVPID",
}


@dataclass(frozen=True, slots=True)
class VmFailure:
    """A VMX instruction failed: VMfailValid with the number `error`, or VMfailInvalid (None)."""

    error: int | None

    def __str__(self) -> str:
        if self.error is None:
            return "VMfailInvalid: there is no current VMCS"
        return f"VM-instruction error {self.error}: {MESSAGES.get(self.error, 'not defined')}"
