/* The loop of a CPU: pending events, then instructions, until something asks to stop.
 *
 * MODEL: events are looked at between basic blocks (and after every trap), not between instructions.
 */
#include <string.h>
#include "engine.h"

void (*sc_exit_callback)(void *python);
int (*sc_platform_callback)(void *python, int operation, uint64_t number, uint64_t argument, uint64_t *values);

enum { ACTIVITY_ACTIVE = 0, ACTIVITY_HLT = 1 };

void skip(sc_cpu *cpu, uint32_t instruction_bytes) {
    uint64_t rip = SLOT(cpu, GUEST_RIP) + instruction_bytes;
    SLOT(cpu, GUEST_RIP) = code_bits(cpu) == 64 ? rip : (uint32_t)rip;
    bool single_step = SLOT(cpu, GUEST_RFLAGS) & 0x100; /* TF */
    SLOT(cpu, GUEST_INTERRUPTIBILITY_STATE) &= ~3ull;
    SLOT(cpu, GUEST_RFLAGS) &= ~0x10000ull;
    retire(cpu);
    if (single_step) raise_debug(cpu, 0x4000); /* DR6.BS */
}

bool is_due(const sc_cpu *cpu) { return cpu->s.clock_cycles >= cpu->s.deadline_cycles; }

bool must_stop(const sc_cpu *cpu) {
    return cpu->s.stop_request || cpu->s.shutdown || cpu->engine_error ||
           cpu->s.vmcs[VMCS_GUEST_ACTIVITY_STATE] != ACTIVITY_ACTIVE;
}

static bool interrupt_exits(const sc_cpu *cpu) {
    return control(cpu, VMCS_PIN_BASED_CONTROLS, PIN_EXTERNAL_INTERRUPT_EXITING);
}

static bool waits_for_window(const sc_cpu *cpu) {
    return control(cpu, VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS, PROC_INTERRUPT_WINDOW_EXITING);
}

/* Called between blocks while something is pending: is it time to leave the engine and settle it? */
bool must_settle(sc_cpu *cpu) {
    if (must_stop(cpu) || (cpu->s.interrupt_pending && interrupt_exits(cpu))) return true;
    if (!cpu->s.interrupt_pending && !waits_for_window(cpu)) return false;
    engine_window(cpu);
    return window_open(cpu);
}

static void external_interrupt(sc_cpu *cpu) {
    uint64_t vector = 0;
    SLOT(cpu, GUEST_ACTIVITY_STATE) = ACTIVITY_ACTIVE;
    sc_platform_callback(cpu->python, PLATFORM_INTERRUPT_VECTOR, 0, 0, &vector);
    deliver(cpu, (event){.vector = (uint8_t)vector, .type = EVENT_EXTERNAL});
}

static void inject(sc_cpu *cpu) {
    uint64_t info = SLOT(cpu, VM_ENTRY_INTERRUPTION_INFORMATION);
    SLOT(cpu, VM_ENTRY_INTERRUPTION_INFORMATION) = info & 0x7fffffff;
    SLOT(cpu, GUEST_ACTIVITY_STATE) = ACTIVITY_ACTIVE;
    event e = {.vector = info & 0xff, .type = info >> 8 & 7, .has_error = info >> 11 & 1};
    e.error_code = (uint32_t)SLOT(cpu, VM_ENTRY_EXCEPTION_ERROR_CODE);
    if (e.type >= EVENT_SOFT_INT) e.instruction_bytes = (uint32_t)SLOT(cpu, VM_ENTRY_INSTRUCTION_LENGTH);
    if (e.vector == 14) e.address = cpu->s.cr2; /* an injected #PF leaves CR2 alone (SDM 3C 27.6.1.1) */
    deliver(cpu, e);
}

static void do_exit_interrupt(sc_cpu *cpu) {
    uint64_t vector = 0;
    if (cpu->s.vmcs[VMCS_VM_EXIT_CONTROLS] & EXIT_ACKNOWLEDGE_INTERRUPT) {
        sc_platform_callback(cpu->python, PLATFORM_INTERRUPT_VECTOR, 0, 0, &vector);
        SLOT(cpu, VM_EXIT_INTERRUPTION_INFORMATION) = (vector & 0xff) | 1u << 31;
    }
    vm_exit(cpu, EXIT_REASON_EXTERNAL_INTERRUPT, 0, 0);
}

void watch(sc_cpu *cpu) {
    bool at_once = must_stop(cpu) || cpu->s.interrupt_pending || waits_for_window(cpu) || cpu->step != STEP_NONE;
    cpu->check_at_cycles = at_once ? 0 : cpu->s.deadline_cycles;
}

void settle(sc_cpu *cpu) {
    while (!cpu->s.stop_request && !cpu->s.shutdown && !cpu->engine_error) {
        bool open = window_open(cpu);
        if (cpu->s.non_root && (SLOT(cpu, VM_ENTRY_INTERRUPTION_INFORMATION) >> 31 & 1))
            inject(cpu);
        else if (cpu->s.interrupt_pending && interrupt_exits(cpu))
            do_exit_interrupt(cpu);
        else if (cpu->s.interrupt_pending && open)
            external_interrupt(cpu);
        else if (waits_for_window(cpu) && open)
            vm_exit(cpu, EXIT_REASON_INTERRUPT_WINDOW, 0, 0);
        else
            break;
        if (is_due(cpu)) break; /* what is left waits for the next run */
    }
    watch(cpu);
}

/* Run until the clock reaches `deadline_cycles` or something asks to stop. Returns 0, or the engine's error number. */
int sc_run(sc_cpu *cpu, uint64_t deadline_cycles) {
    cpu->s.deadline_cycles = deadline_cycles;
    cpu->s.stop_request = 0;
    cpu->engine_error = 0;
    settle(cpu);
    while (!must_stop(cpu) && !is_due(cpu)) { /* a callback may bring it nearer */
        if (!engine_run(cpu)) break;
        settle(cpu);
    }
    return cpu->engine_error;
}

static walk_result debug_walk(sc_cpu *cpu, uint64_t linear) { return walk(cpu, linear, ACCESS_PROBE); }

/* Copy memory at a linear address as the CPU sees it, without side effects; returns the bytes copied before the first
 * that is not mapped. */
uint64_t sc_read_linear(sc_cpu *cpu, uint64_t linear, uint8_t *ret, uint64_t bytes) {
    uint64_t done = 0;
    while (done < bytes) {
        walk_result w = debug_walk(cpu, linear + done);
        uint64_t here = 0x1000 - ((linear + done) & 0xfff);
        if (here > bytes - done) here = bytes - done;
        if (w.status != WALK_OK || w.hpa >= cpu->memory_bytes || here > cpu->memory_bytes - w.hpa) break;
        memcpy(ret + done, cpu->memory + w.hpa, here);
        done += here;
    }
    return done;
}

uint64_t sc_code_at_rip(sc_cpu *cpu, uint8_t *ret) { return code_at_rip(cpu, ret); }

sc_cpu_shared *sc_shared(sc_cpu *cpu) { return &cpu->s; }

/* The core's own part of RDMSR and WRMSR, with the checks of hardware, for a VMM that lets an access through. */
int sc_rdmsr(sc_cpu *cpu, uint32_t index, uint64_t *ret) { return read_msr(cpu, index, ret); }
int sc_wrmsr(sc_cpu *cpu, uint32_t index, uint64_t value) { return write_msr(cpu, index, value); }
