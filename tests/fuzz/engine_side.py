"""The project's own CPU as one side of the comparison: states as lists of words, as bochs.py takes them."""

from operator import itemgetter

from emulator.engine import Engine
from emulator.memory import HostMemory
from emulator.vmx import fields as f
from tests.fuzz.bochs import HALT, LIMIT, SHUTDOWN
from tests.fuzz.processor_state import IN_ENGINE, IN_SHARED, MSRS, PLACE, SLOTS, State

_SLOT_PLACES = tuple(place for place, _slot in SLOTS)
_read_slots = itemgetter(*(slot for _place, slot in SLOTS))
_ACTIVITY = f.SLOT[f.GUEST_ACTIVITY_STATE]
_INTERRUPTIBILITY = f.SLOT[f.GUEST_INTERRUPTIBILITY_STATE]
_MSR_PLACES = tuple((PLACE[name], MSRS[name]) for name in IN_ENGINE)
_SHARED_PLACES = tuple((PLACE[name], name) for name in ("cr2", "dr6"))
_DR = PLACE["dr0"]


class Ports:
    """A platform where a port answers with its number, as in bochs.c, and that has nothing else but CR8."""

    def __init__(self) -> None:
        self.cr8 = 0

    def cr8_read(self) -> int:
        return self.cr8

    def cr8_write(self, value: int) -> None:
        self.cr8 = value

    def port_read(self, port: int, size_bytes: int) -> int:
        return port * 0x01010101 & (1 << 8 * size_bytes) - 1

    def port_write(self, port: int, size_bytes: int, value: int) -> None:
        pass

    def mmio_read(self, gpa: int, size_bytes: int) -> int:
        return (1 << 8 * size_bytes) - 1

    def mmio_write(self, gpa: int, size_bytes: int, value: int) -> None:
        pass

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        return 0, 0, 0, 0

    def msr_read(self, index: int) -> int | None:
        return None

    def msr_write(self, index: int, value: int) -> bool:
        return False

    def interrupt_vector(self) -> int:
        raise AssertionError("no interrupt was raised")


class OurCpu:
    """An engine without a VMM, over a memory of its own."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory = HostMemory(memory_bytes)
        self.ports = Ports()
        self.engine = Engine(self.memory, self.ports)
        self.shared = self.engine.shared

    def run(self, state: State, limit_instructions: int) -> tuple[int, State]:
        """Run from `state`: how it ended (LIMIT, HALT, SHUTDOWN), and the state it came to."""
        engine, shared = self.engine, self.shared
        gpr, vmcs = engine.gpr, engine.vmcs
        for i in range(16):
            gpr[i] = state[i]
        for place, slot in SLOTS:
            vmcs[slot] = state[place]
        vmcs[_ACTIVITY] = vmcs[_INTERRUPTIBILITY] = 0
        for place, msr in _MSR_PLACES:
            engine.wrmsr(msr, state[place])
        shared.cr2, shared.dr6 = state[PLACE["cr2"]], state[PLACE["dr6"]]
        for i in range(4):
            shared.dr[i] = state[_DR + i]
        shared.shutdown = 0
        self.ports.cr8 = 0
        engine.run(shared.clock_cycles + limit_instructions)
        return self._result()

    def _result(self) -> tuple[int, State]:
        engine, shared, vmcs = self.engine, self.shared, self.engine.vmcs
        how = SHUTDOWN if shared.shutdown else HALT if vmcs[_ACTIVITY] == 1 else LIMIT
        state = [0] * len(PLACE)
        state[0:16] = engine.gpr
        for place, value in zip(_SLOT_PLACES, _read_slots(vmcs), strict=True):
            state[place] = value
        for place, msr in _MSR_PLACES:
            state[place] = engine.rdmsr(msr) or 0
        for place, name in _SHARED_PLACES:
            state[place] = getattr(shared, name)
        state[_DR : _DR + 4] = list(shared.dr)
        return how, state


assert set(IN_SHARED) == {"cr2", "dr0", "dr1", "dr2", "dr3", "dr6"}
