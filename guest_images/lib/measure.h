/* Measuring: an operation repeated in rounds, each between two RDTSC, beside rounds of the same loop around nothing
 * (LMbench's method). The raw sums are printed; whoever reads them subtracts, and takes the median.
 *
 *   ~ cpuid 50 empty 412 412 ... cycles 240012 240012 ...       NAME, operations in a round, ROUNDS sums of each kind
 *   ~ load_latency/4096/64 32768 empty ... cycles ...             /NUMBER: parameters of the measurement
 *   ~ vmcall unavailable: #UD
 *
 * A round lies between two marks on the POST port, so that what the machine booked can be read for the same time.
 */
#ifndef MEASURE_H
#define MEASURE_H

#include <stdint.h>

#define ROUNDS 11

/* Bytes written to the POST port before a round; with MARK_END, after it. */
enum { MARK_WARM_UP = 0, MARK_END = 0x01, MARK_EMPTY = 0x10, MARK_OPERATION = 0x20 };

struct measurement {
    const char *name;
    unsigned calls;                    /* of `operation` in a round */
    unsigned per_call;                 /* operations that one call does */
    void (*prepare)(unsigned calls);   /* before each round, an empty one too, and not measured; may be NULL */
    void (*operation)(unsigned index); /* index: 0 .. calls - 1 */
    void (*empty)(unsigned index);     /* what an empty round does; NULL: nothing */
    unsigned parameter_count;          /* printed behind the name */
    uint64_t parameters[2];
};

/* One round that is not recorded, so that code and data are warm; ROUNDS empty ones, ROUNDS of it; then the line. */
void measure(const struct measurement *what);
void measure_unavailable(const char *name, const char *why);

#endif
