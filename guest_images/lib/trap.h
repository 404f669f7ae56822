/* Exceptions and interrupts: the IDT, handlers, and expected exceptions.
 *
 *   TRY("div %0", : : "r"(0ul) : "rax", "rdx");      runs one instruction; a fault ends it and is recorded
 *   check_fault("DIV by zero", VECTOR_DE, 0);        compares vector, error code and that RIP was the instruction's
 *   user_call(function, argument)                    the same for a function in ring 3 (marked USER_TEXT)
 *
 * An exception that nobody expects ends the run with the verdict ERROR.
 */
#ifndef TRAP_H
#define TRAP_H

#include <stdbool.h>
#include <stdint.h>

#include "selectors.h"

/* clang-format off */
enum vector {
    VECTOR_DE, VECTOR_DB, VECTOR_NMI, VECTOR_BP, VECTOR_OF, VECTOR_BR, VECTOR_UD, VECTOR_NM, VECTOR_DF,
    VECTOR_TS = 10, VECTOR_NP, VECTOR_SS, VECTOR_GP, VECTOR_PF, VECTOR_MF = 16, VECTOR_AC, VECTOR_MC, VECTOR_XM,
    VECTOR_IRQ0 = 0x20,
};
/* clang-format on */

/* Error codes of #PF, SDM 3A figure 4-12. */
#define PF_PRESENT 1
#define PF_WRITE 2
#define PF_USER 4
#define PF_RESERVED 8
#define PF_FETCH 16

struct trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error_code, rip, cs, rflags, rsp, ss;
};

struct fault {
    uint64_t vector; /* NO_FAULT: there was none */
    uint64_t start;  /* address of the instruction tried */
    uint64_t error_code, rip, cs, rflags, rsp, ss, cr2;
    uint64_t frame; /* where the trap frame lay */
};

struct trap_expectation {
    uint64_t resume_rip; /* 0: no exception is expected */
    uint64_t resume_rsp, resume_rflags;
};

extern volatile struct fault last_fault;
extern volatile struct trap_expectation trap_expected;

/* Has to be told operands: at least one colon. */
#define TRY(text, ...)                                                                          \
    asm volatile("movq $1f, trap_expected; movq %%rsp, trap_expected + 8\n\t"                   \
                 "pushfq; popq trap_expected + 16\n\t"                                          \
                 "movq $256, last_fault; movq $1f, last_fault + 8; movq $2f, trap_expected\n\t" \
                 "1: " text "\n\t2: movq $0, trap_expected" __VA_ARGS__)

typedef void trap_handler(struct trap_frame *frame);

void traps_init(void);
void trap_set_handler(unsigned vector, trap_handler *handler); /* NULL: back to expected exceptions */
void idt_set_ist(unsigned vector, unsigned ist);
void idt_set_dpl(unsigned vector, unsigned dpl);
void idt_set_present(unsigned vector, bool present);
void idt_load(void);
uint64_t *idt_entry(unsigned vector); /* 16 bytes, for tests that break it */
const char *vector_name(uint64_t vector);

/* What the last TRY or user_call raised. An error code is 0 where the vector has none. */
void check_fault(const char *name, uint64_t vector, uint64_t error_code);
void check_fault_at(const char *name, uint64_t vector, uint64_t error_code, uint64_t rip);
void check_page_fault(const char *name, uint64_t error_code, uint64_t cr2);
void check_no_fault(const char *name);

/* Ring 3. Functions and data that ring 3 touches carry these. */
#define USER_TEXT __attribute__((section(".user_text"), noinline, used))
#define USER_DATA __attribute__((section(".user_data")))
#define USER_STACK_BYTES 4096

/* Runs `function(argument)` in ring 3; returns its result (meaningless after a fault; see last_fault). */
uint64_t user_call(void *function, uint64_t argument);
uint64_t user_call_flags(void *function, uint64_t argument, uint64_t rflags);
uint64_t user_call_at(uint64_t rip, uint64_t argument, uint64_t stack, uint64_t rflags, uint64_t cs);
uint64_t user_stack_top(void); /* holds the address of user_return: a function may just return */
extern const char user_return[];

/* USER_CODE(name, "text"): a ring 3 routine whose first instruction is the one that may fault. */
#define USER_CODE(name, text) \
    extern const char name[]; \
    asm(".pushsection .user_text, \"ax\"\n" #name ":\n" text "\nint $0x80\n.popsection")

#endif
