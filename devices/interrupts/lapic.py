"""The local APIC of a CPU, in xAPIC mode (SDM 3A 10): between the interrupts of a machine and the CPU's INTR pin.

    ICR --> InterruptBus --> accept --+
    timer, LINT, error --> LVT -------+--> IRR --(class above PPR)--> INTR --> acknowledge --> ISR --> EOI
    LINT0 with ExtINT: the 8259s ------------------------------------> INTR --> acknowledge --> their vector

It knows offsets, time and its pins, never the CPU. Registers: lapic_registers.py; timer: lapic_timer.py.

MODEL: no x2APIC, and the base address cannot be moved (#GP). SMI messages are dropped: there is no SMM. The thermal and
performance entries of the LVT are never triggered. A register address that is not a multiple of 16 reads 0.
"""

from collections.abc import Callable

from devices.cpu_pins import CpuPins
from devices.interrupts import lapic_registers as r
from devices.interrupts.interrupt_bus import BROADCAST, DeliveryMode, InterruptBus, InterruptMessage
from devices.interrupts.lapic_icr import TO_DESTINATION, TO_OTHERS, TO_SELF, decode_icr
from devices.interrupts.lapic_timer import LapicTimer
from devices.interrupts.lapic_vectors import NONE, VectorState, word
from emulator import x86
from emulator.events import EventQueue


class LocalApic:
    """APIC number `number`; number 0 belongs to the boot CPU. `acknowledge_8259` is the INTA cycle of the 8259s."""

    widths_bytes: tuple[int, ...] = (4,)

    def __init__(
        self,
        number: int,
        bus: InterruptBus,
        events: EventQueue,
        *,
        pins: CpuPins,
        timer_hz: int,
        acknowledge_8259: Callable[[], int],
    ) -> None:
        self.number = number
        self.pins = pins
        self._bus = bus
        self._acknowledge_8259 = acknowledge_8259
        self.vectors = VectorState()
        self.base = r.DEFAULT_BASE | r.BASE_ENABLED | (0 if number else r.BASE_BOOT_CPU)
        self._intr = False  # level of the INTR pin
        self._lint = [False, False]
        self.timer = LapicTimer(
            events,
            frequency_hz=timer_hz,
            tsc_to_ps=pins.tsc_to_ps,
            is_wanted=self._timer_is_wanted,
            on_expiry=self._on_timer,
        )
        self.reset()
        bus.attach(self)

    def reset(self) -> None:
        """The state after power-up and INIT (SDM 3A 10.4.7)."""
        self.registers = {offset: row.reset for offset, row in r.REGISTERS.items()}
        self.registers[r.ID] = self.number << 24
        self.vectors = VectorState()
        self._errors = 0  # since ESR was written last
        self._ext_int_messages = False  # an I/O APIC sent ExtINT
        self.timer.reset()
        self._update()

    # --- interrupts in ---

    @property
    def is_enabled(self) -> bool:
        """IA32_APIC_BASE.EN: there is a local APIC at all."""
        return bool(self.base & r.BASE_ENABLED)

    @property
    def _is_software_enabled(self) -> bool:
        return bool(self.registers[r.SVR] & r.SVR_ENABLED)

    def is_addressed(self, destination: int, *, is_logical: bool) -> bool:
        """Whether a message's destination names this APIC (SDM 3A 10.6.2)."""
        if not self.is_enabled:
            return False
        if not is_logical:
            return destination in (self.registers[r.ID] >> 24, BROADCAST)
        logical_id = self.registers[r.LDR] >> 24
        if self.registers[r.DFR] >> 28 == r.DFR_FLAT:
            return bool(logical_id & destination)
        cluster = destination >> 4
        return cluster in (logical_id >> 4, 0xF) and bool(logical_id & destination & 0xF)

    def accept(self, message: InterruptMessage) -> None:
        """Take an interrupt message from the bus."""
        if not self.is_enabled:
            return
        match message.delivery_mode:
            case DeliveryMode.FIXED | DeliveryMode.LOWEST_PRIORITY:
                if self._is_software_enabled:
                    self._request(message.vector, is_level=message.is_level)
            case DeliveryMode.NMI:
                self.pins.on_nmi()
            case DeliveryMode.INIT:
                self.reset()
                self.pins.on_init()
            case DeliveryMode.START_UP:
                self.pins.on_start_up(message.vector)
            case DeliveryMode.EXT_INT:
                self._ext_int_messages = True
                self._update()

    def _request(self, vector: int, *, is_level: bool = False) -> None:
        if vector < r.ILLEGAL_VECTORS:
            self._note_error(r.ESR_RECEIVED_ILLEGAL)
            return
        self.vectors.request(vector, is_level=is_level)
        self._update()

    def set_lint(self, pin: int, level: bool) -> None:
        """Drive LINT0 (the 8259s' INTR) or LINT1 (NMI)."""
        rises = level and not self._lint[pin]
        self._lint[pin] = level
        if not self.is_enabled:  # then the pins are the CPU's INTR and NMI
            if pin and rises:
                self.pins.on_nmi()
        elif rises:
            lvt = self.registers[(r.LVT_LINT0, r.LVT_LINT1)[pin]]
            self._trigger(lvt, is_level=bool(lvt & r.LVT_LEVEL))
        self._update()

    def _trigger(self, lvt: int, *, is_level: bool = False) -> None:
        """A local interrupt, as its LVT register says. ExtINT is a level, see `_has_ext_int`."""
        if lvt & r.LVT_MASKED:
            return
        match lvt >> r.LVT_MODE_SHIFT & 7:
            case DeliveryMode.FIXED:
                self._request(lvt & r.LVT_VECTOR, is_level=is_level)
            case DeliveryMode.NMI:
                self.pins.on_nmi()
            case DeliveryMode.INIT:
                self.pins.on_init()

    def _on_timer(self) -> None:
        self._request(self.registers[r.LVT_TIMER] & r.LVT_VECTOR)

    def _timer_is_wanted(self) -> bool:
        """Whether an expiry would change anything: a vector that is requested, or an error noted, is so already."""
        lvt = self.registers[r.LVT_TIMER]
        vector = lvt & r.LVT_VECTOR
        if lvt & r.LVT_MASKED:
            return False
        if vector < r.ILLEGAL_VECTORS:
            return not self._errors & r.ESR_RECEIVED_ILLEGAL
        return not self.vectors.is_requested(vector)

    def _note_error(self, error: int) -> None:
        """Remember an error for ESR; a new one interrupts (SDM 3A 10.5.3)."""
        if not self._errors & error:
            self._errors |= error
            self._trigger(self.registers[r.LVT_ERROR] & (r.LVT_MASKED | r.LVT_VECTOR))

    # --- interrupts out ---

    @property
    def processor_priority(self) -> int:
        """PPR."""
        return self.vectors.ppr

    def _has_ext_int(self) -> bool:
        """Whether the 8259s' request reaches the CPU: through LINT0, past a disabled APIC, or sent by an I/O APIC."""
        if self._lint[0]:
            lvt = self.registers[r.LVT_LINT0]
            is_ext_int = lvt >> r.LVT_MODE_SHIFT & 7 == DeliveryMode.EXT_INT
            if not self.is_enabled or (is_ext_int and not lvt & r.LVT_MASKED):
                return True
        return self._ext_int_messages

    def _update(self) -> None:
        """Drive INTR."""
        level = self.vectors.deliverable != NONE or self._has_ext_int()
        if level != self._intr:
            self._intr = level
            self.pins.on_intr(level)

    def acknowledge(self) -> int:
        """The CPU takes an interrupt: its vector. One that has gone yields the spurious vector (SDM 3A 10.9)."""
        vector = self.vectors.take()
        if vector != NONE:
            if vector == self.registers[r.LVT_TIMER] & r.LVT_VECTOR:
                self.timer.plan()
        elif self._has_ext_int():
            self._ext_int_messages = False
            vector = self._acknowledge_8259()
        else:
            vector = self.registers[r.SVR] & 0xFF
        self._update()
        return vector

    def _end_of_interrupt(self) -> None:
        vector = self.vectors.finish()
        if vector != NONE and self.vectors.is_level(vector):
            self._bus.end_of_interrupt(vector)
            for pin, offset in enumerate((r.LVT_LINT0, r.LVT_LINT1)):
                if self._lint[pin] and self.registers[offset] & r.LVT_VECTOR == vector:
                    self._trigger(self.registers[offset], is_level=True)

    # --- registers ---

    def read(self, offset: int, size_bytes: int) -> int:
        """The register at `offset`; all ones while IA32_APIC_BASE disables the APIC."""
        if not self.is_enabled:
            return 0xFFFF_FFFF
        row = r.REGISTERS.get(offset)
        if row is None:
            self._note_error(r.ESR_ILLEGAL_ADDRESS)
            return 0
        match offset:
            case r.TPR:
                return self.vectors.tpr
            case r.PPR:
                return self.processor_priority
            case r.TIMER_INITIAL:
                return self.timer.initial_count
            case r.TIMER_CURRENT:
                return self.timer.current_count
            case _ if r.ISR <= offset < r.TMR:
                return word(self.vectors.isr, offset - r.ISR >> 4)
            case _ if r.TMR <= offset < r.IRR:
                return word(self.vectors.tmr, offset - r.TMR >> 4)
            case _ if r.IRR <= offset < r.ESR:
                return word(self.vectors.irr, offset - r.IRR >> 4)
            case _:
                return self.registers[offset]

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Store in the register at `offset`."""
        if not self.is_enabled:
            return
        row = r.REGISTERS.get(offset)
        if row is None:
            self._note_error(r.ESR_ILLEGAL_ADDRESS)
            return
        if row.writable:
            value = value & row.writable | row.reset & ~row.writable
            if offset in r.LVTS and not self._is_software_enabled:
                value |= r.LVT_MASKED
            self.registers[offset] = value
        effect = WRITE_EFFECTS.get(offset)
        if effect is not None:
            effect(self, value)
        self._update()

    def _write_tpr(self, value: int) -> None:
        self.vectors.tpr = value

    def _write_eoi(self, _value: int) -> None:
        self._end_of_interrupt()

    def _write_svr(self, value: int) -> None:
        if not value & r.SVR_ENABLED:  # SDM 3A 10.4.7.2: every LVT entry is masked
            for offset in r.LVTS:
                self.registers[offset] |= r.LVT_MASKED
            self.timer.plan()

    def _write_esr(self, _value: int) -> None:
        self.registers[r.ESR], self._errors = self._errors, 0
        self.timer.plan()

    def _write_lvt_timer(self, value: int) -> None:
        self.timer.set_mode(value >> r.LVT_TIMER_MODE_SHIFT)

    def _write_initial(self, value: int) -> None:
        self.timer.write_initial_count(value)

    def _write_divide(self, value: int) -> None:
        self.timer.write_divide(value)

    def _write_icr(self, value: int) -> None:
        """Send an interprocessor interrupt (SDM 3A 10.6.1)."""
        command = decode_icr(value, self.registers[r.ICR_HIGH])
        if command.has_illegal_vector:
            self._note_error(r.ESR_SEND_ILLEGAL)
        elif not command.is_valid:
            return
        elif command.shorthand == TO_DESTINATION:
            self._bus.send(command.message)
        elif command.shorthand == TO_SELF:
            self.accept(command.message)
        else:
            self._bus.send_to_all(command.message, but=self if command.shorthand == TO_OTHERS else None)

    # --- what the CPU sees without memory: CR8 and MSRs ---

    @property
    def cr8(self) -> int:
        """The task-priority class."""
        return self.vectors.tpr >> 4

    @cr8.setter
    def cr8(self, value: int) -> None:
        self.vectors.tpr = (value & 0xF) << 4
        self._update()

    def read_msr(self, index: int) -> int | None:
        """RDMSR of IA32_APIC_BASE and IA32_TSC_DEADLINE; None: another."""
        match index:
            case x86.IA32_APIC_BASE:
                return self.base
            case x86.IA32_TSC_DEADLINE:
                return self.timer.deadline
            case _:
                return None

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR; False: another, or #GP."""
        if index == x86.IA32_TSC_DEADLINE:
            self.timer.deadline = value
            return True
        if index != x86.IA32_APIC_BASE or (value ^ r.DEFAULT_BASE) & ~(r.BASE_BOOT_CPU | r.BASE_ENABLED):
            return False
        was_enabled = self.is_enabled
        self.base = r.DEFAULT_BASE | value & (r.BASE_BOOT_CPU | r.BASE_ENABLED)
        if was_enabled != self.is_enabled:
            self.reset()
        return True


WRITE_EFFECTS: dict[int, Callable[[LocalApic, int], None]] = {
    r.TPR: LocalApic._write_tpr,
    r.EOI: LocalApic._write_eoi,
    r.SVR: LocalApic._write_svr,
    r.ESR: LocalApic._write_esr,
    r.ICR_LOW: LocalApic._write_icr,
    r.LVT_TIMER: LocalApic._write_lvt_timer,
    r.TIMER_INITIAL: LocalApic._write_initial,
    r.TIMER_DIVIDE: LocalApic._write_divide,
}
