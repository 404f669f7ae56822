/* Claim: loading a segment register checks what SDM 3A 3.4.2, 5.6 and 5.7 say, with the right vector and selector as
 * error code; in 64-bit mode only FS and GS have bases; LAR, LSL, VERR, VERW, LLDT, LTR, STR, SLDT answer for the same
 * descriptors.
 */
#include "guest.h"

#define SPARE(n) (SEL_SPARE + 8 * (n))
#define BEYOND 0x7ff8
#define MSR_FS MSR_FS_BASE

static uint64_t ldt[2] = {0, DESCRIPTOR_DATA(0)};

/* 31..24 base 31..24 | 15..0 base 23..8... : base bits of a descriptor */
static uint64_t with_base(uint64_t descriptor, uint32_t base) {
    return descriptor | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(base >> 24) << 56;
}

static void fill_spare(void) {
    gdt[SPARE(0) >> 3] = with_base(DESCRIPTOR_DATA(3), 0x12345678);
    gdt[SPARE(1) >> 3] = DESCRIPTOR_CODE64(0) & ~(1ul << 41);                                /* execute-only */
    gdt[SPARE(2) >> 3] = DESCRIPTOR_DATA(0) & ~(1ul << 41);                                  /* read-only */
    gdt[SPARE(3) >> 3] = DESCRIPTOR_DATA(0) & ~(1ul << 40);                                  /* not accessed yet */
    gdt[SPARE(4) >> 3] = (sizeof ldt - 1) | ((uint64_t)ldt & 0xffffff) << 16 | 0x82ul << 40; /* an LDT, 16 bytes */
    gdt[SPARE(5) >> 3] = 0;
    gdt[SPARE(6) >> 3] = DESCRIPTOR_CODE64(0) & ~DESCRIPTOR_PRESENT;
}

static void check_data_loads(void) {
    static const struct {
        const char *name;
        uint16_t selector;
        uint64_t vector, error_code;
    } rows[] = {
        {"ES: null", 0, NO_FAULT, 0},
        {"ES: null with an RPL", 3, NO_FAULT, 0},
        {"ES: data", SEL_KERNEL_DATA, NO_FAULT, 0},
        {"ES: data of ring 3", SEL_USER_DATA, NO_FAULT, 0},
        {"ES: readable code", SEL_KERNEL_CODE, NO_FAULT, 0},
        {"ES: read-only data", SPARE(2), NO_FAULT, 0},
        {"ES: execute-only code", SPARE(1), VECTOR_GP, SPARE(1)},
        {"ES: a TSS", SEL_TSS, VECTOR_GP, SEL_TSS},
        {"ES: RPL above DPL", SEL_KERNEL_DATA | 3, VECTOR_GP, SEL_KERNEL_DATA},
        {"ES: beyond the GDT", BEYOND, VECTOR_GP, BEYOND},
        {"ES: not present", SEL_NOT_PRESENT, VECTOR_NP, SEL_NOT_PRESENT},
        {"ES: LDT selector without an LDT", 0x0c, VECTOR_GP, 0x0c},
    };
    asm volatile("lldt %w0" : : "r"(0));
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        TRY("movw %0, %%es", : : "r"(rows[i].selector) :);
        check_fault(rows[i].name, rows[i].vector, rows[i].error_code);
    }
    static const struct {
        const char *name;
        uint16_t selector;
        uint64_t vector, error_code;
    } stack_rows[] = {
        {"SS: null", 0, NO_FAULT, 0},
        {"SS: data", SEL_KERNEL_DATA, NO_FAULT, 0},
        {"SS: data of ring 3", SEL_USER_DATA, VECTOR_GP, SEL_USER_DATA & ~3},
        {"SS: read-only data", SPARE(2), VECTOR_GP, SPARE(2)},
        {"SS: code", SEL_KERNEL_CODE, VECTOR_GP, SEL_KERNEL_CODE},
        {"SS: not present", SEL_NOT_PRESENT, VECTOR_SS, SEL_NOT_PRESENT},
    };
    for (unsigned i = 0; i < sizeof stack_rows / sizeof *stack_rows; i++) {
        TRY("movw %0, %%ss", : : "r"(stack_rows[i].selector) :);
        check_fault(stack_rows[i].name, stack_rows[i].vector, stack_rows[i].error_code);
    }
    asm volatile("movl %0, %%ss; movl %0, %%es" : : "r"(SEL_KERNEL_DATA));
}

static void check_code_loads(void) {
    static const struct {
        const char *name;
        uint64_t selector, vector, error_code;
    } rows[] = {
        {"CS by far return: null", 0, VECTOR_GP, 0},
        {"CS by far return: data", SEL_KERNEL_DATA, VECTOR_GP, SEL_KERNEL_DATA},
        {"CS by far return: beyond the GDT", BEYOND, VECTOR_GP, BEYOND},
        {"CS by far return: not present", SPARE(6), VECTOR_NP, SPARE(6)},
        {"CS by far return: a TSS", SEL_TSS, VECTOR_GP, SEL_TSS},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        TRY("pushq %0; pushq $0; lretq", : : "r"(rows[i].selector) : "memory");
        check_true(rows[i].name, last_fault.vector == rows[i].vector && last_fault.error_code == rows[i].error_code);
    }
    uint64_t cs = 0;
    asm volatile("pushq %1; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1: mov %%cs, %0"
                 : "=r"(cs)
                 : "i"(SEL_KERNEL_CODE)
                 : "rax", "memory");
    check_equal("CS by far return: code", cs, SEL_KERNEL_CODE);
}

static void check_bases(void) {
    static const uint32_t word = 0x600d;
    asm volatile("movl %0, %%fs" : : "r"(SPARE(0)));
    check_equal("FS: its base comes from the descriptor", read_msr(MSR_FS_BASE), 0x12345678);
    asm volatile("movl %0, %%gs" : : "r"(SPARE(0)));
    check_equal("GS: its base comes from the descriptor", read_msr(MSR_GS_BASE), 0x12345678);
    uint32_t value;
    asm volatile("movl %1, %%ds; movl %2, %0; movl %3, %%ds"
                 : "=&r"(value)
                 : "r"(SPARE(0)), "m"(word), "r"(SEL_KERNEL_DATA));
    check_equal("DS: its base does not matter in 64-bit mode", value, 0x600d);
    asm volatile("movl %0, %%fs; movl %0, %%gs" : : "r"(SEL_KERNEL_DATA));
    check_equal("FS: a flat descriptor", read_msr(MSR_FS_BASE), 0);
    write_msr(MSR_FS_BASE, 0xffff800000001000);
    uint64_t fs;
    asm volatile("mov %%fs, %0" : "=r"(fs));
    check_equal("FS_BASE written: the selector stays", fs, SEL_KERNEL_DATA);
    asm volatile("pushq %%fs; popq %%fs" : : : "memory");
    check_equal("PUSH FS, POP FS: the base is the descriptor's again", read_msr(MSR_FS_BASE), 0);
    asm volatile("movl %0, %%es" : : "r"(SPARE(3)));
    check_equal("a load sets the accessed bit", gdt[SPARE(3) >> 3] >> 40 & 1, 1);
    asm volatile("movl %0, %%es" : : "r"(SEL_KERNEL_DATA));
}

struct looked_up {
    uint64_t value, zf;
};
#define LOOK_UP(text, selector)                                                                                   \
    ({                                                                                                            \
        struct looked_up result = {0, 0};                                                                         \
        asm volatile(text "; setz %b1" : "+r"(result.value), "+q"(result.zf) : "r"((uint32_t)(selector)) : "cc"); \
        result;                                                                                                   \
    })

static void check_queries(void) {
    struct looked_up result = LOOK_UP("lar %2, %k0", SEL_KERNEL_CODE);
    check_equal("LAR: access rights", result.value & 0xf0ff00, gdt[SEL_KERNEL_CODE >> 3] >> 32 & 0xf0ff00);
    check_equal("LAR: of nothing clears ZF", LOOK_UP("lar %2, %k0", BEYOND).zf, 0);
    check_equal("LAR: of null clears ZF", LOOK_UP("lar %2, %k0", 0).zf, 0);
    check_equal("LSL: page-granular limit", LOOK_UP("lsl %2, %k0", SEL_KERNEL_DATA).value, 0xffffffff);
    check_equal("LSL: the TSS's limit", LOOK_UP("lsl %2, %k0", SEL_TSS).value, sizeof tss - 1);
    check_equal("VERR: data", LOOK_UP("verr %w2", SEL_KERNEL_DATA).zf, 1);
    check_equal("VERR: execute-only code", LOOK_UP("verr %w2", SPARE(1)).zf, 0);
    check_equal("VERW: data", LOOK_UP("verw %w2", SEL_KERNEL_DATA).zf, 1);
    check_equal("VERW: read-only data", LOOK_UP("verw %w2", SPARE(2)).zf, 0);
    check_equal("VERW: code", LOOK_UP("verw %w2", SEL_KERNEL_CODE).zf, 0);
}

static void check_system(void) {
    uint32_t selector = 0;
    asm volatile("str %0" : "=r"(selector));
    check_equal("STR", selector, SEL_TSS);
    check_equal("LTR made the TSS busy", gdt[SEL_TSS >> 3] >> 40 & 0xf, 11);
    TRY("ltr %w0", : : "r"(SEL_TSS) :);
    check_fault("LTR of a busy TSS", VECTOR_GP, SEL_TSS);
    TRY("ltr %w0", : : "r"(SEL_KERNEL_DATA) :);
    check_fault("LTR of data", VECTOR_GP, SEL_KERNEL_DATA);
    TRY("lldt %w0", : : "r"(SPARE(4)) : "memory");
    check_no_fault("LLDT of an LDT");
    asm volatile("sldt %0" : "=r"(selector));
    check_equal("SLDT", selector, SPARE(4));
    TRY("movw %w0, %%es", : : "r"(0x0c) :);
    check_no_fault("a segment of the LDT");
    TRY("movw %w0, %%es", : : "r"(0x14) :);
    check_fault("a selector beyond the LDT", VECTOR_GP, 0x14);
    TRY("lldt %w0", : : "r"(0) :);
    check_no_fault("LLDT of null");
    asm volatile("movl %0, %%es" : : "r"(SEL_KERNEL_DATA));
}

static void check_tables(void) {
    struct table_pointer pointer = {0, 0};
    asm volatile("sgdt %0" : "=m"(pointer));
    check_true("SGDT", pointer.base == (uint64_t)gdt && pointer.limit == sizeof gdt - 1);
    asm volatile("sidt %0" : "=m"(pointer));
    check_true("SIDT", pointer.base == (uint64_t)idt_entry(0) && pointer.limit == 4095);
    load_gdt(gdt, SEL_SPARE - 1);
    TRY("movw %w0, %%es", : : "r"(SPARE(0)) :);
    check_fault("a GDT made shorter", VECTOR_GP, SPARE(0));
    load_gdt(gdt, sizeof gdt - 1);
}

USER_CODE(user_load_ds, "movw %di, %ds");

static void check_user(void) {
    static const struct {
        const char *name;
        uint64_t selector, vector, error_code;
    } rows[] = {
        {"ring 3, DS: null", 0, NO_FAULT, 0},
        {"ring 3, DS: its own data", SEL_USER_DATA, NO_FAULT, 0},
        {"ring 3, DS: its own code", SEL_USER_CODE, NO_FAULT, 0},
        {"ring 3, DS: ring 0's data", SEL_KERNEL_DATA, VECTOR_GP, SEL_KERNEL_DATA},
        {"ring 3, DS: ring 0's code", SEL_KERNEL_CODE | 3, VECTOR_GP, SEL_KERNEL_CODE},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        user_call((void *)user_load_ds, rows[i].selector);
        check_fault(rows[i].name, rows[i].vector, rows[i].error_code);
    }
}

void guest_main(void) {
    fill_spare();
    check_data_loads();
    check_code_loads();
    check_bases();
    check_queries();
    check_system();
    check_tables();
    check_user();
}
