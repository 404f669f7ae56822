/* VM exits that no instruction asks for: they come between instructions, by the count of instructions or of cycles.
 *
 *   monitor trap flag      after each instruction, and after each event that is delivered (SDM 3C 26.5.2)
 *   VMX-preemption timer   when the TSC's upper bits have advanced by the field's value since VM entry (SDM 3C 26.5.1)
 *   PAUSE-loop exiting     PAUSEs of CPL 0, each within PLE_GAP of the one before, for PLE_WINDOW (SDM 3C 26.1.3)
 *
 * With the monitor trap flag each instruction runs in a block of its own, see `step` in unicorn/run.c.
 * MODEL: a single-step #DB is delivered before the VM exit by the monitor trap flag, not after it.
 * MODEL: while the CPU halts in non-root operation the timer counts only as far as whoever runs it lets the clock go on.
 */
#include "engine.h"

#define NEVER ~0ull

bool has_monitor_trap(const sc_cpu *cpu) {
    return control(cpu, VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS, PROC_MONITOR_TRAP_FLAG);
}

/* An instruction or an event is done. */
void note_boundary(sc_cpu *cpu) { cpu->arch.state.monitor_trap_due = has_monitor_trap(cpu); }

/* The VM entry that follows an exit, or the first: the timer begins. */
void begin_entry(sc_cpu *cpu) {
    if (cpu->arch.state.is_entered) return;
    cpu->arch.state.is_entered = true;
    cpu->arch.state.timer_end_cycles = NEVER;
    if (!control(cpu, VMCS_PIN_BASED_CONTROLS, PIN_ACTIVATE_PREEMPTION_TIMER)) return;
    uint64_t tsc = cpu->s.clock_cycles + cpu->s.tsc_base, unit = 1 << PREEMPTION_TIMER_SHIFT;
    uint64_t value = (uint32_t)SLOT(cpu, VMX_PREEMPTION_TIMER_VALUE);
    cpu->arch.state.timer_end_cycles = cpu->s.clock_cycles + (value ? value * unit - tsc % unit : 0);
}

/* A VM exit ends what the entry began. */
void end_entry(sc_cpu *cpu) {
    uint64_t now = cpu->s.clock_cycles, end = cpu->arch.state.timer_end_cycles, unit = 1 << PREEMPTION_TIMER_SHIFT;
    if (end != NEVER && (SLOT(cpu, VM_EXIT_CONTROLS) & EXIT_SAVE_PREEMPTION_TIMER))
        SLOT(cpu, VMX_PREEMPTION_TIMER_VALUE) = now < end ? (end - now + unit - 1) / unit : 0;
    cpu->arch.state.timer_end_cycles = NEVER;
    cpu->arch.state.is_entered = cpu->arch.state.monitor_trap_due = false;
}

/* Is one of these VM exits due at the boundary where the CPU is? */
bool boundary_exit_due(const sc_cpu *cpu) {
    return cpu->arch.state.monitor_trap_due || cpu->s.clock_cycles >= cpu->arch.state.timer_end_cycles;
}

void exit_at_boundary(sc_cpu *cpu) {
    vm_exit(cpu, cpu->arch.state.monitor_trap_due ? EXIT_REASON_MONITOR_TRAP_FLAG : EXIT_REASON_PREEMPTION_TIMER, 0, 0);
}

/* Does the VM entry inject a pending exit by the monitor trap flag, whatever the flag is (SDM 3C 27.6.2)? */
bool inject_monitor_trap(sc_cpu *cpu, unsigned type) {
    if (type == EVENT_OTHER_EVENT) cpu->arch.state.monitor_trap_due = true;
    return type == EVENT_OTHER_EVENT;
}

/* PAUSE in non-root operation. */
bool pause_exits(sc_cpu *cpu) {
    if (control(cpu, VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS, PROC_PAUSE_EXITING)) return true;
    if (cpl(cpu) || !secondary_control(cpu, PROC2_PAUSE_LOOP_EXITING)) return false;
    uint64_t now = cpu->s.clock_cycles;
    bool is_first = !cpu->arch.state.pause_seen || now - cpu->arch.state.pause_last_cycles > SLOT(cpu, PLE_GAP);
    if (is_first) cpu->arch.state.pause_first_cycles = now;
    cpu->arch.state.pause_last_cycles = now;
    cpu->arch.state.pause_seen = true;
    if (is_first || now - cpu->arch.state.pause_first_cycles <= SLOT(cpu, PLE_WINDOW)) return false;
    cpu->arch.state.pause_seen = false;
    return true;
}
