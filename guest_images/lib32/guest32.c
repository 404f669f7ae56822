/* Console, checks, tables and traps of the 32-bit test kernels. */
#include "guest32.h"

#define COM1 0x3f8
#define LINE_STATUS 5
#define THR_EMPTY 0x20
#define DEBUG_EXIT 0xf4
#define PIC_MASTER 0x20
#define PIC_EOI 0x20
#define GATE 0x8e /* present, DPL 0, 32-bit interrupt gate */
#define GATE_USER 0xee

enum { SUCCESS, FAILURE, ERROR };

struct __attribute__((packed)) tss32 {
    uint32_t link, esp0, ss0, others[22];
    uint16_t trap, io_bitmap_offset;
    uint8_t io_bitmap[0x100 / 8 + 1]; /* the last byte is the all ones that SDM 1 19.5.2 asks for */
};

extern const char vector_stubs[], trap_stack_top[];
void leave_kernel(struct registers *registers);
_Noreturn void return_to_kernel(void);
void trap_dispatch(struct registers *registers);
_Noreturn void guest_start(uint32_t magic, struct multiboot_information *found);

volatile struct registers last_trap;
volatile uint32_t last_cr2, last_start, resume_eip, interrupt_count;
struct multiboot_information *information;
uint32_t loader_magic;
uint64_t gdt[16] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff,
                    0, 0x00009b000000ffff, 0x000093000000ffff};
uint64_t idt[256] __attribute__((aligned(8)));
static struct tss32 tss = {.ss0 = SELECTOR_DATA, .io_bitmap_offset = offsetof(struct tss32, io_bitmap)};
static struct registers *running; /* in ring 3 or virtual-8086 mode */
static uint32_t check_count, failure_count;
static uint8_t user_stack[4096] __attribute__((aligned(16)));

/* ---- what GCC expects to exist ---- */

void *memset(void *destination, int value, size_t length);
void *memset(void *destination, int value, size_t length) {
    void *next = destination;
    asm volatile("rep stosb" : "+D"(next), "+c"(length) : "a"(value) : "memory");
    return destination;
}

void *memcpy(void *destination, const void *source, size_t length);
void *memcpy(void *destination, const void *source, size_t length) {
    void *next = destination;
    asm volatile("rep movsb" : "+D"(next), "+S"(source), "+c"(length) : : "memory");
    return destination;
}

/* ---- console and checks ---- */

static void put(char character) {
    if (character == '\n') put('\r');
    while (!(in8(COM1 + LINE_STATUS) & THR_EMPTY))
        ;
    out8(COM1, (uint8_t)character);
}

static void put_text(const char *text) {
    while (*text) put(*text++);
}

static void put_number(uint32_t value, uint32_t base) {
    char digits[12], *next = digits + sizeof digits;
    *--next = 0;
    do *--next = "0123456789abcdef"[value % base];
    while (value /= base);
    if (base == 16) put_text("0x");
    put_text(next);
}

static _Noreturn void debug_exit(uint8_t status) {
    out8(DEBUG_EXIT, status);
    for (;;) asm volatile("cli; hlt");
}

void error(const char *why, uint32_t value) {
    put_text("ERROR ");
    put_text(why);
    put(' ');
    put_number(value, 16);
    put('\n');
    debug_exit(ERROR);
}

static void begin_line(const char *name, bool passed) {
    check_count++;
    failure_count += !passed;
    put_text(passed ? "PASS " : "FAIL ");
    put_text(name);
}

void check_equal(const char *name, uint32_t got, uint32_t expected) {
    begin_line(name, got == expected);
    if (got != expected) {
        put_text(": got ");
        put_number(got, 16);
        put_text(" expected ");
        put_number(expected, 16);
    }
    put('\n');
}

void check_true(const char *name, bool condition) {
    begin_line(name, condition);
    put_text(condition ? "\n" : ": does not hold\n");
}

static void put_trap(const char *word, uint32_t vector, uint32_t error_code, uint32_t eip, uint32_t cr2) {
    const uint32_t numbers[] = {vector, error_code, eip, cr2};
    put_text(word);
    for (int i = 0; i < 4; i++) {
        put_text((const char *[]){" vector ", " error code ", " eip ", " cr2 "}[i]);
        put_number(numbers[i], i ? 16 : 10);
    }
}

static void check_trap(const char *name, uint32_t vector, uint32_t error_code, uint32_t cr2) {
    bool same = last_trap.vector == vector;
    if (vector != NO_TRAP) same = same && last_trap.error_code == error_code && last_trap.eip == last_start;
    if (vector == VECTOR_PF) same = same && last_cr2 == cr2;
    begin_line(name, same);
    if (!same) {
        put_trap(": got", last_trap.vector, last_trap.error_code, last_trap.eip, last_cr2);
        put_trap(", expected", vector, error_code, last_start, cr2);
    }
    put('\n');
}

void check_fault(const char *name, uint32_t vector, uint32_t error_code) { check_trap(name, vector, error_code, 0); }
void check_page_fault(const char *name, uint32_t error_code, uint32_t cr2) {
    check_trap(name, VECTOR_PF, error_code, cr2);
}
void check_no_fault(const char *name) { check_trap(name, NO_TRAP, 0, 0); }

/* ---- traps ---- */

/* 63..48 offset 31..16 | 47..40 P DPL type | 31..16 selector | 15..0 offset 15..0 */
void set_gate(unsigned vector, uint32_t offset, uint32_t selector, uint32_t kind_and_dpl) {
    idt[vector & 255] = (uint64_t)(offset & 0xffff0000) << 32 | (uint64_t)kind_and_dpl << 40 |
                        (uint64_t)(selector & 0xffff) << 16 | (offset & 0xffff);
}

void trap_dispatch(struct registers *registers) {
    bool from_v86 = registers->eflags & FLAG_VM, from_outside = from_v86 || (registers->cs & 3);
    if (registers->vector >= VECTOR_IRQ0 && registers->vector < VECTOR_IRQ0 + 8 && !from_outside) {
        interrupt_count++;
        out8(PIC_MASTER, PIC_EOI);
        return;
    }
    last_cr2 = read_cr2();
    if (running && from_outside) {
        size_t bytes = from_v86 ? sizeof *registers : offsetof(struct registers, es);
        for (size_t i = 0; i < bytes / 4; i++) ((uint32_t *)running)[i] = ((uint32_t *)registers)[i];
        running = NULL;
        return_to_kernel();
    }
    if (!resume_eip) error("unexpected trap, vector and EIP in low bits:", registers->vector << 24 | registers->eip);
    for (size_t i = 0; i < offsetof(struct registers, esp) / 4; i++)
        ((volatile uint32_t *)&last_trap)[i] = ((uint32_t *)registers)[i];
    /* Same ring: IRET takes three words, and the stack pointer is where it was when they were pushed. */
    registers->eip = resume_eip;
    resume_eip = 0;
}

void run(struct registers *registers) {
    running = registers;
    leave_kernel(registers);
}

struct registers user_registers(const void *code) {
    struct registers registers = {.eip = (uint32_t)code, .cs = SELECTOR_USER_CODE, .eflags = FLAGS_FIXED};
    registers.esp = (uint32_t)(user_stack + sizeof user_stack);
    registers.ss = registers.ds = SELECTOR_USER_DATA;
    return registers;
}

bool on_tcg(void) {
    uint32_t eax = 0x40000000, ebx, ecx, edx;
    asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    return ebx == 0x54474354 && ecx == 0x43544743 && edx == 0x47435447; /* TCGTCGTCGTCG */
}

/* ---- chips ---- */

void pic_init(uint8_t vector, uint8_t unmasked) {
    const uint8_t bytes[] = {vector, 1 << 2, 1, (uint8_t)~unmasked};
    out8(PIC_MASTER, 0x11);
    for (int i = 0; i < 4; i++) out8(PIC_MASTER + 1, bytes[i]);
}

void pit_one_shot(uint16_t count) {
    out8(0x43, 0x30);
    out8(0x40, count & 0xff);
    out8(0x40, count >> 8);
}

void allow_port(uint16_t port, bool allowed) {
    uint8_t bit = 1 << (port & 7), *byte = &tss.io_bitmap[port / 8 % 0x20];
    *byte = allowed ? *byte & ~bit : *byte | bit;
}

/* ---- start ---- */

static void load_tables(void) {
    struct __attribute__((packed)) {
        uint16_t limit;
        uint32_t base;
    } gdtr = {sizeof gdt - 1, (uint32_t)gdt}, idtr = {sizeof idt - 1, (uint32_t)idt};
    uint64_t base = (uint32_t)&tss;
    tss.esp0 = (uint32_t)trap_stack_top;
    for (unsigned byte = 0; byte < sizeof tss.io_bitmap; byte++) tss.io_bitmap[byte] = 0xff;
    gdt[SELECTOR_TSS / 8] = (sizeof tss - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24) << 56;
    for (unsigned vector = 0; vector < 256; vector++) {
        bool user = vector == VECTOR_BP || vector == VECTOR_OF || vector == VECTOR_RETURN;
        set_gate(vector, (uint32_t)vector_stubs + 16 * vector, SELECTOR_CODE, user ? GATE_USER : GATE);
    }
    asm volatile("lgdt %0; lidt %1; ljmp %2, $1f; 1: movl %3, %%ds; movl %3, %%es; movl %3, %%ss; movl %3, %%fs\n\t"
                 "movl %3, %%gs; ltr %w4"
                 :
                 : "m"(gdtr), "m"(idtr), "i"(SELECTOR_CODE), "r"(SELECTOR_DATA), "r"(SELECTOR_TSS)
                 : "memory");
}

void guest_start(uint32_t magic, struct multiboot_information *found) {
    loader_magic = magic;
    information = found;
    out8(COM1 + 1, 0);
    out8(COM1 + 3, 3);
    out8(COM1 + 2, 7);
    load_tables();
    pic_init(VECTOR_IRQ0, 0);
    guest_main();
    if (!check_count) error("no check was made", 0);
    if (failure_count) {
        put_text("FAILURE ");
        put_number(failure_count, 10);
        put_text(" of ");
    } else {
        put_text("PASS: all ");
    }
    put_number(check_count, 10);
    put_text(" checks\n");
    debug_exit(failure_count ? FAILURE : SUCCESS);
}
