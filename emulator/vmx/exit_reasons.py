"""VM-exit reasons and the formats of what an exit reports.

Source: Intel SDM volume 3, appendix C "VMX Basic Exit Reasons" and 24.9.1 "Basic VM-Exit Information".
Names are those `perf kvm stat` prints, where it has one.
The qualification and interruption formats are in `qualifications` and `interruption`.

    31  30..28  27   26..16   15          0       the exit-reason field
    +--+------+----+---------+-------------+
    |EF|  0   |encl|    0    | basic reason|       EF: the VM entry failed (reasons 33, 34 and 41)
    +--+------+----+---------+-------------+

To add an exit reason: add its row; its name and its C define follow.
"""


# fmt: off
class ExitReason:
    """Basic exit reasons as plain integers: reading one costs no more than a class attribute."""

    EXCEPTION_NMI         = 0
    EXTERNAL_INTERRUPT    = 1
    TRIPLE_FAULT          = 2
    INIT_SIGNAL           = 3
    SIPI_SIGNAL           = 4
    IO_SMI                = 5
    OTHER_SMI             = 6
    INTERRUPT_WINDOW      = 7
    NMI_WINDOW            = 8
    TASK_SWITCH           = 9
    CPUID                 = 10
    GETSEC                = 11
    HLT                   = 12
    INVD                  = 13
    INVLPG                = 14
    RDPMC                 = 15
    RDTSC                 = 16
    RSM                   = 17
    VMCALL                = 18
    VMCLEAR               = 19
    VMLAUNCH              = 20
    VMPTRLD               = 21
    VMPTRST               = 22
    VMREAD                = 23
    VMRESUME              = 24
    VMWRITE               = 25
    VMXOFF                = 26
    VMXON                 = 27
    CR_ACCESS             = 28
    DR_ACCESS             = 29
    IO_INSTRUCTION        = 30
    MSR_READ              = 31
    MSR_WRITE             = 32
    INVALID_STATE         = 33  # VM-entry failure due to invalid guest state
    MSR_LOAD_FAIL         = 34  # VM-entry failure due to MSR loading
    MWAIT_INSTRUCTION     = 36
    MONITOR_TRAP_FLAG     = 37
    MONITOR_INSTRUCTION   = 39
    PAUSE_INSTRUCTION     = 40
    MCE_DURING_VMENTRY    = 41  # VM-entry failure due to machine-check event
    TPR_BELOW_THRESHOLD   = 43
    APIC_ACCESS           = 44
    EOI_INDUCED           = 45
    GDTR_IDTR             = 46
    LDTR_TR               = 47
    EPT_VIOLATION         = 48
    EPT_MISCONFIG         = 49
    INVEPT                = 50
    RDTSCP                = 51
    PREEMPTION_TIMER      = 52
    INVVPID               = 53
    WBINVD                = 54
    XSETBV                = 55
    APIC_WRITE            = 56
    RDRAND                = 57
    INVPCID               = 58
    VMFUNC                = 59
    ENCLS                 = 60
    RDSEED                = 61
    PML_FULL              = 62
    XSAVES                = 63
    XRSTORS               = 64
    PCONFIG               = 65
    SPP_EVENT             = 66
    UMWAIT                = 67
    TPAUSE                = 68
    LOADIWKEY             = 69
    ENCLV                 = 70
    ENQCMD_PASID          = 72
    ENQCMDS_PASID         = 73
    BUS_LOCK              = 74
    NOTIFY                = 75  # instruction timeout
    SEAMCALL              = 76
    TDCALL                = 77
    RDMSRLIST             = 78
    WRMSRLIST             = 79
    URDMSR                = 80
    UWRMSR                = 81
    MSR_READ_IMM          = 84
    MSR_WRITE_IMM         = 85
# fmt: on


NAMES: dict[int, str] = {number: name for name, number in vars(ExitReason).items() if name.isupper()}

BASIC_REASON_MASK = 0xFFFF
ENTRY_FAILURE = 1 << 31


def name(reason: int) -> str:
    """Name of the exit reason field's value `reason`, or its number when the SDM gives it none."""
    basic = reason & BASIC_REASON_MASK
    return NAMES.get(basic, f"REASON_{basic}")


def c_defines() -> str:
    """Text of a C header: `EXIT_REASON_<name>` for every basic exit reason."""
    return "".join(f"#define EXIT_REASON_{text} {number}\n" for number, text in NAMES.items())
