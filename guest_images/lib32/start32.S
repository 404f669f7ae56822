/* From the Multiboot loader to C; one stub per vector; the way into ring 3 and virtual-8086 mode and out again.
 *
 * A trap pushes (SDM 3A figures 6-4 and 21-4), and the stub adds; low addresses to the right:
 *   gs fs ds es  ss esp     eflags cs eip     error code, or 0     vector     eax ecx edx ebx esp ebp esi edi
 *   from V86     from ring 3 and V86
 * which is struct registers of guest32.h.
 */
    .file "start32.S" /* else ld names it after a temporary file */

#define HEADER_MAGIC 0x1badb002
#define HEADER_FLAGS 3 /* modules on page boundaries, memory size wanted */
#define SELECTOR_DATA 0x10
#define FLAG_VM 0x20000

    .section .multiboot, "a"
    .balign 4
    .long HEADER_MAGIC, HEADER_FLAGS, -(HEADER_MAGIC + HEADER_FLAGS)

    .text
    .globl multiboot_entry
multiboot_entry:
    movl $boot_stack_top, %esp
    pushl $0
    popfl
    pushl %ebx
    pushl %eax
    call guest_start
1:  cli
    hlt
    jmp 1b

    .balign 16
    .globl vector_stubs
vector_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    pushl $0
    .endif
    pushl $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    pushal
    movl $SELECTOR_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    cld
    movl %esp, %eax
    pushl %eax
    call trap_dispatch
    addl $4, %esp
    popal
    addl $8, %esp
    iretl

/* void leave_kernel(struct registers *registers): IRET into the code that `registers` describe. The next trap from there
 * comes back as if this function returned; trap_dispatch has stored the registers by then. */
    .globl leave_kernel
leave_kernel:
    pushal
    movl 36(%esp), %eax
    movl %esp, kernel_esp
    leal 76(%eax), %esi /* behind gs: all that IRET can take, from the top down */
    movl $9, %ecx
1:  subl $4, %esi
    pushl (%esi)
    loop 1b
    movl (%eax), %edi
    movl 4(%eax), %esi
    movl 8(%eax), %ebp
    movl 16(%eax), %ebx
    movl 20(%eax), %edx
    movl 24(%eax), %ecx
    pushl 28(%eax)
    testl $FLAG_VM, 48(%eax)
    jnz 2f /* IRET takes the data segments, too */
    movl 64(%eax), %eax
    movl %eax, %es
    movl %eax, %ds
2:  popl %eax
    iretl

    .globl return_to_kernel
return_to_kernel:
    movl kernel_esp, %esp
    popal
    ret

    .bss
    .balign 16
    .globl trap_stack_top
kernel_esp: .skip 16
    .skip 16384
boot_stack_top:
    .skip 16384
trap_stack_top:

    .section .note.GNU-stack, "", @progbits
