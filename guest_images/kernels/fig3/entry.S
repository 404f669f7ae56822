/* Ways into the kernel and from process to process; see process.h. Interrupts are off throughout. */
#define TSS_RSP0 4 /* SDM 3A figure 8-11 */

    .file "entry.S"

    .text
/* void process_switch(uint64_t *old_rsp, uint64_t new_rsp): goes on where the other one called it. */
    .globl process_switch
process_switch:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

/* Where the first switch to a process returns to; on its stack: argument, then what IRETQ takes. */
    .globl process_start
process_start:
    popq %rdi
    iretq

/* SYSCALL: RCX is the next RIP, R11 RFLAGS; the stack is still ring 3's. RDI number, RSI and RDX arguments. */
    .globl process_syscall_entry
process_syscall_entry:
    movq %rsp, user_rsp
    movq tss + TSS_RSP0, %rsp
    pushq user_rsp
    pushq %r11
    pushq %rcx
    call process_syscall
    popq %rcx
    popq %r11
    popq %rsp
    sysretq

    .bss
    .balign 8
user_rsp:
    .skip 8

    .section .note.GNU-stack, "", @progbits
