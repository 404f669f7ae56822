"""The ABI of sidecalls: guests and the VMM mean the same."""

import re

from guest_images.kernels import LIBRARY
from vmm.sidecore import abi

DEFINE = re.compile(r"#define SIDECORE_(\w+) (-?(?:0x)?[0-9a-f]+)\b")
OTHER_NAMES = {"CPUID": "CPUID_LEAF"}


def defines() -> dict[str, int]:
    text = (LIBRARY / "sidecore.h").read_text()
    return {OTHER_NAMES.get(name, name): int(value, 0) for name, value in DEFINE.findall(text)}


def test_header_and_python_have_the_same_numbers() -> None:
    assert len(defines()) > 20
    assert {name: getattr(abi, name) for name in defines()} == defines()


def test_a_request_is_where_the_header_says() -> None:
    words = b"".join(value.to_bytes(8, "little") for value in (11, 22, 33))
    slot = (
        (0x101).to_bytes(4, "little")
        + (7).to_bytes(4, "little")
        + (5).to_bytes(4, "little")
        + bytes(4)
        + words
        + bytes(24)
    )
    assert len(slot) == abi.SLOT_BYTES
    assert abi.state_of(slot) == abi.POSTED | abi.CLOSED
    assert abi.unpack(slot) == abi.Request(7, 5, (11, 22, 33))
