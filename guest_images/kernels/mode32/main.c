/* Claim: a 64-bit kernel can leave long mode for 32-bit protected mode, without paging and with PAE paging, take
 * exceptions and interrupts there through a 32-bit IDT and TSS from rings 0 and 3, and come back; and compatibility
 * mode runs 32-bit code under the 64-bit IDT. SDM 3A 9.8.5, 6.12, 6.14; mode32.S has the tests.
 */
#include "guest.h"

#define PAE_BASE 0x40000000ul
#define GATE32 0x8eul /* present, DPL 0, 32-bit interrupt gate */
#define DPL3_GATE32 0xeeul
#define TSS32_BYTES 104
#define TSS32_AVAILABLE 0x89ul

struct tss32 {
    uint32_t link, esp0, ss0, others[22];
    uint16_t trap, io_bitmap_offset;
};
_Static_assert(sizeof(struct tss32) == TSS32_BYTES, "SDM 3A figure 8-2");

struct record32 {
    uint32_t vector, error_code, eip, cr2, cs, eflags;
};
struct expected32 {
    uint32_t name, vector, error_code, eip, cr2, cs;
};
extern volatile struct record32 records32[];
extern volatile uint32_t records32_count, irq32_count, pae_cr3, tss32_selector;
extern const struct expected32 expected32[], expected32_paging[], expected32_end[];
extern const char stubs32[], trap_stack32_top[];
extern struct __attribute__((packed)) {
    uint16_t limit;
    uint32_t base;
} idt32_pointer;
void run32(uint32_t paging);

static uint64_t idt32[256] __attribute__((aligned(8)));
static struct tss32 tss32;

/* 63..48 offset 31..16 | 47..40 P DPL type | 31..16 selector | 15..0 offset 15..0 */
static void fill_idt32(void) {
    for (unsigned vector = 0; vector < 256; vector++) {
        uint64_t offset = (uint64_t)stubs32 + 16 * vector;
        bool user = vector == VECTOR_BP || vector == VECTOR_OF || vector == VECTOR_USER_RETURN;
        uint64_t type = vector == 0x91 ? 0 : user ? DPL3_GATE32 : GATE32;
        idt32[vector] = (offset & 0xffff) | (uint64_t)SEL_KERNEL_CODE32 << 16 | type << 40 | (offset >> 16) << 48;
    }
    idt32[0x91] |= 0x0eul << 40; /* an interrupt gate, but not present */
    idt32_pointer.limit = sizeof idt32 - 1;
    idt32_pointer.base = (uint32_t)(uint64_t)idt32;
}

static void fill_tss32(void) {
    uint64_t base = (uint64_t)&tss32;
    tss32 = (struct tss32){
        .esp0 = (uint32_t)(uint64_t)trap_stack32_top, .ss0 = SEL_KERNEL_DATA, .io_bitmap_offset = TSS32_BYTES};
    gdt[SEL_SPARE >> 3] = (TSS32_BYTES - 1) | (base & 0xffffff) << 16 | TSS32_AVAILABLE << 40 | (base >> 24) << 56;
    tss32_selector = SEL_SPARE;
}

/* 31 30 | 29..21 | 20..12 | 11..0: four level 3 entries, one register's worth each */
static void fill_pae(void) {
    uint64_t *level3 = page_alloc(), *low = page_alloc(), *high = page_alloc(), *table = page_alloc();
    for (uint64_t i = 0; i < 512; i++)
        low[i] =
            i * LARGE_PAGE_BYTES | PTE_P | PTE_W | PTE_PS | (i ? 0 : PTE_U); /* ring 3's code is in the first 2 MiB */
    level3[0] = (uint64_t)low | PTE_P;
    level3[1] = (uint64_t)high | PTE_P;
    high[0] = (uint64_t)table | PTE_P | PTE_W | PTE_U;
    table[1] = (uint64_t)page_alloc() | PTE_P | PTE_U;
    table[2] = (uint64_t)page_alloc() | PTE_P | PTE_W;
    pae_cr3 = (uint32_t)(uint64_t)level3;
}

static void nothing(void) {}

static void check_record(const char *mode, const struct expected32 *expected, const volatile struct record32 *got) {
    bool same = got->vector == expected->vector && got->error_code == expected->error_code;
    if (expected->vector != NO_FAULT) same = same && got->eip == expected->eip && got->cs == expected->cs;
    if (expected->vector == VECTOR_PF) same = same && got->cr2 == expected->cr2;
    char name[96];
    unsigned length = 0;
    for (const char *next = mode; *next; next++) name[length++] = *next;
    for (const char *next = (const char *)(uint64_t)expected->name; *next && length < sizeof name - 1; next++)
        name[length++] = *next;
    name[length] = 0;
    check_true(name, same);
    if (!same)
        print("  got %s(0x%x) at 0x%x, CS 0x%x, CR2 0x%x expected %s(0x%x) at 0x%x, CS 0x%x\n",
              vector_name(got->vector), got->error_code, got->eip, got->cs, got->cr2, vector_name(expected->vector),
              expected->error_code, expected->eip, expected->cs);
}

static void check_mode(const char *mode, bool paging) {
    const struct expected32 *end = paging ? expected32_end : expected32_paging;
    fill_tss32();
    records32_count = irq32_count = 0;
    irq_set_handler(IRQ_PIT, nothing); /* unmasks */
    pit_one_shot(PIT_HZ / 100);
    run32(paging);
    idt_load();
    tss_load(sizeof tss - 1);
    irq_set_handler(IRQ_PIT, NULL);
    for (const struct expected32 *expected = expected32; expected < end; expected++)
        check_record(mode, expected, &records32[expected - expected32]);
    check_equal(paging ? "PAE: all tests ran" : "no paging: all tests ran", records32_count, end - expected32);
    check_equal(paging ? "PAE: one interrupt woke HLT" : "no paging: one interrupt woke HLT", irq32_count, 1);
    check_equal("long mode again", read_msr(MSR_EFER) & EFER_LMA, EFER_LMA);
    TRY("ud2", :);
    check_fault("and its IDT", VECTOR_UD, 0);
}

/* Compatibility mode. In 32-bit code 0x40 is INC EAX; in 64-bit code it would be a prefix. */
#define CODE32(name, text) USER_CODE(name, ".code32\n" text "\nint $0x80\n.code64")
#define LOAD_DS "pushl $0x2b; popl %ds; "
CODE32(user32_arithmetic, "movl $0xfffffff0, %eax; addl $0x20, %eax; .byte 0x40; .byte 0x40");
CODE32(user32_ud2, "ud2");
CODE32(user32_cli, "cli");
CODE32(user32_into, "movl $0x7fffffff, %eax; incl %eax; into");
CODE32(user32_load, LOAD_DS "movl 0x12345678, %eax");
CODE32(user32_wrap, LOAD_DS "movl $0xfffffff0, %ecx; movl 0x10(%ecx,%edi), %eax");
CODE32(user32_to_64, "ljmp $0x33, $user64_part");
CODE32(user32_stack, "pushl $0x1234; popl %eax; movl %esp, %ecx; pushal; popal");
USER_CODE(user64_part, "movabsq $0x123456789abcdef0, %rax");
static uint64_t user_word USER_DATA = 0xfeedf00d;

static uint64_t call32(const char *code, uint64_t argument) {
    return user_call_at((uint64_t)code, argument, user_stack_top(), RFLAGS_FIXED, SEL_USER_CODE32);
}

static void check_compatibility_user(void) {
    check_equal("compatibility: 32-bit arithmetic, 0x40 is INC", (uint32_t)call32(user32_arithmetic, 0), 0x12);
    check_no_fault("compatibility: ring 3 and back");
    call32(user32_ud2, 0);
    check_fault("compatibility #UD: UD2", VECTOR_UD, 0);
    check_equal("compatibility #UD: CS in the frame", last_fault.cs, SEL_USER_CODE32);
    call32(user32_cli, 0);
    check_fault("compatibility #GP: CLI", VECTOR_GP, 0);
    call32(user32_into, 0);
    check_fault_at("compatibility #OF: INTO", VECTOR_OF, 0, (uint64_t)user32_into + 7);
    call32(user32_load, 0);
    check_true("compatibility #PF: CR2 and error code", last_fault.vector == VECTOR_PF &&
                                                            last_fault.error_code == (PF_USER | PF_PRESENT) &&
                                                            last_fault.cr2 == 0x12345678);
    check_equal("compatibility: addresses wrap at 4 GiB", (uint32_t)call32(user32_wrap, (uint64_t)&user_word),
                0xfeedf00d);
    check_equal("compatibility: PUSH, POP", (uint32_t)call32(user32_stack, 0), 0x1234);
    check_equal("compatibility: far jump to 64-bit code", call32(user32_to_64, 0), 0x123456789abcdef0);
}

extern const char kernel32[], kernel32_fault[];
asm(".text\n.code32\n"
    "kernel32: movl $0xffffffff, %eax; .byte 0x40; lretl\n"
    "kernel32_fault: ud2\n"
    ".code64");

static void check_compatibility_kernel(void) {
    struct __attribute__((packed)) {
        uint32_t offset;
        uint16_t selector;
    } pointer = {(uint32_t)(uint64_t)kernel32, SEL_KERNEL_CODE32};
    uint64_t rax = 5;
    TRY("lcall *%1", : "+a"(rax) : "m"(pointer) : "memory", "cc");
    check_no_fault("compatibility, ring 0: far call and return");
    check_equal("compatibility, ring 0: 0x40 is INC", (uint32_t)rax, 0);
    pointer.offset = (uint32_t)(uint64_t)kernel32_fault;
    TRY("lcall *%0", : : "m"(pointer) : "memory");
    check_true("compatibility, ring 0: #UD through the 64-bit IDT", last_fault.vector == VECTOR_UD &&
                                                                        last_fault.cs == SEL_KERNEL_CODE32 &&
                                                                        last_fault.rip == (uint64_t)kernel32_fault);
}

static void check_sysret32(void) {
    write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SCE);
    write_msr(MSR_STAR, 0x20ul << 48 | (uint64_t)SEL_KERNEL_CODE << 32);
    uint64_t stack = user_stack_top();
    TRY("movq %0, %%rsp; sysretl", : : "r"(stack), "c"(user32_ud2), "a"(0) : "r11", "memory");
    check_true("SYSRET to compatibility mode",
               last_fault.vector == VECTOR_UD && last_fault.rip == (uint64_t)user32_ud2);
    check_equal("SYSRET to compatibility mode: CS", last_fault.cs, SEL_USER_CODE32);
    check_equal("SYSRET to compatibility mode: SS", last_fault.ss, SEL_USER_DATA);
}

void guest_main(void) {
    fill_idt32();
    fill_pae();
    check_mode("no paging, ", false);
    check_mode("PAE, ", true);
    check_compatibility_user();
    check_compatibility_kernel();
    check_sysret32();
}
