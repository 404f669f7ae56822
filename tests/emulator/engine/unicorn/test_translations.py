"""The buffer of translations never fills: it is emptied before, by the count of what was translated.

How large a translation is depends on where the workstation has put the engine; and a guest may notice when the buffer
is emptied, because with it the engine forgets where translated code lies.
"""

import re
from pathlib import Path

import pytest

from tests.emulator.engine.rig import DATA, Rig, assemble

BUFFER_BYTES = 256 << 20
CODE_AT, CODE_BYTES = 0x200000, 0x1F0000  # by a page of 2 MiB


def resident_bytes() -> int:
    """How much executable memory that can be written has been touched, of all engines of this process."""
    resident_kib = 0
    for part in Path("/proc/self/smaps").read_text().split("VmFlags"):
        found = re.search(r"^[0-9a-f]+-[0-9a-f]+ rwxp.*?^Rss: +(\d+) kB", part, re.S | re.M)
        resident_kib += int(found[1]) if found else 0
    return resident_kib << 10


@pytest.mark.parametrize("text", ["movups xmm0, [rdi]", "haddps xmm0, [rdi]"])
def test_the_largest_translations_take_half_of_the_buffer(text: str) -> None:
    rig = Rig(f"mov rdi, {DATA}\n mov rax, {CODE_AT}\n jmp rax")
    rig["cr4"] |= 0x600  # OSFXSR, OSXMMEXCPT
    instruction = assemble(text)
    count = CODE_BYTES // len(instruction)
    rig.put(CODE_AT, instruction * count + b"\xf4")
    before_bytes = resident_bytes()
    rig.run(10**9)
    assert rig.is_halted
    assert rig.shared.instructions == rig.shared.clock_cycles == count + 4
    assert BUFFER_BYTES // 4 < resident_bytes() - before_bytes < BUFFER_BYTES // 2
