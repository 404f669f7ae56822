/* The clock that Unicorn sees: not the workstation's, but that of the CPU it runs.
 *
 * Unicorn makes its TLB smaller when little of it was used for 100 ms. A guest that changes a mapping without flushing it
 * can tell from what it still finds there, so this must not depend on the workstation.
 */
#include <sys/time.h>
#include "state.h"

/* So that the 100 ms are a million cycles: about as long as they last where the engine is at its slowest, filling its TLB
 * and flushing it again and again. */
enum { CYCLES_PER_US = 10 };

static _Thread_local const sc_cpu *shown; /* whose clock it is */

/* From now on Unicorn sees the clock of `cpu`; NULL: of none. */
void show_clock(const sc_cpu *cpu) { shown = cpu; }

/* Unicorn asks for the time: see emulator/unicorn_build/edits.py. */
void sc_engine_time(struct timeval *ret) {
    uint64_t us = shown ? shown->s.clock_cycles / CYCLES_PER_US : 0;
    *ret = (struct timeval){.tv_sec = us / 1000000, .tv_usec = us % 1000000};
}
