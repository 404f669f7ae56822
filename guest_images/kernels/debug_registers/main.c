/* Claim: DR0..DR3, DR6 and DR7 keep what they should, an execution breakpoint stops before its instruction and DR6 says
 * which it was; RF lets one instruction pass; a breakpoint on data traps behind the access; single-stepping stops after each
 * instruction. SDM 3B 18.2, 18.3.
 */
#include "guest.h"

#define DR6_INIT 0xffff0ff0ul
#define DR7_FIXED (1ul << 10)
#define ON_EXECUTE 0ul
#define ON_WRITE 1ul
#define ON_ACCESS 3ul
#define LENGTH_4 3ul
#define LENGTH_8 2ul

/* DR7: bit 2n enables breakpoint n locally; 4 bits from 16 + 4n are its kind and length */
static uint64_t dr7(unsigned n, uint64_t kind, uint64_t length) {
    return DR7_FIXED | 1ul << (2 * n) | (kind | length << 2) << (16 + 4 * n);
}

#define WRITE_DR(n, value) asm volatile("mov %0, %%dr" #n : : "r"((uint64_t)(value)) : "memory")
#define READ_DR(n)                                                     \
    ({                                                                 \
        uint64_t value;                                                \
        asm volatile("mov %%dr" #n ", %0" : "=r"(value) : : "memory"); \
        value;                                                         \
    })

static void check_kept(void) {
    struct tally tally = {0};
    WRITE_DR(0, 0x1111222233334444);
    WRITE_DR(1, 0x5555666677778888);
    WRITE_DR(2, 0x99);
    WRITE_DR(3, ~0ul);
    tally_equal(&tally, READ_DR(0), 0x1111222233334444);
    tally_equal(&tally, READ_DR(1), 0x5555666677778888);
    tally_equal(&tally, READ_DR(2), 0x99);
    tally_equal(&tally, READ_DR(3), ~0ul);
    check_tally("DR0..DR3 keep 64 bits", &tally);
    WRITE_DR(6, 0);
    check_equal("DR6: bits that are always set", READ_DR(6) & 0xffff0ff0, DR6_INIT);
    WRITE_DR(7, 0);
    check_equal("DR7: bit 10 is always set", READ_DR(7) & DR7_FIXED, DR7_FIXED);
    write_cr4(read_cr4() | CR4_DE);
    TRY("mov %%dr4, %%rax", : : : "rax");
    check_fault("CR4.DE: DR4 is #UD", VECTOR_UD, 0);
    write_cr4(read_cr4() & ~CR4_DE);
}

static void check_execute(void) {
    uint64_t target;
    asm volatile("leaq break_here(%%rip), %0" : "=r"(target));
    WRITE_DR(0, target);
    WRITE_DR(6, DR6_INIT);
    WRITE_DR(7, dr7(0, ON_EXECUTE, 0));
    TRY("nop; break_here: nop", : : :);
    WRITE_DR(7, DR7_FIXED);
    check_fault_at("execution breakpoint: before the instruction", VECTOR_DB, 0, target);
    check_equal("DR6 names it", READ_DR(6) & 15, 1);
}

static volatile unsigned resumed;
static void on_resume(struct trap_frame *frame) {
    resumed++;
    frame->rflags |= RFLAGS_RF;
}

static void check_resume(void) {
    uint64_t first, second;
    asm volatile("leaq resume_1(%%rip), %0; leaq resume_2(%%rip), %1" : "=r"(first), "=r"(second));
    trap_set_handler(VECTOR_DB, on_resume);
    WRITE_DR(0, first);
    WRITE_DR(1, second);
    WRITE_DR(6, DR6_INIT);
    WRITE_DR(7, dr7(0, ON_EXECUTE, 0) | dr7(1, ON_EXECUTE, 0));
    asm volatile("nop; resume_1: nop; resume_2: nop; nop");
    WRITE_DR(7, DR7_FIXED);
    trap_set_handler(VECTOR_DB, NULL);
    check_equal("RF: each of two neighbours stops once", resumed, 2);
}

static volatile uint64_t watched[4], trapped_at;
static volatile unsigned hits;
static void on_access(struct trap_frame *frame) {
    hits++;
    trapped_at = frame->rip;
}

#define CHECK_ACCESS(name, text, expected_hits)                                                                \
    do {                                                                                                       \
        uint64_t behind;                                                                                       \
        hits = 0;                                                                                              \
        WRITE_DR(6, DR6_INIT);                                                                                 \
        asm volatile("leaq 1f(%%rip), %0; " text "; 1: nop" : "=&r"(behind) : "r"(watched) : "rax", "memory"); \
        check_equal(name, hits, expected_hits);                                                                \
        if (expected_hits) check_equal(name ": behind it", trapped_at, behind);                                \
        if (expected_hits) check_equal(name ": DR6", READ_DR(6) & 15, 4);                                      \
    } while (0)

static void check_data(void) {
    trap_set_handler(VECTOR_DB, on_access);
    WRITE_DR(2, (uint64_t)&watched[1]);
    WRITE_DR(7, dr7(2, ON_WRITE, LENGTH_8));
    CHECK_ACCESS("write breakpoint: a store", "movq %%rax, 8(%1)", 1);
    CHECK_ACCESS("write breakpoint: of its last byte", "movb %%al, 15(%1)", 1);
    CHECK_ACCESS("write breakpoint: read and write", "incl 8(%1)", 1);
    CHECK_ACCESS("write breakpoint: not a load", "movq 8(%1), %%rax", 0);
    CHECK_ACCESS("write breakpoint: not the bytes before", "movq %%rax, (%1)", 0);
    CHECK_ACCESS("write breakpoint: not the bytes behind", "movq %%rax, 16(%1)", 0);
    WRITE_DR(7, dr7(2, ON_ACCESS, LENGTH_4));
    CHECK_ACCESS("access breakpoint: a load", "movl 8(%1), %%eax", 1);
    CHECK_ACCESS("access breakpoint: a store", "movb %%al, 10(%1)", 1);
    CHECK_ACCESS("access breakpoint: not the bytes behind", "movl 12(%1), %%eax", 0);
    WRITE_DR(7, DR7_FIXED);
    CHECK_ACCESS("disabled: nothing", "movq %%rax, 8(%1)", 0);
    trap_set_handler(VECTOR_DB, NULL);
}

static volatile unsigned steps;
static void on_step(struct trap_frame *frame) {
    (void)frame;
    steps++;
    WRITE_DR(6, DR6_INIT);
}

static void check_step(void) {
    trap_set_handler(VECTOR_DB, on_step);
    asm volatile("pushfq; orl $0x100, (%%rsp); popfq; nop; nop; nop; pushfq; andl $~0x100, (%%rsp); popfq"
                 :
                 :
                 : "memory", "cc");
    trap_set_handler(VECTOR_DB, NULL);
    check_equal("TF: one #DB per instruction", steps, 6);
}

void guest_main(void) {
    check_kept();
    check_execute();
    check_resume();
    check_data();
    check_step();
}
