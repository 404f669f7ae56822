/* Claim: x87 and SSE compute, keep their state over interrupts and FXSAVE/FXRSTOR, and are off when CR0.TS, CR0.EM and
 * CR4.OSFXSR say so, with the right vector, so that lazy switching works. SDM 3A chapter 13, SDM 1 chapters 8 and 10.
 */
#include "guest.h"

#define MXCSR_OFFSET 24
#define XMM_OFFSET 160
#define TASKS 4
#define ROUNDS 40

static uint8_t area[2][512] __attribute__((aligned(16)));
static uint64_t vector[2] __attribute__((aligned(16)));

static void check_x87(void) {
    int32_t value = 7, three = 3;
    uint16_t control, status;
    asm volatile("fninit; fnstcw %0" : "=m"(control));
    check_equal("FNINIT: the control word", control, 0x37f);
    asm volatile("fildl %1; fildl %2; fmulp; fistpl %0" : "=m"(value) : "m"(value), "m"(three));
    check_equal("x87: 7 times 3", (uint32_t)value, 21);
    asm volatile("fld1; fldz; fdivrp; fnstsw %%ax; fstp %%st(0)" : "=a"(status));
    check_equal("x87: a masked division by zero sets ZE", status & 4, 4);
    uint64_t root;
    static const double two = 2.0;
    asm volatile("fldl %1; fsqrt; fstpl %0" : "=m"(root) : "m"(two));
    check_equal("x87: the square root of 2", root, 0x3ff6a09e667f3bcd);
    asm volatile("fnclex; fninit");
}

static void check_sse(void) {
    static const uint64_t left[2]
        __attribute__((aligned(16))) = {0x4000000000000000, 0x4008000000000000}; /* 2.0, 3.0 */
    static const uint32_t singles[4] __attribute__((aligned(16))) = {0x3f800000, 0x40000000, 0x40400000, 0x40800000};
    asm volatile("movapd %1, %%xmm1; mulpd %%xmm1, %%xmm1; movapd %%xmm1, %0" : "=m"(vector) : "m"(left) :);
    check_true("SSE2: two products", vector[0] == 0x4010000000000000 && vector[1] == 0x4022000000000000);
    asm volatile("movaps %1, %%xmm2; addps %%xmm2, %%xmm2; movaps %%xmm2, %0" : "=m"(vector) : "m"(singles));
    check_true("SSE: four sums", vector[0] == 0x4080000040000000 && vector[1] == 0x4100000040c00000);
    uint64_t whole;
    asm volatile("sqrtsd %1, %%xmm3; cvttsd2si %%xmm3, %0" : "=r"(whole) : "m"(left));
    check_equal("SSE2: the root of 2, truncated", whole, 1);
    uint32_t mxcsr = 0x1f80;
    asm volatile("ldmxcsr %0" : : "m"(mxcsr));
    asm volatile("pcmpeqd %%xmm4, %%xmm4; psrlq $1, %%xmm4; movdqu %%xmm4, %0" : "=m"(vector));
    check_true("SSE2: integers", vector[0] == ~0ul >> 1 && vector[1] == ~0ul >> 1);
}

/* Each XMM register gets a number of its own. */
#define LOAD_XMM(n) "movq %0, %%xmm" #n "; incq %0;"
/* clang-format off */
#define ALL_XMM                                                                                                    \
    LOAD_XMM(0) LOAD_XMM(1) LOAD_XMM(2) LOAD_XMM(3) LOAD_XMM(4) LOAD_XMM(5) LOAD_XMM(6) LOAD_XMM(7)                \
    LOAD_XMM(8) LOAD_XMM(9) LOAD_XMM(10) LOAD_XMM(11) LOAD_XMM(12) LOAD_XMM(13) LOAD_XMM(14) LOAD_XMM(15)
/* clang-format on */

static void load_registers(uint64_t first) {
    uint32_t mxcsr = 0x1f80 | (first & 1 ? 0x8000 : 0);
    uint64_t next = first;
    asm volatile(ALL_XMM : "+r"(next));
    asm volatile("fninit; pushq %0; fildq (%%rsp); popq %0; ldmxcsr %1" : : "r"(first), "m"(mxcsr) : "memory");
}

static void compare_area(struct tally *tally, const uint8_t *saved, uint64_t first) {
    for (unsigned i = 0; i < 16; i++) tally_equal(tally, *(const uint64_t *)(saved + XMM_OFFSET + 16 * i), first + i);
    tally_equal(tally, *(const uint32_t *)(saved + MXCSR_OFFSET), 0x1f80 | (first & 1 ? 0x8000 : 0));
}

static void check_fxsave(void) {
    struct tally saved = {0}, restored = {0};
    load_registers(0x1001);
    asm volatile("fxsave %0" : "=m"(area[0]));
    compare_area(&saved, area[0], 0x1001);
    check_tally("FXSAVE: sixteen XMM registers and MXCSR at their places", &saved);
    check_equal("FXSAVE: the x87 control word", *(uint16_t *)area[0], 0x37f);
    load_registers(0x2000);
    asm volatile("fxrstor %1; fxsave %0" : "=m"(area[1]) : "m"(area[0]));
    compare_area(&restored, area[1], 0x1001);
    check_tally("FXRSTOR: everything comes back", &restored);
    uint64_t number;
    asm volatile("fistpq %0" : "=m"(number));
    check_equal("FXRSTOR: the x87 stack too", number, 0x1001);
    TRY("fxsave (%0)", : : "r"((uint64_t)area[0] + 8) : "memory");
    check_fault("FXSAVE to a misaligned address", VECTOR_GP, 0);
}

static void check_off(void) {
    uint64_t cr0 = read_cr0();
    write_cr0(cr0 | CR0_TS);
    TRY("fnop", :);
    check_fault("CR0.TS: x87 is #NM", VECTOR_NM, 0);
    TRY("xorps %%xmm0, %%xmm0", : :);
    check_fault("CR0.TS: SSE is #NM", VECTOR_NM, 0);
    TRY("pxor %%mm0, %%mm0", : :);
    check_fault("CR0.TS: MMX is #NM", VECTOR_NM, 0);
    TRY("fxsave (%0)", : : "r"(area[1]) : "memory");
    check_fault("CR0.TS: FXSAVE is #NM", VECTOR_NM, 0);
    asm volatile("clts");
    TRY("fnop", :);
    check_no_fault("CLTS: x87 works");
    write_cr0(cr0 | CR0_EM);
    TRY("xorps %%xmm0, %%xmm0", : :);
    check_fault("CR0.EM: SSE is #UD", VECTOR_UD, 0);
    write_cr0(cr0);
    write_cr4(read_cr4() & ~CR4_OSFXSR);
    TRY("xorps %%xmm0, %%xmm0", : :);
    check_fault("CR4.OSFXSR clear: SSE is #UD", VECTOR_UD, 0);
    write_cr4(read_cr4() | CR4_OSFXSR);
}

/* Lazy switching: a task's registers are loaded by the #NM its first instruction raises. */
static uint8_t tasks[TASKS][512] __attribute__((aligned(16)));
static unsigned running, owner, switches;

static void on_device_not_available(struct trap_frame *frame) {
    (void)frame;
    asm volatile("clts");
    asm volatile("fxsave %0" : "=m"(tasks[owner]));
    asm volatile("fxrstor %0" : : "m"(tasks[running]));
    owner = running;
    switches++;
}

static void check_lazy(void) {
    struct tally tally = {0};
    for (unsigned i = 0; i < TASKS; i++) {
        load_registers(i * 0x10000);
        asm volatile("fxsave %0" : "=m"(tasks[i]));
    }
    asm volatile("fxrstor %0" : : "m"(tasks[0]));
    trap_set_handler(VECTOR_NM, on_device_not_available);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        running = i * 3 % TASKS;
        write_cr0(read_cr0() | CR0_TS);
        uint64_t value, next;
        asm volatile("movq %%xmm5, %0; leaq 1(%0), %1; movq %1, %%xmm5" : "=r"(value), "=&r"(next));
        tally_equal(&tally, value, running * 0x10000 + 5 + (i - 1) / TASKS);
    }
    trap_set_handler(VECTOR_NM, NULL);
    check_tally("lazy switching: each task sees its own registers", &tally);
    check_equal("lazy switching: one #NM per switch", switches, ROUNDS);
}

void guest_main(void) {
    write_cr0((read_cr0() | CR0_MP | CR0_NE) & ~(CR0_EM | CR0_TS));
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    check_x87();
    check_sse();
    check_fxsave();
    check_off();
    check_lazy();
}
