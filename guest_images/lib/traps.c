/* The IDT and what happens on a trap: a handler, an expected exception, or the end of the run. */
#include "trap.h"

#include "console.h"
#include "cpu.h"
#include "report.h"
#include "segments.h"

#define STUB_BYTES 16
#define GATE_INTERRUPT 0x8e00ul /* present, DPL 0, 64-bit interrupt gate: SDM 3A figure 6-8 */
#define USER_STATUS_STACK 8

extern const char vector_stubs[];

volatile struct fault last_fault;
volatile struct trap_expectation trap_expected;

static uint64_t idt[256][2] __attribute__((aligned(4096)));
static trap_handler *handlers[256];
static uint8_t user_stack[USER_STACK_BYTES] USER_DATA __attribute__((aligned(16)));

static const char *const names[20] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9",
                                      "#TS", "#NP", "#SS", "#GP", "#PF", "15",  "#MF", "#AC", "#MC", "#XM"};

const char *vector_name(uint64_t vector) {
    return vector < 20 ? names[vector] : vector == NO_FAULT ? "no fault" : "interrupt";
}

uint64_t *idt_entry(unsigned vector) { return idt[vector & 0xff]; }

static void set_gate_bits(unsigned vector, unsigned shift, uint64_t mask, uint64_t value) {
    uint64_t *gate = idt_entry(vector);
    gate[0] = (gate[0] & ~(mask << shift)) | (value & mask) << shift;
}

void idt_set_ist(unsigned vector, unsigned ist) { set_gate_bits(vector, 32, 7, ist); }
void idt_set_dpl(unsigned vector, unsigned dpl) { set_gate_bits(vector, 45, 3, dpl); }
void idt_set_present(unsigned vector, bool present) { set_gate_bits(vector, 47, 1, present); }
void trap_set_handler(unsigned vector, trap_handler *handler) { handlers[vector & 0xff] = handler; }

void idt_load(void) {
    struct table_pointer pointer = {sizeof idt - 1, (uint64_t)idt};
    asm volatile("lidt %0" : : "m"(pointer) : "memory");
}

/* gate[0]: 63..48 offset 31..16 | 47..32 P DPL type IST | 31..16 selector | 15..0 offset 15..0
 * gate[1]: 31..0 offset 63..32 */
void traps_init(void) {
    for (unsigned vector = 0; vector < 256; vector++) {
        uint64_t offset = (uint64_t)vector_stubs + vector * STUB_BYTES;
        idt[vector][0] =
            (offset & 0xffff) | (uint64_t)SEL_KERNEL_CODE << 16 | GATE_INTERRUPT << 32 | (offset >> 16 & 0xffff) << 48;
        idt[vector][1] = offset >> 32;
    }
    idt_set_ist(VECTOR_DF, 1);
    idt_set_dpl(VECTOR_BP, 3);
    idt_set_dpl(VECTOR_OF, 3);
    idt_set_dpl(VECTOR_USER_RETURN, 3);
    idt_load();
}

static void record(const struct trap_frame *frame) {
    last_fault.vector = frame->vector == VECTOR_USER_RETURN ? NO_FAULT : frame->vector;
    last_fault.error_code = frame->error_code;
    last_fault.rip = frame->rip;
    last_fault.cs = frame->cs;
    last_fault.rflags = frame->rflags;
    last_fault.rsp = frame->rsp;
    last_fault.ss = frame->ss;
    last_fault.cr2 = read_cr2();
    last_fault.frame = (uint64_t)frame;
}

static void resume(struct trap_frame *frame) {
    frame->rip = trap_expected.resume_rip;
    frame->cs = SEL_KERNEL_CODE;
    frame->rsp = trap_expected.resume_rsp;
    frame->ss = SEL_KERNEL_DATA;
    frame->rflags = trap_expected.resume_rflags & ~RFLAGS_TF;
    trap_expected.resume_rip = 0;
}

void trap_dispatch(struct trap_frame *frame);
void trap_dispatch(struct trap_frame *frame) {
    trap_handler *handler = handlers[frame->vector & 0xff];
    if (handler) {
        handler(frame);
        return;
    }
    if (!trap_expected.resume_rip)
        error("unexpected %s (vector %lu), error code 0x%lx at rip 0x%lx, cr2 0x%lx", vector_name(frame->vector),
              frame->vector, frame->error_code, frame->rip, read_cr2());
    record(frame);
    resume(frame);
}

static bool same_fault(uint64_t vector, uint64_t error_code, uint64_t rip) {
    if (last_fault.vector != vector) return false;
    return vector == NO_FAULT || (last_fault.error_code == error_code && last_fault.rip == rip);
}

static void print_fault(const char *word, uint64_t vector, uint64_t error_code, uint64_t rip, uint64_t cr2) {
    print(" %s %s", word, vector_name(vector));
    if (vector != NO_FAULT) print("(0x%lx) at 0x%lx", error_code, rip);
    if (vector == VECTOR_PF) print(" cr2 0x%lx", cr2);
}

static void check_same(const char *name, bool same, uint64_t vector, uint64_t error_code, uint64_t rip, uint64_t cr2) {
    check_true(name, same);
    if (same) return;
    print_fault(" got", last_fault.vector, last_fault.error_code, last_fault.rip, last_fault.cr2);
    print_fault("expected", vector, error_code, rip, cr2);
    print("\n");
}

void check_fault_at(const char *name, uint64_t vector, uint64_t error_code, uint64_t rip) {
    check_same(name, same_fault(vector, error_code, rip), vector, error_code, rip, last_fault.cr2);
}

void check_fault(const char *name, uint64_t vector, uint64_t error_code) {
    check_fault_at(name, vector, error_code, last_fault.start);
}

void check_no_fault(const char *name) { check_fault(name, NO_FAULT, 0); }

void check_page_fault(const char *name, uint64_t error_code, uint64_t cr2) {
    bool same = same_fault(VECTOR_PF, error_code, last_fault.start) && last_fault.cr2 == cr2;
    check_same(name, same, VECTOR_PF, error_code, last_fault.start, cr2);
}

uint64_t user_stack_top(void) {
    uint64_t *top = (uint64_t *)(user_stack + sizeof user_stack - USER_STATUS_STACK);
    *top = (uint64_t)user_return;
    return (uint64_t)top;
}

uint64_t user_call_flags(void *function, uint64_t argument, uint64_t rflags) {
    return user_call_at((uint64_t)function, argument, user_stack_top(), rflags, SEL_USER_CODE);
}

uint64_t user_call(void *function, uint64_t argument) { return user_call_flags(function, argument, RFLAGS_FIXED); }
