"""What Linux is told at its 32-bit and 64-bit entry points: boot_params in RSI, the command line, one initrd.

Source: Documentation/arch/x86/boot.rst, "32-bit Boot Protocol" and "64-bit Boot Protocol".
"""

from vmm.boot.loaders import boot_params, low_memory
from vmm.boot.loaders.boot_image import Handover, KernelImage, Module, Payload

NO_INITRD = Module(0, b"")


def hand_over(kernel: KernelImage, payload: Payload) -> Handover:
    """boot_params and the command line."""
    initrd = payload.modules[0] if payload.modules else NO_INITRD
    parameters = boot_params.build(
        kernel.setup_header,
        memory_bytes=payload.memory_bytes,
        load_gpa=min(area.gpa for area in kernel.areas),
        initrd_gpa=initrd.gpa,
        initrd_bytes=len(initrd.data),
    )
    segments = (low_memory.BOOT_PARAMS.gpa, parameters), (low_memory.COMMAND_LINE.gpa, payload.command_line)
    return Handover(segments, {"rsi": low_memory.BOOT_PARAMS.gpa})
