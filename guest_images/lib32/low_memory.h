/* Code of 16 bits: it is linked with the kernel and copied below 1 MiB, where real mode and virtual-8086 mode can reach it.
 *
 *   CODE16(name, "mov $1, %ax\n int $0x80");        extern const char name[], name_end[]
 *
 * Segment 0x2000: the code. 0x3000: the stack. 0x4000: data. 0x5000: interrupt vectors of real mode.
 */
#ifndef LOW_MEMORY_H
#define LOW_MEMORY_H

#include "guest32.h"

#define CODE_SEGMENT 0x2000
#define STACK_SEGMENT 0x3000
#define DATA_SEGMENT 0x4000
#define VECTORS_SEGMENT 0x5000
#define STACK_TOP 0x1000
#define LINEAR(segment) ((segment) << 4)

#define CODE16(name, text)                  \
    extern const char name[], name##_end[]; \
    asm(".pushsection .rodata\n.code16\n" #name ": " text "\n" #name "_end:\n.code32\n.popsection")

static inline void copy_down(const char *code, const char *end, uint32_t offset) {
    for (char *to = (char *)LINEAR(CODE_SEGMENT) + offset; code < end;) *to++ = *code++;
}

#endif
