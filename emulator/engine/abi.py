"""Numbers that the C files and Python share: build.py makes generated/abi.h of them, without importing the package."""

from enum import IntEnum


class Next(IntEnum):
    """What comes after a VM exit: the answer of `Engine.on_exit`."""

    RESUME = 0  # the VM entry: the guest goes on
    LEAVE = 1  # `Engine.run` returns before the guest's next instruction


RESUME, LEAVE = Next


def c_defines() -> str:
    """The numbers as C sees them."""
    return "".join(f"#define NEXT_{member.name} {member.value}\n" for member in Next)
