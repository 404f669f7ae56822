/* Claim: virtual-8086 mode runs 8086 code in ring 3: segments times 16, IOPL decides over CLI, STI, PUSHF, POPF, INT n and
 * IRET, the TSS over ports, privileged instructions fault, and every trap arrives in ring 0 with all segments on the stack.
 * SDM 3A 21.2 and 21.3.
 */
#include "low_memory.h"

static struct registers registers;

static void v86(const char *code, const char *end, uint32_t flags) {
    copy_down(code, end, 0);
    registers = (struct registers){.eip = 0, .cs = CODE_SEGMENT, .eflags = FLAG_VM | FLAGS_FIXED | flags};
    registers.ss = STACK_SEGMENT;
    registers.esp = STACK_TOP;
    registers.ds = DATA_SEGMENT;
    registers.es = DATA_SEGMENT + 1;
    registers.fs = DATA_SEGMENT + 2;
    registers.gs = DATA_SEGMENT + 3;
    run(&registers);
}
#define RUN(name, flags) v86(name, name##_end, flags)

static void check_trap(const char *name, uint32_t vector, uint32_t error_code, uint32_t ip) {
    bool same = registers.vector == vector && registers.error_code == error_code && registers.eip == ip;
    check_true(name, same && (registers.eflags & FLAG_VM) && registers.cs == CODE_SEGMENT);
}

CODE16(nothing, "nop; int $0x80");
CODE16(move_segments, "mov $0x1234, %ax; mov %ax, %es; mov $0xffff, %bx; mov %bx, %ds; int $0x80");
CODE16(store, "movw $0x55aa, 0x10; movw $0x77, %es:0x10; movl $0x12345678, %fs:0x20; int $0x80");
CODE16(high_memory, "mov $0xffff, %ax; mov %ax, %ds; mov 0x10, %eax; int $0x80");
CODE16(stack, "push $0x1111; pushl $0x22223333; pop %ax; pop %bx; pop %cx; pusha; popa; int $0x80");
CODE16(far_call, "lcall $0x2001, $1f - far_call - 16; int $0x80; .skip 16, 0x90; 1: mov %cs, %ax; lret");
CODE16(flags, "cli; pushf; pop %ax; sti; pushf; pop %bx; cli; int $0x80");
CODE16(popped, "pushf; pop %ax; or $0x3200, %ax; push %ax; popf; pushf; pop %bx; int $0x80");
CODE16(interrupt_return, "pushf; push %cs; push $1f - interrupt_return; iret; hlt; 1: int $0x80");
CODE16(wrap, "mov $0xffff, %di; mov $0x4000, %ax; mov %ax, %es; mov $0x5a, %al; cld; stosb; stosb; int $0x80");
CODE16(breakpoint, "nop; int3");
CODE16(overflow, "mov $0x7f, %al; inc %al; into");
CODE16(divide, "xor %cx, %cx; div %cx");
CODE16(undefined, "ud2");
CODE16(step, "nop; nop");
CODE16(wait, "1: jmp 1b");
CODE16(status_word, "smsw %ax; int $0x80");
CODE16(port, "in $0x61, %al; int $0x80");
CODE16(load, "mov 0, %ax; int $0x80");

static void check_running(void) {
    RUN(nothing, FLAG_IOPL3);
    check_trap("INT n with IOPL 3 goes by the IDT, behind the instruction", VECTOR_RETURN, 0, 3);
    check_equal("SS in the frame", registers.ss, STACK_SEGMENT);
    check_equal("ESP in the frame", registers.esp, STACK_TOP);
    check_true("DS, ES, FS, GS in the frame", registers.ds == DATA_SEGMENT && registers.es == DATA_SEGMENT + 1 &&
                                                  registers.fs == DATA_SEGMENT + 2 && registers.gs == DATA_SEGMENT + 3);
    RUN(move_segments, FLAG_IOPL3);
    check_true("segment registers take any value", registers.es == 0x1234 && registers.ds == 0xffff);
    RUN(store, FLAG_IOPL3);
    check_equal("DS times 16", load32(LINEAR(DATA_SEGMENT) + 0x10) & 0xffff, 0x55aa);
    check_equal("ES times 16", load32(LINEAR(DATA_SEGMENT + 1) + 0x10) & 0xffff, 0x77);
    check_equal("FS times 16, 32-bit operand", load32(LINEAR(DATA_SEGMENT + 2) + 0x20), 0x12345678);
    RUN(high_memory, FLAG_IOPL3);
    check_equal("0xffff:0x10 is at 1 MiB", registers.eax, load32(0x100000));
    RUN(stack, FLAG_IOPL3);
    check_true("the stack takes 16 and 32 bits", (registers.eax & 0xffff) == 0x3333 &&
                                                     (registers.ebx & 0xffff) == 0x2222 &&
                                                     (registers.ecx & 0xffff) == 0x1111 && registers.esp == STACK_TOP);
    RUN(far_call, FLAG_IOPL3);
    check_equal("far call and return", registers.eax & 0xffff, CODE_SEGMENT + 1);
    RUN(wrap, FLAG_IOPL3);
    check_true("DI wraps at 64 KiB", (registers.edi & 0xffff) == 1 &&
                                         *(volatile uint8_t *)LINEAR(DATA_SEGMENT) == 0x5a &&
                                         *(volatile uint8_t *)(LINEAR(DATA_SEGMENT) + 0xffff) == 0x5a);
    RUN(status_word, FLAG_IOPL3);
    check_equal("SMSW tells protected mode", registers.eax & 1, 1);
}

static void check_iopl(void) {
    RUN(flags, FLAG_IOPL3);
    check_true("CLI and STI with IOPL 3", !(registers.eax & FLAG_IF) && (registers.ebx & FLAG_IF));
    RUN(popped, FLAG_IOPL3);
    check_equal("POPF changes IF with IOPL 3", registers.ebx & (FLAG_IF | FLAG_IOPL3), FLAG_IF | FLAG_IOPL3);
    RUN(interrupt_return, FLAG_IOPL3);
    check_equal("IRET of 16 bits with IOPL 3", registers.vector, VECTOR_RETURN);
    RUN(nothing, 0);
    check_trap("#GP: INT n with IOPL 0", VECTOR_GP, 0, 1);
    RUN(flags, 0);
    check_trap("#GP: CLI with IOPL 0", VECTOR_GP, 0, 0);
    RUN(popped, 0);
    check_trap("#GP: PUSHF with IOPL 0", VECTOR_GP, 0, 0);
    RUN(breakpoint, 0);
    check_trap("#BP: INT3 does not ask for IOPL", VECTOR_BP, 0, 2);
    RUN(overflow, 0);
    check_trap("#OF: INTO does not ask for IOPL", VECTOR_OF, 0, 5);
}

CODE16(privileged_hlt, "hlt");
CODE16(privileged_cr0, "mov %cr0, %eax");
CODE16(privileged_lgdt, "lgdt 0");
CODE16(privileged_clts, "clts");
CODE16(privileged_lmsw, "lmsw %ax");
CODE16(not_in_v86_str, "str %ax");
CODE16(not_in_v86_lar, "lar %ax, %bx");

static void check_faults(void) {
    RUN(divide, FLAG_IOPL3);
    check_trap("#DE", VECTOR_DE, 0, 2);
    RUN(undefined, FLAG_IOPL3);
    check_trap("#UD", VECTOR_UD, 0, 0);
    RUN(privileged_hlt, FLAG_IOPL3);
    check_trap("#GP: HLT", VECTOR_GP, 0, 0);
    RUN(privileged_cr0, FLAG_IOPL3);
    check_trap("#GP: MOV from CR0", VECTOR_GP, 0, 0);
    RUN(privileged_lgdt, FLAG_IOPL3);
    check_trap("#GP: LGDT", VECTOR_GP, 0, 0);
    RUN(privileged_clts, FLAG_IOPL3);
    check_trap("#GP: CLTS", VECTOR_GP, 0, 0);
    RUN(privileged_lmsw, FLAG_IOPL3);
    check_trap("#GP: LMSW", VECTOR_GP, 0, 0);
    RUN(not_in_v86_str, FLAG_IOPL3);
    check_trap("#UD: STR", VECTOR_UD, 0, 0);
    RUN(not_in_v86_lar, FLAG_IOPL3);
    check_trap("#UD: LAR", VECTOR_UD, 0, 0);
    RUN(step, FLAG_IOPL3 | FLAG_TF);
    check_trap("#DB after one instruction with TF", VECTOR_DB, 0, 1);
}

static void check_ports(void) {
    RUN(port, FLAG_IOPL3);
    check_trap("#GP: a port that the TSS does not allow, whatever IOPL is", VECTOR_GP, 0, 0);
    allow_port(0x61, true);
    RUN(port, FLAG_IOPL3);
    check_trap("a port that it allows", VECTOR_RETURN, 0, 4);
    allow_port(0x61, false);
}

static void check_interrupt(void) {
    pic_init(VECTOR_IRQ0, 1);
    pit_one_shot(1000);
    RUN(wait, FLAG_IOPL3 | FLAG_IF);
    check_equal("the timer interrupts it", registers.vector, VECTOR_IRQ0);
    check_true("in its loop", registers.eip == 0 && (registers.eflags & (FLAG_VM | FLAG_IF)) == (FLAG_VM | FLAG_IF));
    out8(0x20, 0x20);
    pic_init(VECTOR_IRQ0, 0);
}

/* Two levels: 4 MiB pages for the kernel, and a table for the first 4 MiB. */
static uint32_t directory[1024] __attribute__((aligned(4096))), table[1024] __attribute__((aligned(4096)));

static void check_paging(void) {
    enum { P = 1, W = 2, U = 4 };
    for (uint32_t i = 0; i < 1024; i++) table[i] = i << 12 | P | W | U;
    table[LINEAR(DATA_SEGMENT) >> 12] = 0x300000 | P | W | U;
    store32(0x300000, 0xbeef);
    directory[0] = (uint32_t)table | P | W | U;
    write_cr3((uint32_t)directory);
    write_cr0(read_cr0() | CR0_PG);
    RUN(load, FLAG_IOPL3);
    check_equal("paging: its addresses are translated", registers.eax & 0xffff, 0xbeef);
    table[LINEAR(DATA_SEGMENT) >> 12] &= ~(uint32_t)U;
    write_cr3((uint32_t)directory);
    RUN(load, FLAG_IOPL3);
    check_trap("paging: #PF on a supervisor's page", VECTOR_PF, 5, 0);
    check_equal("paging: CR2", last_cr2, LINEAR(DATA_SEGMENT));
    write_cr0(read_cr0() & ~CR0_PG);
}

void guest_main(void) {
    check_running();
    check_iopl();
    check_faults();
    check_ports();
    check_interrupt();
    check_paging();
}
