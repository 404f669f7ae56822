/* GDT, TSS and the stacks that the TSS names. */
#include "segments.h"

#define STACK_BYTES 8192
#define TSS_AVAILABLE 0x89ul /* present, DPL 0, type 9 */

uint64_t gdt[GDT_ENTRIES] __attribute__((aligned(16))) = {
    [SEL_KERNEL_CODE32 >> 3] = DESCRIPTOR_CODE32(0),
    [SEL_KERNEL_CODE >> 3] = DESCRIPTOR_CODE64(0),
    [SEL_KERNEL_DATA >> 3] = DESCRIPTOR_DATA(0),
    [SEL_USER_CODE32 >> 3] = DESCRIPTOR_CODE32(3),
    [SEL_USER_DATA >> 3] = DESCRIPTOR_DATA(3),
    [SEL_USER_CODE >> 3] = DESCRIPTOR_CODE64(3),
    [SEL_USER_DATA_SYSEXIT >> 3] = DESCRIPTOR_DATA(3),
    [SEL_NOT_PRESENT >> 3] = DESCRIPTOR_DATA(0) & ~DESCRIPTOR_PRESENT,
};
struct tss64 tss __attribute__((aligned(4096)));

static uint8_t trap_stack[STACK_BYTES] __attribute__((aligned(16)));
static uint8_t ist_stacks[7][STACK_BYTES] __attribute__((aligned(16)));

uint64_t trap_stack_top(void) { return (uint64_t)(trap_stack + STACK_BYTES); }

uint64_t ist_stack_top(int index) { return (uint64_t)(ist_stacks[index - 1] + STACK_BYTES); }

void tss_load(uint16_t limit) {
    uint64_t base = (uint64_t)&tss;
    gdt[SEL_TSS >> 3] = limit | (base & 0xffffff) << 16 | TSS_AVAILABLE << 40 | (base >> 24 & 0xff) << 56;
    gdt[(SEL_TSS >> 3) + 1] = base >> 32;
    asm volatile("ltr %w0" : : "r"(SEL_TSS) : "memory");
}

void segments_init(void) {
    load_gdt(gdt, sizeof gdt - 1);
    asm volatile("pushq %0; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1:\n\t"
                 "movl %1, %%ds; movl %1, %%es; movl %1, %%ss; movl %2, %%fs; movl %2, %%gs"
                 :
                 : "i"(SEL_KERNEL_CODE), "r"(SEL_KERNEL_DATA), "r"(0)
                 : "rax", "memory");
    tss.rsp[0] = trap_stack_top();
    for (int index = 1; index <= 7; index++) tss.ist[index - 1] = ist_stack_top(index);
    tss.io_bitmap_offset = __builtin_offsetof(struct tss64, io_bitmap);
    for (unsigned byte = 0; byte < sizeof tss.io_bitmap; byte++) tss.io_bitmap[byte] = 0xff;
    tss_load(sizeof tss - 1);
}
