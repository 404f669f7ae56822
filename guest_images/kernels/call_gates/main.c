/* Claim: in IA-32e mode far CALL and JMP go through 64-bit call gates alone: to 64-bit code of the same ring or of an inner one,
 * whose stack pointer comes from the TSS and whose SS is null; four words are pushed and no parameter; RETF goes back, to
 * compatibility mode too; each check faults with its error code. SDM 3A 5.8.3.1, 5.8.5.1; 2A "CALL".
 */
#include "guest.h"

#define SPARE(n) (SEL_SPARE + 8 * (n))
#define GATE SPARE(0) /* and SPARE(1), its upper half */
#define OTHER SPARE(2)
enum { CALL_GATE = 12, CALL_GATE_16 = 4, TASK_GATE = 5 };
#define NO_CANONICAL (1ul << 47)

extern const char inside[], jumped[];
volatile uint64_t frame[4], seen_rsp, seen_cs, seen_ss, ran;
asm(".text\n"
    "inside: movq %rsp, seen_rsp; movl %cs, %eax; movq %rax, seen_cs; movl %ss, %eax; movq %rax, seen_ss; incq ran\n"
    "movq (%rsp), %rax; movq %rax, frame; movq 8(%rsp), %rax; movq %rax, frame + 8\n"
    "movq 16(%rsp), %rax; movq %rax, frame + 16; movq 24(%rsp), %rax; movq %rax, frame + 24\n"
    "lretq\n"
    "jumped: incq ran; jmp *%rdx\n");

/* m16:32: the offset does not count. */
struct __attribute__((packed)) far_pointer {
    uint32_t offset;
    uint16_t selector;
};
USER_DATA struct far_pointer to_gate = {0x55555555, GATE}, to_gate_rpl3 = {0x55555555, GATE | 3};
USER_CODE(user_call_gate, "lcall *to_gate_rpl3(%rip)\n movq %rsp, %rax");
USER_CODE(user_jump_gate, "ljmp *to_gate_rpl3(%rip)");
USER_CODE(user_call_32, ".code32\n lcall *to_gate_rpl3\n movl %cs, %eax\n int $0x80\n .code64");

static void set_gate_to(const void *target, uint64_t selector, uint64_t kind, uint64_t dpl) {
    uint64_t offset = (uint64_t)target;
    gdt[GATE >> 3] = (offset & 0xffff) | selector << 16 | 7ul << 32 | kind << 40 | dpl << 45 | DESCRIPTOR_PRESENT |
                     (offset >> 16 & 0xffff) << 48; /* 7: parameters, which a 64-bit gate has none of */
    gdt[(GATE >> 3) + 1] = offset >> 32;
}

static void user_fault(const char *name, uint64_t vector, uint64_t error_code) {
    user_call((void *)user_call_gate, 0);
    check_fault_at(name, vector, error_code, (uint64_t)user_call_gate);
}

static void check_inner_ring(void) {
    ran = 0;
    set_gate_to(inside, SEL_KERNEL_CODE | 3, CALL_GATE, 3);
    uint64_t rsp = user_call((void *)user_call_gate, 0);
    check_equal("from ring 3 and back", ran, 1);
    check_equal("CS: the new level is its RPL", seen_cs, SEL_KERNEL_CODE);
    check_equal("SS is null", seen_ss, 0);
    check_equal("four words on the stack of the TSS", seen_rsp, trap_stack_top() - 32);
    check_equal("RIP", frame[0], (uint64_t)user_call_gate + 6);
    check_equal("CS of the caller", frame[1], SEL_USER_CODE);
    check_equal("its RSP", frame[2], rsp);
    check_equal("its SS", frame[3], SEL_USER_DATA);
    uint64_t cs = user_call_at((uint64_t)user_call_32, 0, user_stack_top(), 2, SEL_USER_CODE32);
    check_equal("from compatibility mode and back", ran, 2);
    check_equal("which it is in", cs, SEL_USER_CODE32);
    check_equal("CS of that caller", frame[1], SEL_USER_CODE32);
}

static void check_same_ring(void) {
    ran = 0;
    TRY("lcall *to_gate", : : : "rax", "memory");
    check_no_fault("from ring 0");
    check_equal("it ran", ran, 1);
    check_equal("on the same stack, with two words", frame[1], SEL_KERNEL_CODE);
    set_gate_to(jumped, SEL_KERNEL_CODE, CALL_GATE, 0);
    TRY("leaq 3f(%%rip), %%rdx; ljmp *to_gate; 3:", : : : "rdx", "memory");
    check_equal("a jump", ran, 2);
    TRY("lcall *to_gate_rpl3", : : : "rax", "rdx", "memory");
    check_fault("an RPL above the gate's DPL", VECTOR_GP, GATE);
}

static void check_faults(void) {
    set_gate_to(inside, SEL_KERNEL_CODE, CALL_GATE, 0);
    user_fault("a CPL above the gate's DPL", VECTOR_GP, GATE);
    set_gate_to(inside, SEL_KERNEL_CODE, CALL_GATE_16, 3);
    user_fault("a 16-bit gate", VECTOR_GP, GATE);
    set_gate_to(inside, SEL_TSS, TASK_GATE, 3);
    user_fault("a task gate", VECTOR_GP, GATE);
    set_gate_to(inside, SEL_KERNEL_CODE, CALL_GATE, 3);
    gdt[GATE >> 3] &= ~DESCRIPTOR_PRESENT;
    user_fault("a gate that is not present", VECTOR_NP, GATE);
    set_gate_to(inside, SEL_KERNEL_CODE, CALL_GATE, 3);
    gdt[(GATE >> 3) + 1] |= 1ul << 40;
    user_fault("a type in its upper half", VECTOR_GP, GATE);
    set_gate_to(inside, 0, CALL_GATE, 3);
    user_fault("a null code segment", VECTOR_GP, 0);
    set_gate_to(inside, SEL_KERNEL_CODE32, CALL_GATE, 3);
    user_fault("32-bit code", VECTOR_GP, SEL_KERNEL_CODE32);
    set_gate_to(inside, SEL_KERNEL_DATA, CALL_GATE, 3);
    user_fault("data", VECTOR_GP, SEL_KERNEL_DATA);
    gdt[OTHER >> 3] = DESCRIPTOR_CODE64(0) & ~DESCRIPTOR_PRESENT;
    set_gate_to(inside, OTHER, CALL_GATE, 3);
    user_fault("code that is not present", VECTOR_NP, OTHER);
    set_gate_to(inside, SEL_KERNEL_CODE, CALL_GATE, 3);
    user_call((void *)user_jump_gate, 0);
    check_fault_at("a jump to an inner ring", VECTOR_GP, SEL_KERNEL_CODE, (uint64_t)user_jump_gate);
    if (on_tcg()) return; /* which does not look at it */
    set_gate_to((void *)NO_CANONICAL, SEL_KERNEL_CODE, CALL_GATE, 3);
    user_fault("no canonical target", VECTOR_GP, 0);
}

void guest_main(void) {
    check_inner_ring();
    set_gate_to(inside, SEL_KERNEL_CODE, CALL_GATE, 0);
    check_same_ring();
    check_faults();
}
