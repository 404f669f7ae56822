"""Single instructions where nothing exits: those the engine leaves to this project, and those it must not have."""

import pytest

from tests.unit.engine_rig import CODE, DATA, Rig

# instructions whose CPUID bits are not advertised; the first two would bring entropy into the guest
HIDDEN = (
    "rdrand eax", "rdseed eax", "rdpid rax", "rdfsbase rax", "invpcid rax, [rdi]", "xgetbv", "vaddps ymm0, ymm0, ymm1",
    "monitor", "mwait", "stac", "movbe eax, [rdi]", "andn eax, ecx, edx", "adcx eax, ecx", "xsave [rdi]",
    "clflushopt [rdi]", "vmrun", "vmmcall", "vmload", "vmsave", "stgi", "clgi", "skinit", "invlpga", "rsm", "vmcall",
    "vmxoff", "getsec",
)  # fmt: skip


@pytest.mark.parametrize("text", HIDDEN)
def test_what_cpuid_does_not_advertise_is_undefined(text: str) -> None:
    rig = Rig(f"nop\n {text}\n hlt")
    rig["rdi"] = DATA
    rig.run()
    assert rig.halted_in == 6
    assert rig.word(rig["rsp"]) == CODE + 1
