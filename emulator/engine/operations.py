"""What is outside a core: what it asks for when no VMCS control makes an exit of it.

C: sc_platform_callback(operation, number, argument, values) --> ANSWERS[operation] --> Platform
"""

from collections.abc import Callable
from typing import Any, Protocol

from emulator.engine.abi import Operation


class Platform(Protocol):
    """What is outside the core: it answers what no VMCS control intercepts."""

    def port_read(self, port: int, size_bytes: int) -> int:
        """IN."""
        ...

    def port_write(self, port: int, size_bytes: int, value: int) -> None:
        """OUT."""
        ...

    def mmio_read(self, hpa: int, size_bytes: int) -> int:
        """A load where there is no RAM."""
        ...

    def mmio_write(self, hpa: int, size_bytes: int, value: int) -> None:
        """A store where there is no RAM."""
        ...

    def cr8_read(self) -> int:
        """MOV from CR8."""
        ...

    def cr8_write(self, value: int) -> None:
        """MOV to CR8, of 0 to 15."""
        ...

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        """EAX, EBX, ECX, EDX of a leaf."""
        ...

    def msr_read(self, index: int) -> int | None:
        """RDMSR of an MSR the core does not keep itself; None: #GP."""
        ...

    def msr_write(self, index: int, value: int) -> bool:
        """WRMSR of an MSR the core does not keep itself; False: #GP."""
        ...

    def interrupt_vector(self) -> int:
        """Interrupt acknowledge: the vector of the pending interrupt."""
        ...


class Asking(Protocol):
    """The engine that asks."""

    @property
    def platform(self) -> Platform:
        """What is outside its core."""
        ...

    @property
    def on_notification(self) -> Callable[[int], int] | None:
        """(vector): what the guest gets in its place, without a VM exit, as a posted interrupt; 0: it exits."""
        ...

    @property
    def on_watched_access(self) -> Callable[[int, bool], bool] | None:
        """(hpa, is a store): may the access to a watched page take place now?"""
        ...

    @property
    def on_watched_store(self) -> Callable[[int], None] | None:
        """(hpa): a store to a watched page has taken place."""
        ...


# The answer to an operation: (engine, number, argument, values) -> what C gets; `values` are up to four words, the
# results or the value to write.
Answer = Callable[[Asking, int, int, Any], int]


def _port_read(engine: Asking, port: int, size_bytes: int, values: Any) -> int:
    values[0] = engine.platform.port_read(port, size_bytes)
    return True


def _port_write(engine: Asking, port: int, size_bytes: int, values: Any) -> int:
    engine.platform.port_write(port, size_bytes, values[0])
    return True


def _cpuid(engine: Asking, leaf: int, subleaf: int, values: Any) -> int:
    values[0], values[1], values[2], values[3] = engine.platform.cpuid(leaf, subleaf)
    return True


def _msr_read(engine: Asking, index: int, _: int, values: Any) -> int:
    value = engine.platform.msr_read(index)
    values[0] = value or 0
    return value is not None


def _msr_write(engine: Asking, index: int, value: int, _: Any) -> int:
    return engine.platform.msr_write(index, value)


def _interrupt_vector(engine: Asking, can_take: int, _: int, values: Any) -> int:
    vector = values[0] = engine.platform.interrupt_vector()
    if can_take and engine.on_notification is not None:
        values[1] = engine.on_notification(vector)
    return True


def _mmio_read(engine: Asking, hpa: int, size_bytes: int, values: Any) -> int:
    values[0] = engine.platform.mmio_read(hpa, size_bytes)
    return True


def _mmio_write(engine: Asking, hpa: int, size_bytes: int, values: Any) -> int:
    engine.platform.mmio_write(hpa, size_bytes, values[0])
    return True


def _cr8_read(engine: Asking, _: int, __: int, values: Any) -> int:
    values[0] = engine.platform.cr8_read()
    return True


def _cr8_write(engine: Asking, _: int, value: int, __: Any) -> int:
    engine.platform.cr8_write(value)
    return True


def _watched_access(engine: Asking, hpa: int, is_store: int, _: Any) -> int:
    assert engine.on_watched_access is not None
    return engine.on_watched_access(hpa, bool(is_store))


def _watched_done(engine: Asking, hpa: int, _: int, __: Any) -> int:
    assert engine.on_watched_store is not None
    engine.on_watched_store(hpa)
    return True


ANSWERS: dict[int, Answer] = {
    Operation.PORT_READ: _port_read,
    Operation.PORT_WRITE: _port_write,
    Operation.CPUID: _cpuid,
    Operation.MSR_READ: _msr_read,
    Operation.MSR_WRITE: _msr_write,
    Operation.INTERRUPT_VECTOR: _interrupt_vector,
    Operation.MMIO_READ: _mmio_read,
    Operation.MMIO_WRITE: _mmio_write,
    Operation.CR8_READ: _cr8_read,
    Operation.CR8_WRITE: _cr8_write,
    Operation.WATCHED_ACCESS: _watched_access,
    Operation.WATCHED_DONE: _watched_done,
}
