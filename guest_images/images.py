"""The table of guest images, and how a name becomes files that a loader can take.

Every test kernel prints its own verdict (see README.md); `ends_by` tells how its run ends when it succeeds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emulator.errors import ConfigError, choices_text
from guest_images import linux, linux_small, linux_vif, memtest
from guest_images.cache import ignore_progress
from guest_images.kernels import build_kernel

Kind = Literal["kernel", "linux", "tool", "file"]
End = Literal["debug exit", "shutdown", "triple fault", "user"]


@dataclass(frozen=True)
class ImageEntry:
    """One row of the table: an image that can be made."""

    name: str
    description: str
    kind: Kind = "kernel"
    ends_by: End = "debug exit"
    cpus: int = 1  # that it is made for; those that are made for several take any number from 2 on
    has_own_cores: bool = False  # each of them a core to itself: it waits for another only as long as hardware takes
    memory_mib: int = 256
    devices: tuple[str, ...] = ()  # on the PCI bus (`--device`)
    has_vif: bool = False  # made for a VIF of the host's NIC (`--vif`), mostly with a peer that has another


@dataclass(frozen=True)
class Image:
    """An image that is there: files to load and the command line to give."""

    name: str
    description: str
    kind: Kind
    ends_by: End
    kernel: Path
    initrd: Path | None = None
    append: str = ""


# fmt: off
IMAGES = (
    ImageEntry("default", "times what a hypervisor steps in for: CPUID, I/O, CR3, PTEs, faults, HLT"),
    ImageEntry("linux", "Debian's cloud kernel (vmlinux) and a BusyBox shell on the serial line", "linux", "user"),
    ImageEntry("linux_bzimage", "the same as a bzImage, which decompresses itself first", "linux", "user"),
    ImageEntry("linux-generic", "Debian's generic kernel, for any PC, with the same shell", "linux", "user"),
    ImageEntry("linux-small", "a small Linux built here from Debian's source, with the same shell", "linux", "user"),
    ImageEntry("linux-vif", "with a network, the driver of a VIF and psapp (`--vif`)", "linux", "user", has_vif=True),
    ImageEntry("memtest", "Debian's memtest86+, on the serial line", "tool", "user"),
    ImageEntry("vmexit", "what each operation that a VMM steps in for costs (`sidecore bench vmexit`)"),
    ImageEntry("mem", "what loads, page walks and streams cost (`sidecore bench mem`)"),
    ImageEntry("fig1", "null call, CPUID and new PTEs, by VM exit and by sidecall (`sidecore bench fig1`)"),
    ImageEntry("fig3", "page faults and context switches of processes (`sidecore bench pagefault`, `bench ctx`)"),
    ImageEntry("sidecall_null", "null sidecalls"),
    ImageEntry("sidecalls", "sidecalls on, off, and switched meanwhile: the same results"),
    ImageEntry("sidecall_errors", "sidecalls that cannot be"),
    ImageEntry("exit_cost", "thousands of CPUID and VMCALL exits, for the workstation's clock"),
    ImageEntry("boot", "the loader keeps the boot contract"),
    ImageEntry("exceptions", "each vector with its error code and RIP, from rings 0 and 3"),
    ImageEntry("nested_faults", "faults in handlers, bad gates, #DF over a broken stack or IDT"),
    ImageEntry("triple_fault", "the run ends by a triple fault, the verdict comes before", ends_by="triple fault"),
    ImageEntry("ist", "IST, RSP0, stack alignment, #TS"),
    ImageEntry("interrupts", "PIT, RTC and UART through the i8259 pair: counts, masks, priority"),
    ImageEntry("apic", "local APIC: requests, priorities, TPR and CR8, destinations, the 8259s through LINT0"),
    ImageEntry("apic_timer", "the local APIC's timer: dividers, one-shot, periodic, TSC deadline"),
    ImageEntry("ioapic", "PIT, RTC and UART through the I/O APIC: edges, levels, EOI"),
    ImageEntry("acpi", "ACPI and MP tables, PM timer; the run ends by S5", ends_by="shutdown"),
    ImageEntry("mmio", "every kind of instruction on a device's register"),
    ImageEntry("pci", "finds a PCI device, moves it, takes its interrupts (`--device edu`)", devices=("edu",)),
    ImageEntry("dma", "a PCI device reads and writes memory (`--device edu`)", devices=("edu",)),
    ImageEntry("dma_page_table", "a PCI device writes page tables that are in use", devices=("edu",)),
    ImageEntry("dma_code", "a PCI device writes code that CPUs have run and run again", cpus=2, devices=("edu",)),
    ImageEntry("msi", "a PCI device interrupts by messages, to this CPU and to another", cpus=2, devices=("edu",)),
    ImageEntry("high_memory", "memory above 4 GiB (`--memory 6G`)", memory_mib=6144, devices=("edu",)),
    ImageEntry("fw_cfg", "what the ports of QEMU's fw_cfg tell of the machine", cpus=2),
    ImageEntry("sti_shadow", "where exactly a waiting interrupt is taken"),
    ImageEntry("hlt_wake", "HLT waits for interrupts and for nothing else"),
    ImageEntry("syscall", "SYSCALL, SYSENTER, INT, IRETQ, SWAPGS, FMASK"),
    ImageEntry("segments", "selector loads and their faults, FS and GS bases, LAR, LSL, LTR"),
    ImageEntry("call_gates", "64-bit call gates: rings, compatibility mode, every check"),
    ImageEntry("mode32", "32-bit protected mode without paging and with PAE, compatibility mode"),
    ImageEntry("control_registers", "CR0, CR2, CR3, CR4, LMSW, CLTS; what is refused"),
    ImageEntry("msrs", "the MSRs a kernel lives on; what is refused"),
    ImageEntry("cpuid", "what is advertised works"),
    ImageEntry("undefined_instructions", "what is not advertised is no instruction, in any ring"),
    ImageEntry("monitor", "MONITOR and MWAIT, as idle loops use them, where CPUID offers them"),
    ImageEntry("tsc", "RDTSC, RDTSCP, CR4.TSD"),
    ImageEntry("fpu_sse", "x87 and SSE state, FXSAVE, lazy switching by #NM"),
    ImageEntry("debug_registers", "breakpoints and single-stepping"),
    ImageEntry("ports", "IN, OUT and their string forms in all widths"),
    ImageEntry("io_permission", "ports in ring 3: IOPL and the TSS bitmap"),
    ImageEntry("paging_map_unmap", "map, unmap, demand paging, absent entries at each level"),
    ImageEntry("paging_permissions", "W, U, NX over four levels, CR0.WP, SMEP: every combination"),
    ImageEntry("paging_accessed_dirty", "A and D are set when they should be, and only then"),
    ImageEntry("paging_large_pages", "2 MiB and 1 GiB pages; split and joined"),
    ImageEntry("paging_recursive_mapping", "page tables edited through themselves"),
    ImageEntry("paging_cr3_switch", "many address spaces; table pages freed and used again"),
    ImageEntry("paging_invlpg", "what is seen after INVLPG, MOV to CR3, CR4.PGE, gained rights"),
    ImageEntry("paging_page_table_writes", "entries written by every kind of store"),
    ImageEntry("paging_copy_on_write", "thousands of write faults: zero page, fork, ring 3"),
    ImageEntry("code_remap", "other code at the same address: remapped, or through an alias"),
    ImageEntry("self_modifying_code", "code that writes code, near and far"),
    ImageEntry("sidecall_operation", "sidecalls step by step: the ABI alone; operation 100, which a script may add"),
    ImageEntry("sidecall_smp", "sidecalls of several CPUs, in slots of their own and in one together", cpus=4),
    ImageEntry("sidecall_load", "sidecalls while another CPU is busy now and then", cpus=2),
    ImageEntry("smp_start", "INIT and SIPI start the other CPUs, also again (`--vcpus 4`)", cpus=4, has_own_cores=True),
    ImageEntry("smp_ipi", "interrupts between CPUs arrive once and where they should", cpus=4),
    ImageEntry("nmi", "NMIs from a local APIC: taken with IF clear, held back until IRET, waking a halted CPU", cpus=2),
    ImageEntry("smp_tlb_shootdown", "changed page-table entries, flushed on all CPUs", cpus=4),
    ImageEntry("smp_lock", "XCHG and LOCK are atomic between CPUs; order of stores", cpus=4),
    ImageEntry("smp_code", "code that one CPU changes and others run", cpus=4),
    ImageEntry("smp_tsc", "the time-stamp counters of all CPUs are one", cpus=4),
    ImageEntry("speed_loops", "the loops in which kernels spend an emulator's time, for `sidecore bench speed`"),
    ImageEntry("compute", "computes only, and counts what its rounds took; for a core that is shared"),
    ImageEntry("bridge", "a stub domain: carries the frames of other guests", ends_by="user", has_vif=True),
    ImageEntry("lost_interrupt", "forgets an EOI, and waits for ever: the debugger's tutorial", ends_by="user"),
    ImageEntry("idle", "halts for ever", ends_by="user", memory_mib=32),
    ImageEntry("vif", "a VIF: its page, descriptors, frames, signals (`--vif`)", has_vif=True),
    ImageEntry("vif_blast", "as many frames as there is room for, both ways, each checked (`--vif`)", has_vif=True),
    ImageEntry("vif_hostile", "writes nonsense into its own rings (`--vif`)", has_vif=True),
    ImageEntry("psapp", "round trips of a frame to a peer and back (`--vif`)", memory_mib=32, has_vif=True),
    ImageEntry("multiboot", "32 bits: a Multiboot kernel is told what it should be"),
    ImageEntry("paging_32bit", "32 bits: two-level page tables, 4 MiB pages, PAE and back, no paging and back"),
    ImageEntry("mode16", "32 bits: 16-bit code, stacks and gates in protected mode"),
    ImageEntry("v86", "32 bits: virtual-8086 mode: IOPL, ports, faults, interrupts, paging"),
    ImageEntry("call_gates_32bit", "32 bits: call gates: rings, parameters, every check, page faults"),
    ImageEntry("task_switches", "32 bits: hardware task switches: JMP, CALL, IRET, task gates, 16 bits, every fault"),
    ImageEntry("real_mode", "32 bits: to real mode and back; its interrupts and exceptions"),
)
# fmt: on
LISTED_BY = "sidecore images list"
_BY_NAME = {entry.name: entry for entry in IMAGES}


def all_images() -> tuple[ImageEntry, ...]:
    """Every image that has a name, in the order to show them."""
    return IMAGES


def kernel_images() -> Iterator[ImageEntry]:
    """The test kernels: one folder each."""
    return (entry for entry in IMAGES if entry.kind == "kernel")


def standalone_kernels() -> Iterator[ImageEntry]:
    """The test kernels that come to a verdict on any machine, alone."""
    return (entry for entry in kernel_images() if entry.ends_by != "user" and not entry.has_vif)


def find_entry(name: str) -> ImageEntry | None:
    """The row of the image `name`, if there is one."""
    return _BY_NAME.get(name)


def entry_of(name: str) -> ImageEntry:
    """The row of the image `name`. Raises KeyError."""
    return _BY_NAME[name]


def build(name: str, progress: Callable[[str], None] = ignore_progress) -> Path:
    """The kernel file of the image `name`, built or fetched if need be. Raises ConfigError."""
    return resolve(name, progress).kernel


def resolve(name: str, progress: Callable[[str], None] = ignore_progress) -> Image:
    """The files of the image `name`; a path to an existing file stands for itself.

    What takes long (fetching or building Linux) calls `progress` with a line per step. Raises ConfigError.
    """
    entry = _BY_NAME.get(name)
    if entry is None:
        if Path(name).is_file():
            return Image(name, "a file", kind="file", ends_by="user", kernel=Path(name))
        raise ConfigError(f"no guest image or file {name!r}; {choices_text(name, list(_BY_NAME), listed_by=LISTED_BY)}")
    match name:
        case "linux" | "linux_bzimage":
            files = linux.fetch(linux.CLOUD_META_PACKAGE, progress)
        case "linux-generic":
            files = linux.fetch(linux.GENERIC_META_PACKAGE, progress)
        case "linux-small":
            files = linux_small.build(progress)
        case "linux-vif":
            files = linux_vif.build(progress)
        case "memtest":
            return _image(entry, memtest.fetch(progress), append=memtest.COMMAND_LINE)
        case _:
            return _image(entry, build_kernel(name))
    kernel = files.bzimage if name == "linux_bzimage" else files.vmlinux
    return _image(entry, kernel, initrd=files.initramfs, append=linux.COMMAND_LINE)


def _image(entry: ImageEntry, kernel: Path, *, initrd: Path | None = None, append: str = "") -> Image:
    return Image(entry.name, entry.description, entry.kind, entry.ends_by, kernel, initrd, append)
