/* Claim: a gate with an IST index switches to that stack, from ring 0 as from ring 3, always from its top; without one
 * the stack is RSP0 after a change of ring and the current one otherwise, aligned to 16 bytes. SDM
 * 3A 6.14.2, 6.14.4, 6.14.5.
 */
#include "guest.h"

#define VECTOR 0x81
#define TSS_LIMIT_WITHOUT_IST7 0x53 /* IST7 occupies bytes 0x54..0x5b */

USER_CODE(user_int, "int $0x81");

static volatile uint64_t frames_at[2];
static volatile unsigned depth;

static uint64_t stack_of_frame(uint64_t frame) { return frame + sizeof(struct trap_frame); }

static void check_ist(void) {
    struct tally ring0 = {0}, ring3 = {0};
    idt_set_dpl(VECTOR, 3);
    for (int ist = 1; ist <= 7; ist++) {
        idt_set_ist(VECTOR, ist);
        TRY("int $0x81", :);
        tally_equal(&ring0, last_fault.vector, VECTOR);
        tally_equal(&ring0, stack_of_frame(last_fault.frame), ist_stack_top(ist));
        tally_equal(&ring0, last_fault.ss, SEL_KERNEL_DATA);
        tally_equal(&ring0, last_fault.rsp, trap_expected.resume_rsp);
        user_call((void *)user_int, 0);
        tally_equal(&ring3, last_fault.vector, VECTOR);
        tally_equal(&ring3, stack_of_frame(last_fault.frame), ist_stack_top(ist));
        tally_equal(&ring3, last_fault.ss, SEL_USER_DATA);
        tally_equal(&ring3, last_fault.rsp, user_stack_top());
    }
    check_tally("from ring 0, each of the seven", &ring0);
    check_tally("from ring 3, each of the seven", &ring3);
    idt_set_ist(VECTOR, 0);
    user_call((void *)user_int, 0);
    check_equal("IST 0 from ring 3: RSP0", stack_of_frame(last_fault.frame), trap_stack_top());
    TRY("int $0x81", :);
    check_equal("IST 0 from ring 0: the current stack, aligned", stack_of_frame(last_fault.frame),
                last_fault.rsp & ~15ul);
}

static void check_alignment(void) {
    struct tally tally = {0};
    for (uint64_t offset = 0; offset < 32; offset++) {
        TRY("subq %0, %%rsp; int $0x81", : : "r"(256 + offset) : "memory");
        tally_equal(&tally, last_fault.rsp, trap_expected.resume_rsp - 256 - offset);
        tally_equal(&tally, stack_of_frame(last_fault.frame), last_fault.rsp & ~15ul);
    }
    check_tally("the frame is aligned to 16 bytes, the old RSP is kept exactly", &tally);
}

/* The handler, on IST 2, moves to another stack and runs INT of its own vector: the second frame is built where the
 * first one is, so the first is put back by hand. */
static void on_nested(struct trap_frame *frame) {
    static struct trap_frame saved;
    frames_at[depth & 1] = (uint64_t)frame;
    if (depth++) return;
    saved = *frame;
    asm volatile("movq %%rsp, %%rbx; movq %0, %%rsp; int $0x82; movq %%rbx, %%rsp"
                 :
                 : "r"(ist_stack_top(4))
                 : "rbx", "memory");
    *frame = saved;
}

static void check_nested(void) {
    trap_set_handler(0x82, on_nested);
    idt_set_ist(0x82, 2);
    tss.ist[1] = ist_stack_top(2);
    uint64_t here = 0;
    asm volatile("movq %%rsp, %0; int $0x82; subq %%rsp, %0" : "+r"(here) : : "memory", "cc");
    check_equal("nested on one IST stack: both frames lie at its top", frames_at[1], frames_at[0]);
    check_equal("and the outer one returns", here, 0);
    idt_set_ist(0x82, 0);
    idt_set_dpl(0x82, 3);
}

static volatile uint64_t nested_ss, nested_cs;

static void on_inner(struct trap_frame *frame) {
    nested_ss = frame->ss;
    nested_cs = frame->cs;
}
static void on_outer(struct trap_frame *frame) {
    (void)frame;
    asm volatile("int $0x83" : : : "memory");
}

USER_CODE(user_int82, "int $0x82");

static void check_null_ss(void) {
    trap_set_handler(0x82, on_outer);
    trap_set_handler(0x83, on_inner);
    user_call((void *)user_int82, 0);
    check_equal("after a change of ring SS is null", nested_ss, 0);
    check_equal("and CS is the gate's", nested_cs, SEL_KERNEL_CODE);
    TRY("int $0x82", :);
    check_equal("without a change of ring SS stays", nested_ss, SEL_KERNEL_DATA);
    trap_set_handler(0x82, NULL);
    trap_set_handler(0x83, NULL);
}

static void check_tss_limit(void) {
    idt_set_ist(VECTOR, 7);
    tss_load(TSS_LIMIT_WITHOUT_IST7);
    TRY("int $0x81", :);
    check_fault("IST entry beyond the TSS limit: #TS with the TSS selector", VECTOR_TS, SEL_TSS);
    idt_set_ist(VECTOR, 6);
    TRY("int $0x81", :);
    check_equal("IST entry just inside the limit", last_fault.vector, VECTOR);
    tss_load(sizeof tss - 1);
    idt_set_ist(VECTOR, 0);
}

static void check_changed(void) {
    tss.ist[2] = ist_stack_top(5) - 512;
    idt_set_ist(VECTOR, 3);
    TRY("int $0x81", :);
    check_equal("a changed IST entry is used at once", stack_of_frame(last_fault.frame), ist_stack_top(5) - 512);
    tss.ist[2] = ist_stack_top(3);
    tss.rsp[0] = ist_stack_top(5);
    idt_set_ist(VECTOR, 0);
    user_call((void *)user_int, 0);
    check_equal("so is a changed RSP0", stack_of_frame(last_fault.frame), ist_stack_top(5));
    tss.rsp[0] = trap_stack_top();
}

void guest_main(void) {
    check_ist();
    check_alignment();
    check_nested();
    check_null_ss();
    check_tss_limit();
    check_changed();
}
