/* Claim: a kernel in protected mode can go to real mode and back as often as it likes; there, interrupts and exceptions go
 * by the table of vectors, segments are times 16, and addresses of 32 bits still work. SDM 3A 9.9.2 and 21.1.
 */
#include "low_memory.h"

#define SNIPPET_OFFSET 0x200
#define RESULTS 0xf00 /* in the data segment */

struct results {
    uint32_t eax, ebx, ecx, edx, edi, cr0;
};

/* 32-bit code --> 16-bit protected mode --> real mode: the snippet --> back. SELECTOR_SPARE is the code segment. */
void go_down(void);
asm(".text\n"
    "go_down: pushal; movl %esp, down_esp; sidt down_idt; lidt down_vectors; ljmp $0x40, $0\n"
    ".globl come_back\n"
    "come_back: movl $0x10, %eax; movl %eax, %ds; movl %eax, %es; movl %eax, %ss; movl %eax, %fs; movl %eax, %gs\n"
    "  movl down_esp, %esp; lidt down_idt; popal; ret\n"
    ".bss; down_esp: .long 0; down_idt: .skip 8\n"
    ".section .rodata; down_vectors: .word 0x3ff; .long 0x50000\n"
    ".text");
CODE16(gate, "mov $0x38, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov %ax, %fs; mov %ax, %gs\n"
             "mov %cr0, %eax; and $0xfe, %al; mov %eax, %cr0; ljmp $0x2000, $1f - gate\n"
             "1: mov $0x3000, %ax; mov %ax, %ss; mov $0x1000, %esp; mov $0x4000, %ax; mov %ax, %ds; mov %ax, %es\n"
             "xor %eax, %eax; xor %ebx, %ebx; xor %ecx, %ecx; xor %edx, %edx\n"
             "call gate + 0x200\n"
             "cli; mov $0x4000, %si; mov %si, %ds\n"
             "mov %eax, 0xf00; mov %ebx, 0xf04; mov %ecx, 0xf08; mov %edx, 0xf0c; mov %edi, 0xf10\n"
             "mov %cr0, %eax; mov %eax, 0xf14\n"
             "or $1, %al; mov %eax, %cr0; ljmpl $0x08, $come_back");

static volatile struct results *const results = (void *)(LINEAR(DATA_SEGMENT) + RESULTS);

static void set_vector(unsigned vector, uint32_t offset) {
    store32(LINEAR(VECTORS_SEGMENT) + 4 * vector, CODE_SEGMENT << 16 | offset);
}

static void real(const char *code, const char *end) {
    copy_down(gate, gate_end, 0);
    copy_down(code, end, SNIPPET_OFFSET);
    go_down();
}
#define REAL(name) real(name, name##_end)
#define AT(name, label) (SNIPPET_OFFSET + (uint32_t)(label) - (uint32_t)(name))

CODE16(nothing, "mov $0x1234, %ax; mov %cs, %bx; mov %ss, %cx; mov %sp, %dx; ret");
CODE16(segments, "mov $0x4321, %ax; mov %ax, %es; movw $0x55aa, %es:5; movw $0x77, 5; ret");
CODE16(unreal, "mov $0x2c0000, %edi; movl $0xcafe, (%edi); mov 4(%edi), %eax; ret");
CODE16(interrupt,
       "stc; int $0x21; pushf; pop %bx; ret; .globl real_handler21; real_handler21: add $7, %ax; pushf; pop %cx; iret");
CODE16(divide,
       "sti; div %cl; mov $5, %bx; ret; .globl real_handler0; real_handler0: push %bp; mov %sp, %bp; mov 2(%bp), %dx\n"
       "addw $2, 2(%bp); pop %bp; inc %ax; iret");
CODE16(
    undefined,
    "ud2; ret; .globl real_handler6; real_handler6: push %bp; mov %sp, %bp; addw $2, 2(%bp); mov 4(%bp), %bx; pop %bp\n"
    "mov $6, %ax; iret");
CODE16(overflow, "mov $0x7fff, %bx; inc %bx; into; ret; .globl real_handler4; real_handler4: mov $4, %ax; iret");
CODE16(breakpoint, "int3; ret; .globl real_handler3; real_handler3: mov $3, %ax; iret");
CODE16(single_step, "pushf; pop %cx; or $0x100, %cx; push %cx; popf; nop; nop; and $0xfeff, %cx; push %cx; popf; ret\n"
                    ".globl real_handler1; real_handler1: inc %ax; iret");
CODE16(
    timer,
    "mov $0x1234, %bx; sti; hlt; cli; ret; .globl real_handler8; real_handler8: inc %cx; mov $0x20, %al; out %al, $0x20; iret");
CODE16(table, "lidt %cs:1f - table + 0x200; int $0x10; ret; 1: .word 0x3ff; .long 0x51000\n"
              ".globl real_handler10; real_handler10: mov $0x10, %ax; iret");
CODE16(far_call, "lcall $0x2020, $1f - far_call; ret; 1: mov %cs, %ax; lret");
CODE16(
    strings,
    "mov $0xfffe, %di; mov $4, %cx; mov $0xab, %al; cld; rep stosb; mov %edi, %eax; xor %si, %si; movw $0x0102, 0; lodsw; ret");
CODE16(wide, "mov $0x12345678, %eax; mov $0x10000, %ebx; mul %ebx; mov $3, %ecx; 1: inc %ebx; loop 1b; ret");
CODE16(loops, "mov $1000, %cx; 1: add %cx, %ax; loop 1b; ret");
CODE16(ports, "mov $0x5a, %al; out %al, $0x80; in $0x61, %al; mov $1, %bx; ret");

extern const char real_handler0[], real_handler1[], real_handler3[], real_handler4[], real_handler6[], real_handler8[],
    real_handler10[], real_handler21[];

static void check_running(void) {
    REAL(nothing);
    check_equal("the snippet ran", results->eax, 0x1234);
    check_equal("CS", results->ebx, CODE_SEGMENT);
    check_equal("SS", results->ecx, STACK_SEGMENT);
    check_equal("SP, below the return address", results->edx, STACK_TOP - 2);
    check_equal("CR0.PE was clear", results->cr0 & CR0_PE, 0);
    REAL(segments);
    check_equal("ES times 16", load32(0x43210 + 4) >> 8 & 0xffff, 0x55aa);
    check_equal("DS times 16", load32(LINEAR(DATA_SEGMENT) + 4) >> 8 & 0xffff, 0x77);
    store32(0x300004, 0xf00d);
    REAL(unreal);
    check_true("addresses of 32 bits, 0x2c0000 behind DS", load32(0x300000) == 0xcafe && results->eax == 0xf00d);
    REAL(far_call);
    check_equal("far call and return, in another segment for the same code", results->eax, 0x2020);
    REAL(strings);
    check_equal("REP STOSB wraps DI at 64 KiB", results->edi & 0xffff, 2);
    check_equal("LODSW", results->eax & 0xffff, 0x0102);
    REAL(wide);
    check_true("operands of 32 bits", results->edx == 0x1234 && results->eax == 0x56780000 && results->ebx == 0x10003);
    REAL(loops);
    check_equal("a loop", results->eax, 1000 * 1001 / 2 & 0xffff);
    REAL(ports);
    check_equal("ports", results->ebx, 1);
}

static void check_events(void) {
    set_vector(0x21, AT(interrupt, real_handler21));
    REAL(interrupt);
    check_equal("INT 0x21 and IRET", results->eax, 7);
    check_true("IRET brings the flags back", (results->ebx & FLAG_CF) && !(results->ecx & FLAG_IF));
    set_vector(0, AT(divide, real_handler0));
    REAL(divide);
    check_true("#DE: IP is the instruction's",
               results->eax == 1 && results->ebx == 5 && results->edx == SNIPPET_OFFSET + 1);
    set_vector(6, AT(undefined, real_handler6));
    REAL(undefined);
    check_true("#UD: no error code, CS behind IP", results->eax == 6 && results->ebx == CODE_SEGMENT);
    set_vector(4, AT(overflow, real_handler4));
    REAL(overflow);
    check_equal("INTO", results->eax, 4);
    set_vector(3, AT(breakpoint, real_handler3));
    REAL(breakpoint);
    check_equal("INT3", results->eax, 3);
    set_vector(1, AT(single_step, real_handler1));
    REAL(single_step);
    check_equal("TF: a trap after each of five instructions", results->eax, 5);
    set_vector(0x400 + 0x10, AT(table, real_handler10)); /* of a table 4 KiB further */
    REAL(table);
    check_equal("LIDT moves the table of vectors", results->eax, 0x10);
}

static void check_timer(void) {
    set_vector(8, AT(timer, real_handler8));
    pic_init(8, 1);
    pit_one_shot(1000);
    REAL(timer);
    check_true("HLT waits for the timer, at vector 8", results->ecx == 1 && results->ebx == 0x1234);
    pic_init(VECTOR_IRQ0, 1);
    pit_one_shot(1000);
    while (!interrupt_count) wait_for_interrupt();
    check_equal("and back in protected mode at its gate", interrupt_count, 1);
    pic_init(VECTOR_IRQ0, 0);
}

static void check_many_times(void) {
    uint32_t right = 0;
    for (int i = 0; i < 50; i++) {
        REAL(nothing);
        right += results->eax == 0x1234;
    }
    check_equal("fifty times there and back", right, 50);
    TRY("ud2", :);
    check_fault("and the IDT is in use again", VECTOR_UD, 0);
}

/* From paging to real mode and back: both bits of CR0 at once would be #GP, so first one, then the other. */
static uint32_t directory[1024] __attribute__((aligned(4096)));

static void check_with_paging(void) {
    for (uint32_t i = 0; i < 4; i++) directory[i] = i << 22 | 0x83;
    write_cr4(read_cr4() | CR4_PSE);
    write_cr3((uint32_t)directory);
    bool right = true;
    for (int i = 0; i < 5; i++) {
        write_cr0(read_cr0() | CR0_PG);
        directory[3] = 2u << 22 | 0x83;
        store32(0x800000, i);
        right = right && load32(0xc00000) == (uint32_t)i;
        write_cr0(read_cr0() & ~CR0_PG);
        REAL(nothing);
        right = right && results->eax == 0x1234;
    }
    check_true("paging on, off, real mode, by turns", right);
}

void guest_main(void) {
    gdt[SELECTOR_SPARE / 8] = 0x00009b000000ffff | (uint64_t)LINEAR(CODE_SEGMENT) << 16;
    check_running();
    check_events();
    check_timer();
    check_many_times();
    check_with_paging();
}
