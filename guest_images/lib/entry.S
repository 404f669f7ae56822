/* How a test kernel starts.
 *
 *   emulator's loader --- 64-bit, RSI = boot_params ------------------> guest_entry --> guest_start (C)
 *   QEMU (PVH) --- 32-bit, EBX = hvm_start_info --> pvh_entry --long mode--> guest_entry
 *
 * Sources: Linux Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"; Xen docs/misc/pvh.pandoc, "Guest entry
 * point".
 */
#include "selectors.h"

    .file "entry.S" /* else ld names it after a temporary file */

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define CR0_PE_PG 0x80000001
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define PAGE_PRESENT_WRITABLE 0x3
#define PAGE_LARGE 0x80

    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_entry

    .section .text.entry, "ax"
    .code64
    .globl guest_entry
guest_entry:
    leaq boot_stack_top(%rip), %rsp
    xorl %ebp, %ebp
    movq %rsi, %rdi
    call guest_start
1:  hlt
    jmp 1b

    .code32
pvh_entry:
    cld
    movl $boot_stack_top, %esp
    movl %ebx, %ebp
    call pvh_page_tables
    lgdt pvh_gdt_pointer
    movl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $pvh_pml4, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    wrmsr
    movl %cr0, %eax
    orl $CR0_PE_PG, %eax
    movl %eax, %cr0
    ljmp $SEL_KERNEL_CODE, $pvh_entry64

/* The identity map of the first 4 GiB in 2 MiB pages, as the emulator's loader gives it. */
pvh_page_tables:
    movl $(pvh_pdpt + PAGE_PRESENT_WRITABLE), pvh_pml4
    movl $(pvh_page_directories + PAGE_PRESENT_WRITABLE), %eax
    xorl %ecx, %ecx
1:  movl %eax, pvh_pdpt(, %ecx, 8)
    addl $4096, %eax
    incl %ecx
    cmpl $4, %ecx
    jne 1b
    movl $(PAGE_PRESENT_WRITABLE | PAGE_LARGE), %eax
    xorl %ecx, %ecx
2:  movl %eax, pvh_page_directories(, %ecx, 8)
    addl $0x200000, %eax
    incl %ecx
    cmpl $2048, %ecx
    jne 2b
    ret

    .code64
pvh_entry64:
    movl $SEL_KERNEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %ebp, %edi
    call pvh_boot_params
    movq %rax, %rsi
    jmp guest_entry

    .section .rodata
    .balign 8
pvh_gdt:
    .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff
pvh_gdt_pointer:
    .word pvh_gdt_pointer - pvh_gdt - 1
    .quad pvh_gdt

    .bss
    .balign 4096
pvh_pml4: .skip 4096
pvh_pdpt: .skip 4096
pvh_page_directories: .skip 4 * 4096
    .skip 16384
    .globl boot_stack_top
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
