/* The CPU engine: what a CPU is made of, and which folder does what. Python sees shared.h and calls the sc_* functions,
 * which build.py lists; everything else is internal, and this is where it begins.
 *
 *   Python (pcpu.py)                 arch/                                    unicorn/                   Unicorn
 *   sc_run(cpu, deadline) ------->   loop.c: events, window, run ---------->  run.c: engine_run ------>  uc_emu_start
 *                                    exits*.c: does a VMCS control   <-----   run.c: hooks: what    <--  intercept,
 *      sc_exit_callback <---------   ask for an exit?                         was trapped                exception
 *      sc_platform_callback <-----   no: hardware.c, events.c, walk.c do
 *                                    what a processor does, then go on        time/
 *                                                                             blocks.c, timing.c:   <--  a block begins
 *                                                                             what it takes
 *
 * A CPU is one struct of parts. Who may write a part:
 *
 *   s                 everybody; Python too         shared.h: slots, clock, pins, requests
 *   python, memory    cpu.c, once                   the handle for the callbacks; host-physical memory
 *   port              unicorn/                      unicorn/port.h: Unicorn and its raw state
 *   arch              arch/                         arch/arch.h: what a processor has that no VMCS field holds
 *   time              time/                         time/time.h: blocks, predictors, what time is computed from
 *
 * Everybody reads everything; to change another folder's part, call one of its functions.
 *
 * Guest state lives in the VMCS slots: C saves it there at a trap and loads it from there when the guest goes on. A CPU
 * that runs without a VMM (`non_root` 0) uses the same slots as its register file; nothing exits then.
 *
 * Reading order: shared.h, this, arch/arch.h and its loop.c and exits.c, unicorn/port.h and run.c, time/time.h.
 * `arch/` is one circle of calls, as a processor is: skip -> raise_debug -> deliver -> vm_exit -> ...
 */
#ifndef SC_ENGINE_H
#define SC_ENGINE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
/* Made by build.py: */
#include "generated/abi.h"  /* of abi.py: NEXT_*, PLATFORM_*, FLUSH_* */
#include "generated/vmx.h"  /* of emulator/vmx: VMCS_*, EXIT_REASON_*, PROC_*, EVENT_*, ... */
#include "generated/x86.h"  /* of emulator/x86.py: CR0_*, PAGE_FAULT, IA32_*, ... */
#include "generated/time.h" /* of emulator/timing: CLASS_*, CODE_WALK, ... */
#include "shared.h"
#include "tables.h"

typedef struct sc_cpu sc_cpu;
#include "unicorn/port.h"
#include "arch/arch.h"
#include "time/time.h"

struct sc_cpu {
    sc_cpu_shared s;
    void *python;
    uint8_t *memory;
    uint64_t low_end, high_start, high_end; /* RAM is [0, low_end) and [high_start, high_end): emulator/memory.py */
    sc_port port;
    sc_arch arch;
    sc_time time;
};

/* Callbacks into Python (build.py declares them extern "Python"). */
extern int (*sc_exit_callback)(void *python);         /* a VM exit: NEXT_RESUME or NEXT_LEAVE */
extern void (*sc_instruction_callback)(void *python); /* an instruction of a span is about to run */
/* `operation` is a PLATFORM_*; see abi.py and operations.py. */
extern int (*sc_platform_callback)(void *python, int operation, uint64_t number, uint64_t argument, uint64_t *values);

static inline bool is_ram(const sc_cpu *cpu, uint64_t hpa, uint64_t bytes) {
    if (hpa < cpu->low_end) return bytes <= cpu->low_end - hpa;
    return hpa >= cpu->high_start && hpa < cpu->high_end && bytes <= cpu->high_end - hpa;
}
#define SLOT(cpu, NAME) ((cpu)->s.vmcs[VMCS_##NAME])
static inline bool control(const sc_cpu *cpu, unsigned slot, uint64_t bit) {
    return cpu->s.non_root && (cpu->s.vmcs[slot] & bit);
}
static inline bool secondary_control(const sc_cpu *cpu, uint64_t bit) {
    return control(cpu, VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS, PROC_ACTIVATE_SECONDARY_CONTROLS) &&
           control(cpu, VMCS_SECONDARY_PROCESSOR_BASED_CONTROLS, bit);
}
static inline unsigned cpl(const sc_cpu *cpu) { return cpu->s.vmcs[VMCS_GUEST_SS_ACCESS_RIGHTS] >> AR_DPL_SHIFT & 3; }
static inline bool canonical(uint64_t address) { return (uint64_t)((int64_t)(address << 16) >> 16) == address; }
static inline bool long_mode(const sc_cpu *cpu) { return cpu->s.vmcs[VMCS_GUEST_IA32_EFER] & EFER_LMA; }
#endif
