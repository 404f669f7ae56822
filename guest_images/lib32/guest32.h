/* The library of the 32-bit test kernels: Multiboot kernels in QEMU's conventions (serial line COM1, exit by port 0xf4).
 *
 * A kernel defines guest_main(); returning from it gives the verdict. Lines and verdicts are those of lib/report.h. After
 * start: flat segments of rings 0 and 3, an IDT, interrupts masked and off, no paging.
 *
 *   TRY("movl %0, %%eax", : : "m"(word) : "eax");    runs one instruction; a fault ends it and is recorded in last_trap
 *   run(&registers);                                 runs code in ring 3 or virtual-8086 mode up to its next trap
 */
#ifndef GUEST32_H
#define GUEST32_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_USER_CODE (0x18 | 3)
#define SELECTOR_USER_DATA (0x20 | 3)
#define SELECTOR_TSS 0x28
#define SELECTOR_CODE16 0x30 /* base 0, 64 KiB, 16 bits */
#define SELECTOR_DATA16 0x38
#define SELECTOR_SPARE 0x40 /* two, free for tests */

enum {
    VECTOR_DE,
    VECTOR_DB,
    VECTOR_BP = 3,
    VECTOR_OF,
    VECTOR_UD = 6,
    VECTOR_NM,
    VECTOR_DF,
    VECTOR_TS = 10,
    VECTOR_NP,
    VECTOR_SS,
    VECTOR_GP,
    VECTOR_PF,
    VECTOR_IRQ0 = 0x20,
    VECTOR_RETURN = 0x80,
    NO_TRAP = 0x100
};
enum { FLAG_CF = 1, FLAG_TF = 0x100, FLAG_IF = 0x200, FLAG_IOPL3 = 0x3000, FLAG_VM = 0x20000, FLAGS_FIXED = 2 };
enum { CR0_PE = 1, CR0_WP = 1 << 16, CR4_PSE = 1 << 4, CR4_PAE = 1 << 5 };
#define CR0_PG 0x80000000u

struct registers {
    uint32_t edi, esi, ebp, kernel_esp, ebx, edx, ecx, eax;
    uint32_t vector, error_code;
    uint32_t eip, cs, eflags, esp, ss, es, ds, fs, gs; /* esp, ss: from an outer ring; es ..: from virtual-8086 mode */
};

extern volatile struct registers last_trap; /* vector NO_TRAP: there was none */
extern volatile uint32_t last_cr2, last_start, resume_eip;
extern struct multiboot_information *information;
extern uint32_t loader_magic;
extern uint64_t gdt[16], idt[256];

struct __attribute__((packed)) memory_map_entry {
    uint32_t size;
    uint64_t address, length;
    uint32_t type;
};
struct multiboot_information {
    uint32_t flags, lower_kib, upper_kib, boot_device, command_line, module_count, modules, symbols[4];
    uint32_t memory_map_bytes, memory_map;
};

void guest_main(void);
void check_equal(const char *name, uint32_t got, uint32_t expected);
void check_true(const char *name, bool condition);
void check_fault(const char *name, uint32_t vector, uint32_t error_code); /* of the last TRY: also where it was */
void check_page_fault(const char *name, uint32_t error_code, uint32_t cr2);
void check_no_fault(const char *name);
_Noreturn void error(const char *why, uint32_t value);

bool on_tcg(void); /* whose known mistakes a test may allow for; see lib/guest.h */

void run(struct registers *registers);
struct registers user_registers(const void *code); /* ring 3, flat segments, interrupts off */
void set_gate(unsigned vector, uint32_t offset, uint32_t selector, uint32_t kind_and_dpl);
void pic_init(uint8_t vector, uint8_t unmasked); /* of the master: IRQ n at vector + n */
void pit_one_shot(uint16_t count);
void allow_port(uint16_t port, bool allowed); /* below 0x100, for ring 3 and virtual-8086 mode */
extern volatile uint32_t interrupt_count;     /* of vectors 0x20 to 0x27, which nobody tries; they are acknowledged */

#define TRY(text, ...)                                            \
    asm volatile("movl $2f, resume_eip; movl $1f, last_start\n\t" \
                 "movl $0x100, last_trap + 32\n\t"                \
                 "1: " text "\n\t2: movl $0, resume_eip" __VA_ARGS__)

#define DEFINE_PORT(width, type)                                         \
    static inline type in##width(uint16_t port) {                        \
        type value;                                                      \
        asm volatile("in %1, %0" : "=a"(value) : "Nd"(port) : "memory"); \
        return value;                                                    \
    }                                                                    \
    static inline void out##width(uint16_t port, type value) { asm volatile("out %0, %1" : : "a"(value), "Nd"(port)); }
DEFINE_PORT(8, uint8_t)
DEFINE_PORT(32, uint32_t)

#define DEFINE_CR(name)                                                 \
    static inline uint32_t read_##name(void) {                          \
        uint32_t value;                                                 \
        asm volatile("mov %%" #name ", %0" : "=r"(value) : : "memory"); \
        return value;                                                   \
    }                                                                   \
    static inline void write_##name(uint32_t value) { asm volatile("mov %0, %%" #name : : "r"(value) : "memory"); }
DEFINE_CR(cr0)
DEFINE_CR(cr2)
DEFINE_CR(cr3)
DEFINE_CR(cr4)

static inline void invlpg(uint32_t address) { asm volatile("invlpg (%0)" : : "r"(address) : "memory"); }
static inline uint32_t load32(uint32_t address) { return *(volatile uint32_t *)address; }
static inline void store32(uint32_t address, uint32_t value) { *(volatile uint32_t *)address = value; }
static inline void interrupts_off(void) { asm volatile("cli" : : : "memory"); }
static inline void wait_for_interrupt(void) { asm volatile("sti; hlt; cli" : : : "memory"); }

#endif
