/* Claim: DR0..DR3, DR6 and DR7 keep what they should, an execution breakpoint stops before its instruction and DR6 says
 * which it was, and single-stepping stops after each instruction. SDM 3B 18.2, 18.3.
 * Data breakpoints and RF are not claimed: the emulator's engine has neither (emulator/README.md).
 */
#include "guest.h"

#define DR6_INIT 0xffff0ff0ul
#define DR7_FIXED (1ul << 10)
#define ON_EXECUTE 0ul

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
    check_step();
}
