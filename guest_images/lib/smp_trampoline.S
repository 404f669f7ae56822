/* Where a CPU begins: real mode at SMP_TRAMPOLINE, CS:IP = 0x7000:0. smp.c copies this there and fills in the values.
 *
 * From real mode straight to long mode: PAE, CR3, EFER.LME, then PE and PG at once (SDM 3A 9.8.5). The library's GDT, stacks
 * and C code are above 64 KiB, so addresses come with the values.
 */
#include "selectors.h"

    .file "smp_trampoline.S"

#define MSR_EFER 0xc0000080
#define ARRIVAL_BYTES 24

    .section .rodata
    .balign 16
    .globl smp_trampoline, smp_trampoline_values, smp_trampoline_end
    .code16
smp_trampoline:
    cli
    pushfw /* to 0:0xfffe, nobody's memory; SP is 0 */
    popw %bx
    movl %edx, %ebp
    call 1f
1:  popw %di
    subw $(1b - smp_trampoline), %di /* IP on arrival */
    movw %cs, %ax
    movw %ax, %ds
    movl %cr0, %esi
    movl %cr4, %ecx
    movl $(arrival - smp_trampoline), %eax
    movl %esi, (%eax)
    movl %ecx, 4(%eax)
    movw %cs, 8(%eax)
    movw %di, 12(%eax)
    movw %bx, 16(%eax)
    movl %ebp, 20(%eax)
    lgdtl gdt_pointer - smp_trampoline
    movl cr4_value - smp_trampoline, %eax
    movl %eax, %cr4
    movl cr3_value - smp_trampoline, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    movl efer_value - smp_trampoline, %eax
    xorl %edx, %edx
    wrmsr
    movl cr0_value - smp_trampoline, %eax
    movl %eax, %cr0
    ljmpl *(entry_pointer - smp_trampoline)

    .balign 8
smp_trampoline_values: /* struct trampoline_values of smp.c */
cr0_value:     .long 0
cr3_value:     .long 0
cr4_value:     .long 0
efer_value:    .long 0
gdt_pointer:   .word 0
               .long 0
               .word 0
entry_pointer: .long smp_entry
               .word SEL_KERNEL_CODE
               .word 0
arrival:       .fill ARRIVAL_BYTES, 1, 0
smp_trampoline_end:

    .text
    .code64
smp_entry:
    movl $SEL_KERNEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $1, %eax
    cpuid
    shrl $24, %ebx
    movl %ebx, %edi
    leal 1(%rbx), %eax
    shll $13, %eax /* stacks of 8 KiB */
    leaq smp_stacks(%rax), %rsp
    xorl %ebp, %ebp
    call smp_main
1:  cli
    hlt
    jmp 1b

    .section .note.GNU-stack, "", @progbits
