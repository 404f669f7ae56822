/* A CPU as Python holds it: opened, closed, looked at. */
#include <stdlib.h>
#include <string.h>
#include "engine.h"

int (*sc_exit_callback)(void *python);
void (*sc_instruction_callback)(void *python);
int (*sc_platform_callback)(void *python, int operation, uint64_t number, uint64_t argument, uint64_t *values);

void sc_close(sc_cpu *cpu) {
    if (!cpu) return;
    engine_close(cpu);
    decode_close(cpu);
    blocks_close(cpu);
    free(cpu);
}

/* A CPU over `memory`, whose code map is `code`, in reset-like state. NULL on failure, with `*problem` naming what is not as expected. */
sc_cpu *sc_open(uint8_t *memory, const uint64_t bounds[3], sc_code_map *code, void *python, const char **problem) {
    sc_cpu *cpu = calloc(1, sizeof *cpu);
    *problem = "out of memory";
    if (!cpu) return NULL;
    cpu->python = python;
    cpu->memory = memory;
    cpu->low_end = bounds[0], cpu->high_start = bounds[1], cpu->high_end = bounds[2];
    if (!decode_open(cpu) || !blocks_open(cpu) || !engine_open(cpu, code, problem)) {
        sc_close(cpu);
        return NULL;
    }
    arch_reset(cpu);
    *problem = NULL;
    return cpu;
}

enum { TRANSLATED_BYTES = 100 }; /* of the workstation's code for an instruction, about */

/* How much memory this CPU has for what it runs, about. */
uint64_t sc_cached_bytes(const sc_cpu *cpu) {
    return blocks_used_bytes(cpu) + (uint64_t)cpu->port.most_translated * TRANSLATED_BYTES;
}

/* Give that back; all of it comes again as it is needed, and no cycle depends on it. Not while the CPU runs. */
bool sc_rest(sc_cpu *cpu) { return engine_reopen(cpu); }

sc_cpu_shared *sc_shared(sc_cpu *cpu) { return &cpu->s; }

/* Copy memory at a linear address as the CPU sees it, without side effects; returns the bytes copied before the first
 * that is not mapped. */
uint64_t sc_read_linear(sc_cpu *cpu, uint64_t linear, uint8_t *ret, uint64_t bytes) {
    uint64_t done = 0;
    while (done < bytes) {
        walk_result w = walk(cpu, linear + done, ACCESS_PROBE);
        uint64_t here = 0x1000 - ((linear + done) & 0xfff);
        if (here > bytes - done) here = bytes - done;
        if (w.status != WALK_OK || !is_ram(cpu, w.hpa, here)) break;
        memcpy(ret + done, cpu->memory + w.hpa, here);
        done += here;
    }
    return done;
}

uint64_t sc_code_at_rip(sc_cpu *cpu, uint8_t *ret) { return code_at_rip(cpu, ret); }

/* The core's own part of RDMSR and WRMSR, with the checks of hardware, for a VMM that lets an access through. */
int sc_rdmsr(sc_cpu *cpu, uint32_t index, uint64_t *ret) { return read_msr(cpu, index, ret); }
int sc_wrmsr(sc_cpu *cpu, uint32_t index, uint64_t value) { return write_msr(cpu, index, value); }
