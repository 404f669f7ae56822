/* The 32-bit side: into 32-bit protected mode and back, a 32-bit IDT and TSS, and the tests with what each expects.
 *
 *   run32: 64-bit --far return--> compatibility mode --CR0.PG=0, EFER.LME=0--> 32-bit protected mode, paging off
 *          [--CR3, CR0.PG=1--> PAE paging] --> tests --> all of it backwards        (SDM 3A 9.8.5)
 *
 * CHECK32 and USER32 put a row {name, vector, error code, RIP, CR2, CS wanted} into .rodata and, when run, a record
 * of what happened into `records32`, in the same order; main.c compares.
 */
#include "selectors.h"

    .file "mode32.S" /* else ld names it after a temporary file */

#define CR0_PG 0x80000000
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define NO_CR2 0
#define VECTOR_RETURN 0x80
#define VECTOR_IRQ 0x20
#define PIC_EOI 0x20

    .bss
    .balign 16
    .skip 4096
stack32_top:
    .globl trap_stack32_top
    .skip 4096
trap_stack32_top:
saved_rsp: .quad 0
resume_eip: .long 0
resume_esp: .long 0
last32: .skip 24 /* vector, error code, EIP, CR2, CS, EFLAGS */
    .globl records32, records32_count, irq32_count, pae_cr3, idt32_pointer, tss32_selector
records32: .skip 24 * 128
records32_count: .long 0
irq32_count: .long 0
pae_cr3: .long 0
tss32_selector: .long 0
    .balign 8
idt32_pointer: .skip 8

    .section .user_data, "aw"
    .balign 16
    .skip 1024
user_stack32_top:

    .section .rodata.expected32, "a"
    .globl expected32, expected32_end, expected32_paging
    .balign 4
expected32:

/* ---- traps ---- */
    .text
    .code32
    .balign 16
    .globl stubs32
stubs32:
    .set vector, 0
    .rept 256
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    pushl $0
    .endif
    pushl $vector
    jmp trap32
    .set vector, vector + 1
    .endr

/* esp: vector, error code, eip, cs, eflags. Does not return: goes on at resume_eip in ring 0. */
trap32:
    cmpl $VECTOR_IRQ, (%esp)
    je irq32
    pushl %eax
    movl $SEL_KERNEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl 4(%esp), %eax
    cmpl $VECTOR_RETURN, %eax
    jne 1f
    movl $NO_FAULT, %eax
1:  movl %eax, last32
    movl 8(%esp), %eax
    movl %eax, last32 + 4
    movl 12(%esp), %eax
    movl %eax, last32 + 8
    movl %cr2, %eax
    movl %eax, last32 + 12
    movl 16(%esp), %eax
    movl %eax, last32 + 16
    movl 20(%esp), %eax
    movl %eax, last32 + 20
    movl resume_esp, %esp
    jmp *resume_eip

irq32:
    pushl %eax
    incl %ss:irq32_count
    movb $PIC_EOI, %al
    outb %al, $0x20
    popl %eax
    addl $8, %esp
    iretl

append32:
    movl $SEL_KERNEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $last32, %esi
    imull $24, records32_count, %edi
    addl $records32, %edi
    movl $6, %ecx
    cld
    rep movsl
    incl records32_count
    ret

.macro EXPECT32 name, vector, error, delta, cr2, cs
    .pushsection .rodata.expected32
    .long 901f, \vector, \error, 1f + \delta, \cr2, \cs
    .popsection
    .pushsection .rodata
901: .asciz "\name"
    .popsection
.endm

.macro ARM32
    movl $NO_FAULT, last32
    movl $0, last32 + 4
    movl $2f, resume_eip
    movl %esp, resume_esp
.endm

.macro CHECK32 name, vector, error, delta, text, cr2=NO_CR2
    EXPECT32 "\name", \vector, \error, \delta, \cr2, SEL_KERNEL_CODE32
    ARM32
1:  \text
2:  call append32
.endm

.macro USER32 name, vector, error, delta, text, cr2=NO_CR2
    EXPECT32 "\name", \vector, \error, \delta, \cr2, SEL_USER_CODE32
    ARM32
    movl $SEL_USER_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    pushl $SEL_USER_DATA
    pushl $user_stack32_top
    pushl $2
    pushl $SEL_USER_CODE32
    pushl $1f
    iretl
    .pushsection .user_text
1:  \text
    int $VECTOR_RETURN
    .popsection
2:  call append32
.endm

/* ---- the tests; vectors and error codes: SDM 3A 6.15 ---- */
    .section .rodata
    .balign 8
bounds: .long 10, 20
    /* assembler symbols, since the preprocessor leaves strings alone */
    .set kernel_data, SEL_KERNEL_DATA
    .set kernel_code32, SEL_KERNEL_CODE32
    .set absent_gate_code, 0x91 * 8 + 2
    .set kernel_gate_code, 0x20 * 8 + 2
    .text

tests32:
    xorl %ebx, %ebx
    CHECK32 "#DE: DIV by zero", 0, 0, 0, "divl %ebx"
    CHECK32 "#DE: AAM 0", 0, 0, 0, ".byte 0xd4, 0"
    CHECK32 "#UD: UD2", 6, 0, 0, "ud2"
    CHECK32 "#BP: INT3", 3, 0, 1, "int3"
    movl $0x7fffffff, %eax
    incl %eax
    CHECK32 "#OF: INTO with OF", 4, 0, 1, "into"
    testl %eax, %eax
    CHECK32 "INTO without OF", NO_FAULT, 0, 0, "into"
    movl $21, %edx
    CHECK32 "#BR: BOUND, above", 5, 0, 0, "boundl %edx, bounds"
    movl $20, %edx
    CHECK32 "BOUND, inside", NO_FAULT, 0, 0, "boundl %edx, bounds"
    CHECK32 "PUSH ES, POP ES", NO_FAULT, 0, 0, "pushl %es; popl %es"
    CHECK32 "DAA, AAA", NO_FAULT, 0, 0, "daa; aaa"
    movl $SEL_NOT_PRESENT, %edx
    CHECK32 "#NP: MOV ES, not present", 11, SEL_NOT_PRESENT, 0, "movl %edx, %es"
    CHECK32 "#SS: MOV SS, not present", 12, SEL_NOT_PRESENT, 0, "movl %edx, %ss"
    movl $0x7ff8, %edx
    CHECK32 "#GP: selector beyond the GDT", 13, 0x7ff8, 0, "movl %edx, %es"
    xorl %edx, %edx
    CHECK32 "#GP: null into SS", 13, 0, 0, "movl %edx, %ss"
    CHECK32 "null into ES", NO_FAULT, 0, 0, "movl %edx, %es"
    CHECK32 "#NP: gate not present", 11, absent_gate_code, 0, "int $0x91"
    CHECK32 "#GP: far jump to data", 13, SEL_KERNEL_DATA, 0, "ljmp $kernel_data, $0"
    CHECK32 "far jump to code", NO_FAULT, 0, 0, "ljmp $kernel_code32, $2f"
    USER32 "ring 3: and back", NO_FAULT, 0, 1, "nop"
    USER32 "ring 3 #DE: AAM 0", 0, 0, 0, ".byte 0xd4, 0"
    USER32 "ring 3 #UD: UD2", 6, 0, 0, "ud2"
    USER32 "ring 3 #BP: INT3", 3, 0, 1, "int3"
    USER32 "ring 3 #GP: CLI", 13, 0, 0, "cli"
    USER32 "ring 3 #GP: HLT", 13, 0, 0, "hlt"
    USER32 "ring 3 #GP: IN", 13, 0, 0, "inb $0x80, %al"
    USER32 "ring 3 #GP: MOV from CR0", 13, 0, 0, "movl %cr0, %eax"
    USER32 "ring 3 #GP: INT n, DPL 0 gate", 13, kernel_gate_code, 0, "int $0x20"
    USER32 "ring 3 #GP: far jump to ring 0", 13, SEL_KERNEL_CODE32, 0, "ljmp $kernel_code32, $0"
    USER32 "ring 3: stack", NO_FAULT, 0, 6, "pushl $5; popl %eax; pushal; popal"
    sti
    hlt
    cli
    ret

/* Addresses are main.c's PAE_* pages. */
    .section .rodata.expected32
expected32_paging:
    .text
tests32_paging:
    CHECK32 "#PF: read, not present", 14, 0, 0, "movl 0x40000004, %eax", 0x40000004
    CHECK32 "#PF: write, not present", 14, 2, 0, "movl %eax, 0x40000ffc", 0x40000ffc
    CHECK32 "read, read-only", NO_FAULT, 0, 0, "movl 0x40001000, %eax"
    CHECK32 "#PF: write, read-only", 14, 3, 0, "movl %eax, 0x40001010", 0x40001010
    CHECK32 "write, supervisor", NO_FAULT, 0, 0, "movl %eax, 0x40002000"
    CHECK32 "#PF: read, level 3 entry absent", 14, 0, 0, "movl 0x80000000, %eax", 0x80000000
    USER32 "ring 3 #PF: read, not present", 14, 4, 0, "movl 0x40000004, %eax", 0x40000004
    USER32 "ring 3 read, user", NO_FAULT, 0, 5, "movl 0x40001000, %eax"
    USER32 "ring 3 #PF: write, read-only", 14, 7, 0, "movl %eax, 0x40001010", 0x40001010
    USER32 "ring 3 #PF: read, supervisor", 14, 5, 0, "movl 0x40002000, %eax", 0x40002000
    USER32 "ring 3 #PF: write, supervisor", 14, 7, 0, "movl %eax, 0x40002000", 0x40002000
    ret
    .section .rodata.expected32
expected32_end:

/* ---- the way there and back ---- */
    .text
    .code64
    .globl run32
run32: /* void run32(bool paging) */
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, saved_rsp
    movq %cr3, %rbp
    movl %edi, %ebx
    pushq $SEL_KERNEL_CODE32
    pushq $1f
    lretq
    .code32
1:  movl $SEL_KERNEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $stack32_top, %esp
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    movl $MSR_EFER, %ecx
    rdmsr
    andl $~EFER_LME, %eax
    wrmsr
    testl %ebx, %ebx
    jz 2f
    movl pae_cr3, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
2:  lidt idt32_pointer
    movl tss32_selector, %eax
    ltr %ax
    pushl %ebx
    pushl %ebp
    call tests32
    cmpl $0, 4(%esp)
    je 3f
    call tests32_paging
3:  popl %ebp
    popl %ebx
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    movl %ebp, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    wrmsr
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
    ljmp $SEL_KERNEL_CODE, $4f
    .code64
4:  movq saved_rsp, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .section .note.GNU-stack, "", @progbits
