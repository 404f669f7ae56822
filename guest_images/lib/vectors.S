/* One stub per vector, so the handler knows which one it was; all build the same struct trap_frame.
 *
 *   high  ss rsp rflags cs rip | error code, or 0 | vector | rax rbx ... r15  low = rsp
 */
#include "selectors.h"

    .file "vectors.S" /* else ld names it after a temporary file */

    .text
    .balign 16
    .globl vector_stubs
vector_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    /* SDM 3A table 6-1: these push an error code themselves. */
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    call trap_dispatch
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp
    iretq

/* uint64_t user_call_at(uint64_t rip, uint64_t arg, uint64_t stack, uint64_t rflags, uint64_t cs)
 * Runs ring 3 code until it executes INT 0x80 or faults; see user_call() in trap.h. */
    .globl user_call_at
user_call_at:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq $1f, trap_expected
    movq %rsp, trap_expected + 8
    pushfq
    popq trap_expected + 16
    movq $NO_FAULT, last_fault
    movq %rdi, last_fault + 8
    pushq $SEL_USER_DATA
    pushq %rdx
    pushq %rcx
    pushq %r8
    pushq %rdi
    movq %rsi, %rdi
    iretq
1:  popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .section .user_text, "ax"
    .globl user_return
user_return:
    int $VECTOR_USER_RETURN

    .section .note.GNU-stack, "", @progbits
