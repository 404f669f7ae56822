/* Claim: 16-bit code, stacks and gates work in protected mode: far calls between sizes, SP beside ESP, 16-bit interrupt
 * gates, operand and address size prefixes. SDM 3A 6.12 and 22.1 to 22.4.
 */
#include "low_memory.h"

/* SELECTOR_SPARE is the code segment, the one behind it the same memory as data. */
static uint32_t result[4];

/* To 16-bit code by a far call that pushes 32 bits, and back. */
asm(".text\n"
    "call16: pushal; movl %esp, saved_esp; movl 36(%esp), %ebx; lcall *far_pointer; movl saved_esp, %esp; popal; ret\n"
    ".bss; saved_esp: .long 0\n"
    ".section .rodata; far_pointer: .long 0; .word 0x40\n"
    ".text");
void call16_code(uint32_t argument) __asm__("call16");

#define DATA "mov $0x48, %ax; mov %ax, %ds\n"
#define BACK "mov $0x10, %ax; mov %ax, %ds; lretl"
CODE16(add, DATA "addw $0x1111, %bx; movl %ebx, 0xf00\n" BACK);
CODE16(data, DATA "movw $0x1234, 0xf04; movl $0xabcd1234, %eax; movl $0xf08, %ecx; movl %eax, (%ecx)\n" BACK);
CODE16(small_stack,
       DATA "mov %ss, %dx; movl %esp, %esi; mov %ax, %ss; movl $0x12340800, %esp; push $0x77; push $0x88; pop %cx\n"
            "movl %esp, 0xf00; mov %cx, 0xf04; mov %dx, %ss; movl %esi, %esp\n" BACK);
CODE16(interrupts, DATA
       "mov %ss, %dx; movl %esp, %esi; mov %ax, %ss; movl $0x800, %esp; int $0x70\n"
       ".globl interrupts_next; interrupts_next: movl %esp, 0xf00; mov %dx, %ss; movl %esi, %esp\n" BACK
       "\n.globl handler70; handler70: mov %sp, %bx; mov %bx, 0xf04; movl %ss:(%bx), %ecx; movl %ecx, 0xf08; iretw");
extern const char handler70[], interrupts_next[];

static void go(const char *code, const char *end, uint32_t argument) {
    copy_down(code, end, 0);
    call16_code(argument);
    for (uint32_t i = 0; i < 4; i++) result[i] = load32(LINEAR(CODE_SEGMENT) + 0xf00 + 4 * i);
}
#define GO(name, argument) go(name, name##_end, argument)

void guest_main(void) {
    gdt[SELECTOR_SPARE / 8] = 0x00009b000000ffff | (uint64_t)LINEAR(CODE_SEGMENT) << 16;
    gdt[SELECTOR_SPARE / 8 + 1] = 0x000093000000ffff | (uint64_t)LINEAR(CODE_SEGMENT) << 16;
    set_gate(0x70, (uint32_t)handler70 - (uint32_t)interrupts, SELECTOR_SPARE, 0x86);
    GO(add, 0x1234ffff);
    check_equal("far call to 16-bit code and back; operands of 16 bits keep the upper half", result[0], 0x12341110);
    GO(data, 0);
    check_equal("16-bit data segment", result[1] & 0xffff, 0x1234);
    check_equal("address size prefix", result[2], 0xabcd1234);
    GO(small_stack, 0);
    check_equal("a 16-bit stack moves SP and keeps the upper half of ESP", result[0], 0x123407fe);
    check_equal("and its words come back", result[1] & 0xffff, 0x88);
    GO(interrupts, 0);
    check_equal("a 16-bit gate pushes three words", result[1] & 0xffff, 0x800 - 6);
    check_equal("IP and CS, behind INT", result[2],
                SELECTOR_SPARE << 16 | ((uint32_t)interrupts_next - (uint32_t)interrupts));
    check_equal("IRET of 16 bits takes them", result[0], 0x800);
}
