/* The loop of a CPU: pending events, then instructions, until something asks to stop.
 *
 * MODEL: events are looked at between basic blocks (and after every trap), not between instructions.
 */
#include "engine.h"

#define BLOCKS_NMI (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS | BLOCKING_BY_NMI)

void skip(sc_cpu *cpu, uint32_t instruction_bytes) {
    uint64_t rip = SLOT(cpu, GUEST_RIP) + instruction_bytes;
    SLOT(cpu, GUEST_RIP) = code_bits(cpu) == 64 ? rip : (uint32_t)rip;
    end_instruction(cpu);
}

void end_instruction(sc_cpu *cpu) {
    bool single_step = SLOT(cpu, GUEST_RFLAGS) & RFLAGS_TF;
    SLOT(cpu, GUEST_INTERRUPTIBILITY_STATE) &= ~(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    SLOT(cpu, GUEST_RFLAGS) &= ~RFLAGS_RF;
    retire(cpu);
    if (single_step) raise_debug(cpu, DR6_BS);
}

bool is_due(const sc_cpu *cpu) { return cpu->s.clock_cycles >= cpu->s.deadline_cycles; }

bool must_stop(const sc_cpu *cpu) {
    return cpu->s.stop_request || cpu->s.shutdown || cpu->port.error ||
           cpu->s.vmcs[VMCS_GUEST_ACTIVITY_STATE] != ACTIVITY_ACTIVE;
}

static bool interrupt_exits(const sc_cpu *cpu) {
    return control(cpu, VMCS_PIN_BASED_CONTROLS, PIN_EXTERNAL_INTERRUPT_EXITING);
}

static bool waits_for_window(const sc_cpu *cpu) {
    return control(cpu, VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS, PROC_INTERRUPT_WINDOW_EXITING);
}

/* Bit 3 of the interruptibility state is blocking by NMI, or virtual-NMI blocking; then NMIs themselves exit whatever it
 * says. With NMI exiting alone, IRET has no part in it (SDM 3C 25.3, 26.3 "IRET").
 * MODEL: an NMI also waits where STI blocks interrupts; NMIs are not blocked in VMX root operation. */
static bool has_virtual_nmis(const sc_cpu *cpu) { return control(cpu, VMCS_PIN_BASED_CONTROLS, PIN_VIRTUAL_NMIS); }
static bool nmi_exits(const sc_cpu *cpu) { return control(cpu, VMCS_PIN_BASED_CONTROLS, PIN_NMI_EXITING); }
bool iret_unblocks_nmis(const sc_cpu *cpu) { return !nmi_exits(cpu) || has_virtual_nmis(cpu); }

static bool waits_for_nmi_window(const sc_cpu *cpu) {
    return control(cpu, VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS, PROC_NMI_WINDOW_EXITING);
}

/* Blocking by NMI is known at any time, unlike what else the slots hold: does it alone keep NMIs out? */
static bool nmi_is_held(const sc_cpu *cpu) {
    bool blocked = cpu->s.vmcs[VMCS_GUEST_INTERRUPTIBILITY_STATE] & BLOCKING_BY_NMI;
    bool waits = cpu->s.nmi_pending && (!blocked || has_virtual_nmis(cpu));
    return !waits && !(waits_for_nmi_window(cpu) && !blocked);
}

static bool nmi_window_open(const sc_cpu *cpu) {
    return waits_for_nmi_window(cpu) && !(cpu->s.vmcs[VMCS_GUEST_INTERRUPTIBILITY_STATE] & BLOCKS_NMI);
}

static bool nmi_open(const sc_cpu *cpu) {
    uint64_t blocking = has_virtual_nmis(cpu) ? BLOCKS_NMI & ~BLOCKING_BY_NMI : BLOCKS_NMI;
    return cpu->s.nmi_pending && !(cpu->s.vmcs[VMCS_GUEST_INTERRUPTIBILITY_STATE] & blocking);
}

static void take_nmi(sc_cpu *cpu) {
    event e = {.vector = NMI_VECTOR, .type = EVENT_NMI};
    cpu->s.nmi_pending = 0;
    if (nmi_exits(cpu)) return vm_exit_event(cpu, e);
    SLOT(cpu, GUEST_ACTIVITY_STATE) = ACTIVITY_ACTIVE;
    deliver(cpu, e);
}

/* The IRET that was let through, if it has begun, has ended blocking by NMI: by its end, or by its fault. */
bool end_iret(sc_cpu *cpu) {
    if (cpu->arch.state.iret != IRET_RUNS) return false;
    cpu->arch.state.iret = IRET_NONE;
    bool blocked = SLOT(cpu, GUEST_INTERRUPTIBILITY_STATE) & BLOCKING_BY_NMI;
    if (!blocked || !iret_unblocks_nmis(cpu)) return false;
    SLOT(cpu, GUEST_INTERRUPTIBILITY_STATE) &= ~BLOCKING_BY_NMI;
    return true;
}

void begin_trap(sc_cpu *cpu) { cpu->arch.state.iret_unblocked = end_iret(cpu); }
void end_trap(sc_cpu *cpu) { cpu->arch.state.iret_unblocked = false; }

void let_iret_run(sc_cpu *cpu) {
    if (cpu->arch.state.iret == IRET_ARMED) cpu->arch.state.iret = IRET_RUNS;
}

/* Must each instruction have a block of its own? */
static bool runs_alone(const sc_cpu *cpu) { return has_monitor_trap(cpu) || has_data_breakpoints(cpu); }

/* Called between blocks while something is pending: is it time to leave the engine and settle it? */
bool must_settle(sc_cpu *cpu) {
    if (must_stop(cpu) || boundary_exit_due(cpu) || (cpu->port.step == STEP_NONE && runs_alone(cpu))) return true;
    if (cpu->s.interrupt_pending && interrupt_exits(cpu)) return true;
    bool for_interrupt = cpu->s.interrupt_pending || waits_for_window(cpu);
    if (nmi_is_held(cpu) && (!for_interrupt || !(engine_flags(cpu) & RFLAGS_IF))) return false;
    engine_window(cpu);
    return nmi_open(cpu) || nmi_window_open(cpu) || (for_interrupt && window_open(cpu));
}

static void external_interrupt(sc_cpu *cpu) {
    uint64_t vector = 0;
    SLOT(cpu, GUEST_ACTIVITY_STATE) = ACTIVITY_ACTIVE;
    sc_platform_callback(cpu->python, PLATFORM_INTERRUPT_VECTOR, 0, 0, &vector);
    deliver(cpu, (event){.vector = (uint8_t)vector, .type = EVENT_EXTERNAL_INTERRUPT});
}

static void inject(sc_cpu *cpu) {
    uint64_t info = SLOT(cpu, VM_ENTRY_INTERRUPTION_INFORMATION);
    SLOT(cpu, VM_ENTRY_INTERRUPTION_INFORMATION) = info & ~EVENT_VALID;
    if (inject_monitor_trap(cpu, info >> EVENT_TYPE_SHIFT & EVENT_TYPE_MASK)) return;
    SLOT(cpu, GUEST_ACTIVITY_STATE) = ACTIVITY_ACTIVE;
    event e = {.vector = info & EVENT_VECTOR_MASK,
               .type = info >> EVENT_TYPE_SHIFT & EVENT_TYPE_MASK,
               .has_error = info & EVENT_ERROR_CODE_VALID};
    e.error_code = (uint32_t)SLOT(cpu, VM_ENTRY_EXCEPTION_ERROR_CODE);
    if (e.type >= EVENT_SOFTWARE_INTERRUPT) e.instruction_bytes = (uint32_t)SLOT(cpu, VM_ENTRY_INSTRUCTION_LENGTH);
    if (e.vector == PAGE_FAULT) e.address = cpu->s.cr2; /* an injected #PF leaves CR2 alone (SDM 3C 27.6.1.1) */
    deliver(cpu, e);
}

/* Of a posted interrupt the guest gets the second vector, without a VM exit (SDM 3C 29.6). */
static void do_exit_interrupt(sc_cpu *cpu, bool open) {
    uint64_t vectors[2] = {0};
    if (cpu->s.vmcs[VMCS_VM_EXIT_CONTROLS] & EXIT_ACKNOWLEDGE_INTERRUPT) {
        sc_platform_callback(cpu->python, PLATFORM_INTERRUPT_VECTOR, open, 0, vectors);
        if (vectors[1]) {
            deliver(cpu, (event){.vector = (uint8_t)vectors[1], .type = EVENT_EXTERNAL_INTERRUPT});
            return;
        }
        cpu->arch.exiting.interruption = (vectors[0] & EVENT_VECTOR_MASK) | EVENT_VALID;
    }
    vm_exit(cpu, EXIT_REASON_EXTERNAL_INTERRUPT, 0, 0);
}

void watch(sc_cpu *cpu) {
    bool at_once = must_stop(cpu) || cpu->s.interrupt_pending || waits_for_window(cpu) || cpu->s.nmi_pending ||
                   waits_for_nmi_window(cpu) || cpu->port.step != STEP_NONE || cpu->arch.state.iret != IRET_NONE ||
                   has_breakpoints(cpu) || engine_must_empty(cpu) || cpu->port.spans.is_due;
    uint64_t next = cpu->arch.state.timer_end_cycles < cpu->s.deadline_cycles ? cpu->arch.state.timer_end_cycles
                                                                              : cpu->s.deadline_cycles;
    cpu->arch.check_at_cycles = at_once ? 0 : next;
}

static void trap_data_access(sc_cpu *cpu) {
    uint64_t hits = cpu->arch.state.data_hits;
    cpu->arch.state.data_hits = 0;
    raise_debug(cpu, hits);
}

void settle(sc_cpu *cpu) {
    end_iret(cpu);
    cpu->arch.state.iret = IRET_NONE; /* one that has not begun is intercepted again */
    while (!cpu->s.stop_request && !cpu->s.shutdown && !cpu->port.error) {
        begin_entry(cpu);
        bool open = window_open(cpu);
        if (cpu->s.non_root && (SLOT(cpu, VM_ENTRY_INTERRUPTION_INFORMATION) & EVENT_VALID))
            inject(cpu);
        else if (cpu->arch.state.monitor_trap_due)
            exit_at_boundary(cpu);
        else if (cpu->arch.state.data_hits)
            trap_data_access(cpu);
        else if (boundary_exit_due(cpu))
            exit_at_boundary(cpu);
        else if (nmi_window_open(cpu))
            vm_exit(cpu, EXIT_REASON_NMI_WINDOW, 0, 0);
        else if (nmi_open(cpu))
            take_nmi(cpu);
        else if (cpu->s.interrupt_pending && interrupt_exits(cpu))
            do_exit_interrupt(cpu, open);
        else if (cpu->s.interrupt_pending && open)
            external_interrupt(cpu);
        else if (waits_for_window(cpu) && open)
            vm_exit(cpu, EXIT_REASON_INTERRUPT_WINDOW, 0, 0);
        else
            break;
        if (is_due(cpu)) break; /* what is left waits for the next run */
    }
    if (runs_alone(cpu) && cpu->port.step == STEP_NONE) engine_run_alone(cpu);
    watch(cpu);
}

/* Run until the clock reaches `deadline_cycles` or something asks to stop. Returns 0, or the engine's error number. */
int sc_run(sc_cpu *cpu, uint64_t deadline_cycles) {
    cpu->s.deadline_cycles = deadline_cycles;
    cpu->s.stop_request = 0;
    engine_forget_error(cpu);
    settle(cpu);
    while (!must_stop(cpu) && !is_due(cpu)) { /* a callback may bring it nearer */
        if (!engine_run(cpu)) break;
        settle(cpu);
    }
    return cpu->port.error;
}
