/* A CPU as Python looks at it. */
#include <string.h>
#include "engine.h"

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
