/* GDT and TSS: flat segments for rings 0 and 3, in 64 and 32 bits (SDM 3A 3.4.5, 8.7). */
#ifndef SEGMENTS_H
#define SEGMENTS_H

#include <stdint.h>

#include "selectors.h"

/* 15     12 | 11..8 | 7   | 6 5 | 4 | 3..0 of the upper dword's low half are P DPL S type; G/D/L sit in bits 52..55. */
#define DESCRIPTOR_CODE64(dpl) (0x00af9b000000fffful | (uint64_t)(dpl) << 45)
#define DESCRIPTOR_CODE32(dpl) (0x00cf9b000000fffful | (uint64_t)(dpl) << 45)
#define DESCRIPTOR_DATA(dpl) (0x00cf93000000fffful | (uint64_t)(dpl) << 45)
#define DESCRIPTOR_PRESENT (1ul << 47)

struct tss64 {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_bitmap_offset;
    uint8_t io_bitmap[0x10000 / 8 + 1]; /* the last byte is the all ones that SDM 1 19.5.2 asks for */
} __attribute__((packed));

struct __attribute__((packed)) table_pointer {
    uint16_t limit;
    uint64_t base;
};

extern uint64_t gdt[GDT_ENTRIES];
extern struct tss64 tss;

void segments_init(void);
void tss_load(uint16_t limit);     /* (re)loads TR; a limit below the bitmap's end denies ports */
uint64_t trap_stack_top(void);     /* the stack traps from ring 3 arrive on */
uint64_t ist_stack_top(int index); /* 1..7 */

static inline void load_gdt(const void *table, uint16_t limit) {
    struct table_pointer pointer = {limit, (uint64_t)table};
    asm volatile("lgdt %0" : : "m"(pointer) : "memory");
}

#endif
