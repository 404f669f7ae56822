"""One VM exit as traces have it, and as a line of JSON or of CSV.

`information` is the VM-exit interruption information (exceptions and interrupts) and `gpa` the guest-physical address
(EPT violations); both 0 where the SDM has them undefined. Addresses are hexadecimal text, since JSON's readers keep
only 53 bits of a number.
"""

from typing import NamedTuple

from emulator.vmx import fields as f
from emulator.vmx.exit_reasons import ExitReason, name
from vmm.vcpu import Exit, VCpu

WITH_GPA = (ExitReason.EPT_VIOLATION, ExitReason.EPT_MISCONFIG)  # exits that save GUEST_PHYSICAL_ADDRESS
COLUMNS = ("cycle", "cycles", "pcpu", "domain", "vcpu", "exit", "rip", "qualification", "information", "gpa")


class Record(NamedTuple):
    """An exit that began at `cycle` of its core and took `cycles` until the guest went on or ended."""

    cycle: int
    cycles: int
    pcpu: int
    domain: int
    vcpu: int
    reason: int
    rip: int
    qualification: int
    information: int
    gpa: int

    @staticmethod
    def of(vcpu: VCpu, exit: Exit, cycles: int) -> "Record":
        """Of an exit that ends now."""
        vmcs, reason = vcpu.vmcs, exit.reason
        information = vmcs.read(f.VM_EXIT_INTERRUPTION_INFORMATION) if reason == ExitReason.EXCEPTION_NMI else 0
        gpa = vmcs.read(f.GUEST_PHYSICAL_ADDRESS) if reason in WITH_GPA else 0
        return Record(
            exit.began_cycles, cycles, vcpu.pcpu.number, vcpu.domain.number, vcpu.number,
            reason, exit.rip, vmcs.read(f.EXIT_QUALIFICATION), information, gpa,
        )  # fmt: skip

    def json_line(self) -> str:
        """For `.jsonl`."""
        return (
            f'{{"cycle": {self.cycle}, "cycles": {self.cycles}, "pcpu": {self.pcpu}, '
            f'"domain": {self.domain}, "vcpu": {self.vcpu}, '
            f'"exit": "{name(self.reason)}", "rip": "{self.rip:#x}", "qualification": "{self.qualification:#x}", '
            f'"information": "{self.information:#x}", "gpa": "{self.gpa:#x}"}}\n'
        )

    def csv_line(self) -> str:
        """For `.csv`, below COLUMNS."""
        return (
            f"{self.cycle},{self.cycles},{self.pcpu},{self.domain},{self.vcpu},{name(self.reason)},"
            f"{self.rip:#x},{self.qualification:#x},{self.information:#x},{self.gpa:#x}\n"
        )
