"""A machine of two cores on which a cycle is an instruction or what a test charges, and the first of them."""

import pytest

from emulator.machine import Machine
from emulator.pcpu import PCpu
from tests.emulator.pcpu_rig import PROFILE


@pytest.fixture
def machine() -> Machine:
    return Machine(PROFILE, memory_bytes=1 << 20, pcpu_count=2, timing="flat")


@pytest.fixture
def pcpu(machine: Machine) -> PCpu:
    return machine.pcpus[0]
