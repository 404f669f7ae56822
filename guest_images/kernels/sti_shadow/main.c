/* Claim: a waiting interrupt is taken at the first instruction boundary that allows it: after the instruction that
 * follows STI, right after POPF or IRETQ that sets IF, never between MOV SS and the next instruction. SDM
 * 3A 6.8.1, 6.8.3.
 */
#include "guest.h"

#define PIC_READ_IRR 0x0a
#define SS_LOADS 20000

extern const char after_mov_ss[];

static volatile uint64_t interrupted_at;
static volatile unsigned ticks, in_shadow;

static void on_interrupt(struct trap_frame *frame) {
    interrupted_at = frame->rip;
    in_shadow += frame->rip == (uint64_t)after_mov_ss;
    ticks++;
    out8(PIC_MASTER, 0x20);
}

static void nothing(void) {}

/* Leaves IRQ 0 waiting in the PIC with IF clear. */
static void make_pending(void) {
    interrupts_off();
    ticks = 0;
    interrupted_at = 0;
    pit_one_shot(1);
    do out8(PIC_MASTER, PIC_READ_IRR);
    while (!(in8(PIC_MASTER) & 1 << IRQ_PIT));
}

/* Runs `text`, in which label 7 is where the interrupt has to be taken. */
#define EXPECT_AT(name, text)                                                                              \
    do {                                                                                                   \
        uint64_t expected;                                                                                 \
        make_pending();                                                                                    \
        asm volatile("leaq 7f(%%rip), %0\n\t" text "\n\tcli" : "=&r"(expected) : : "rax", "memory", "cc"); \
        check_equal(name, interrupted_at, expected);                                                       \
        check_equal(name ": once", ticks, 1);                                                              \
    } while (0)

static void check_sti(void) {
    EXPECT_AT("STI; NOP: after the NOP", "sti; nop; 7: nop; nop");
    EXPECT_AT("STI; STI: the second has no shadow", "sti; sti; 7: nop; nop");
    EXPECT_AT("STI; HLT: HLT is reached and left", "sti; hlt; 7: nop");
    EXPECT_AT("STI; store: after the store", "sti; pushq %%rax; 7: popq %%rax; nop");
    EXPECT_AT("STI; jump: at its target", "sti; jmp 7f; nop; nop; 7: nop; nop");
    EXPECT_AT("POPF: at the next instruction", "pushfq; orl $0x200, (%%rsp); popfq; 7: nop; nop");
    EXPECT_AT(
        "IRETQ: at its target",
        "movq %%rsp, %%rax; pushq $0x18; pushq %%rax; pushq $0x202; pushq $0x10; pushq $7f; iretq; nop; 7: nop; nop");
    make_pending();
    asm volatile("sti; cli; nop; nop" : : : "memory");
    check_equal("STI; CLI: not at all", ticks, 0);
    asm volatile("sti; nop; cli" : : : "memory");
    check_equal("STI; NOP; CLI: it waited", ticks, 1);
}

static void check_flags(void) {
    make_pending();
    asm volatile("pushfq; cli; popfq; nop; nop" : : : "memory", "cc");
    check_equal("POPF that leaves IF clear: not at all", ticks, 0);
    interrupts_on();
    asm volatile("nop");
    interrupts_off();
    check_equal("IF is set in the interrupted code's flags", read_rflags() & RFLAGS_IF, 0);
}

/* Interrupts at a high rate while loading SS: none may be seen between the load and the next instruction. The NOP is
 * there because of two shadows in a row (STI's, MOV SS's) only the first is promised. */
static void check_mov_ss(void) {
    ticks = 0;
    pit_periodic(PIT_HZ / 10000);
    for (unsigned round = 0; round < 1000 && ticks < 50; round++) {
        uint64_t count = SS_LOADS;
        asm volatile("sti; nop; 1: mov %1, %%ss; after_mov_ss: nop; decq %0; jnz 1b; cli"
                     : "+r"(count)
                     : "r"(SEL_KERNEL_DATA)
                     : "memory", "cc");
    }
    check_true("interrupts were taken while SS was loaded again and again", ticks >= 50);
    check_equal("none right after MOV SS", in_shadow, 0);
}

void guest_main(void) {
    irq_set_handler(IRQ_PIT, nothing); /* unmasks */
    trap_set_handler(VECTOR_IRQ0 + IRQ_PIT, on_interrupt);
    check_sti();
    check_flags();
    check_mov_ss();
}
