/* Claim: DR0..DR3 and DR7 break on execution (before), on writes and on accesses (after) of 1, 2, 4 and 8 bytes, DR6
 * says which; single-stepping stops after each instruction; RF and IRETQ get past a breakpoint. SDM 3B 18.2, 18.3.
 */
#include "guest.h"

#define DR6_INIT 0xffff0ff0ul
#define DR7_FIXED (1ul << 10)
#define ON_EXECUTE 0ul
#define ON_WRITE 1ul
#define ON_ACCESS 3ul
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

static uint64_t cells[4] __attribute__((aligned(8)));

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

static void check_data(void) {
    static const struct {
        const char *name;
        unsigned n;
        uint64_t kind, length;
        bool store, hit;
    } rows[] = {
        {"write breakpoint, a store", 0, ON_WRITE, LENGTH_8, true, true},
        {"write breakpoint, a load", 1, ON_WRITE, LENGTH_8, false, false},
        {"access breakpoint, a store", 2, ON_ACCESS, LENGTH_8, true, true},
        {"access breakpoint, a load", 3, ON_ACCESS, LENGTH_8, false, true},
        {"write breakpoint of 4 bytes, a store of 8 over it", 0, ON_WRITE, 3, true, true},
    };
    WRITE_DR(0, cells);
    WRITE_DR(1, cells + 1);
    WRITE_DR(2, cells + 2);
    WRITE_DR(3, cells + 3);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        WRITE_DR(6, DR6_INIT);
        WRITE_DR(7, dr7(rows[i].n, rows[i].kind, rows[i].length));
        uint64_t after = 0;
        if (rows[i].store)
            TRY("leaq 3f(%%rip), %0; movq $1, (%1); 3: nop", : "+&r"(after) : "r"(cells + rows[i].n) : "memory");
        else
            TRY("leaq 3f(%%rip), %0; movq (%1), %%rax; 3: nop", : "+&r"(after) : "r"(cells + rows[i].n) : "rax",
                "memory");
        WRITE_DR(7, DR7_FIXED);
        if (rows[i].hit)
            check_fault_at(rows[i].name, VECTOR_DB, 0, after);
        else
            check_no_fault(rows[i].name);
        if (rows[i].hit)
            check_equal("DR6 names it", READ_DR(6) & 15, 1ul << rows[i].n);
    }
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

static volatile unsigned hits;
static void on_break(struct trap_frame *frame) {
    hits++;
    frame->rflags |= RFLAGS_RF; /* or it would break again at once */
    WRITE_DR(6, DR6_INIT);
}

static void check_resume(void) {
    uint64_t target, count = 10;
    asm volatile("leaq break_loop(%%rip), %0" : "=r"(target));
    trap_set_handler(VECTOR_DB, on_break);
    WRITE_DR(0, target);
    WRITE_DR(7, dr7(0, ON_EXECUTE, 0));
    asm volatile("break_loop: decq %0; jnz break_loop" : "+r"(count) : : "memory", "cc");
    WRITE_DR(7, DR7_FIXED);
    trap_set_handler(VECTOR_DB, NULL);
    check_equal("RF: a breakpoint in a loop, once per pass", hits, 10);
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
    check_data();
    check_execute();
    check_resume();
    check_step();
}
