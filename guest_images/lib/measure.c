/* Rounds, marks and lines: see measure.h. */
#include "measure.h"

#include "console.h"
#include "cpu.h"
#include "report.h"

static uint64_t empty_cycles[ROUNDS], operation_cycles[ROUNDS];

static void do_nothing(unsigned index) { asm volatile("" : : "r"(index) : "memory"); }

/* noipa: the compiler must not make a shorter copy of the loop for do_nothing. */
__attribute__((noipa)) static uint64_t time_calls(void (*operation)(unsigned), unsigned calls, uint8_t mark) {
    out8(POST_PORT, mark);
    uint64_t start = read_tsc();
    for (unsigned i = 0; i < calls; i++) operation(i);
    uint64_t cycles = read_tsc() - start;
    out8(POST_PORT, mark | MARK_END);
    return cycles;
}

static uint64_t run_round(const struct measurement *what, uint8_t mark) {
    if (what->prepare) what->prepare(what->calls);
    void (*empty)(unsigned) = what->empty ? what->empty : do_nothing;
    return time_calls(mark == MARK_EMPTY ? empty : what->operation, what->calls, mark);
}

void measure(const struct measurement *what) {
    run_round(what, MARK_WARM_UP);
    for (unsigned i = 0; i < ROUNDS; i++) empty_cycles[i] = run_round(what, MARK_EMPTY);
    for (unsigned i = 0; i < ROUNDS; i++) operation_cycles[i] = run_round(what, MARK_OPERATION);
    print("~ %s", what->name);
    for (unsigned i = 0; i < what->parameter_count; i++) print("/%lu", what->parameters[i]);
    print(" %u empty", what->calls * what->per_call);
    for (unsigned i = 0; i < ROUNDS; i++) print(" %lu", empty_cycles[i]);
    print(" cycles");
    for (unsigned i = 0; i < ROUNDS; i++) print(" %lu", operation_cycles[i]);
    print("\n");
}

void measure_unavailable(const char *name, const char *why) { print("~ %s unavailable: %s\n", name, why); }
