/* Claim: an instruction on a device's register does what it does on memory: result, flags and registers; accesses that
 * cross a page, fault or come from ring 3 are those of any page (SDM 2, 3A 4).
 *
 * The register is the initial count of the local APIC's timer: 32 bits that keep what is written. The same instruction on
 * a variable is the oracle.
 */
#include "apic.h"
#include "guest.h"

#define REGISTER (APIC_BASE + APIC_TIMER_INITIAL)
#define ALIAS (TEST_VA + 0x10000) /* the APIC's page again, elsewhere */
#define FLAGS 0x8d5               /* CF PF AF ZF SF OF */

struct effect {
    uint32_t memory;
    uint64_t accumulator, other, flags;
};

/* FORM(name, text, undefined): `text` with the operand at (%rdi), RAX, RCX; flags that are not defined. */
#define FORM(name, text)                                                    \
    static void name(uint64_t at, struct effect *e) {                       \
        asm volatile("pushq %2; popfq\n\t" text "\n\tpushfq; popq %2"       \
                     : "+a"(e->accumulator), "+c"(e->other), "+r"(e->flags) \
                     : "D"(at)                                              \
                     : "memory", "cc", "rdx", "rsi", "r8");                 \
        e->memory = *(volatile uint32_t *)at;                               \
        e->flags &= FLAGS;                                                  \
    }
FORM(do_store, "movl %%eax, (%%rdi)")
FORM(do_store_constant, "movl $0x1234567, (%%rdi)")
FORM(do_load, "movl (%%rdi), %%eax")
FORM(do_load_signed, "movslq (%%rdi), %%rax")
FORM(do_add, "addl %%eax, (%%rdi)")
FORM(do_add_constant, "lock addl $0x7f, (%%rdi)")
FORM(do_add_to_register, "addl (%%rdi), %%ecx")
FORM(do_adc, "stc; adcl %%eax, (%%rdi)")
FORM(do_sub, "subl %%ecx, (%%rdi)")
FORM(do_sbb, "stc; sbbl $1, (%%rdi)")
FORM(do_and, "lock andl %%eax, (%%rdi)")
FORM(do_or, "orl $0x80000001, (%%rdi)")
FORM(do_xor, "xorl %%ecx, (%%rdi)")
FORM(do_xor_register, "xorl (%%rdi), %%eax")
FORM(do_not, "notl (%%rdi)")
FORM(do_neg, "negl (%%rdi)")
FORM(do_inc, "incl (%%rdi)")
FORM(do_dec, "lock decl (%%rdi)")
FORM(do_test, "testl %%eax, (%%rdi)")
FORM(do_test_constant, "testl $0x80, (%%rdi)")
FORM(do_cmp, "cmpl %%ecx, (%%rdi)")
FORM(do_cmp_register, "cmpl (%%rdi), %%eax")
FORM(do_xchg, "xchgl %%ecx, (%%rdi)")
FORM(do_xadd, "lock xaddl %%ecx, (%%rdi)")
FORM(do_cmpxchg, "lock cmpxchgl %%ecx, (%%rdi)")
FORM(do_cmpxchg_equal, "movl (%%rdi), %%eax; cmpxchgl %%ecx, (%%rdi)")
FORM(do_bt, "btl $5, (%%rdi)")
FORM(do_bts, "lock btsl $31, (%%rdi)")
FORM(do_shl, "shll $3, (%%rdi)")
FORM(do_shr, "shrl (%%rdi)")
FORM(do_stos, "movq %%rdi, %%rsi; stosl; movq %%rsi, %%rdi")
FORM(do_rep_stos_once, "movl $1, %%ecx; movq %%rdi, %%rsi; rep stosl; movq %%rsi, %%rdi")
FORM(do_rep_stos_none, "movl $0, %%ecx; movq %%rdi, %%rsi; rep stosl; movq %%rsi, %%rdi")
FORM(do_lods, "movq %%rdi, %%rsi; lodsl")
FORM(do_cmov, "cmpl %%eax, %%eax; cmovel (%%rdi), %%ecx")
FORM(do_indexed, "movq $-4, %%rsi; movl 16(%%rdi,%%rsi,4), %%eax")

static const struct {
    const char *name;
    void (*run)(uint64_t at, struct effect *effect);
} forms[] = {
    {"MOV to it", do_store},
    {"MOV of a constant", do_store_constant},
    {"MOV from it", do_load},
    {"MOVSXD", do_load_signed},
    {"ADD", do_add},
    {"LOCK ADD of a constant", do_add_constant},
    {"ADD to a register", do_add_to_register},
    {"ADC", do_adc},
    {"SUB", do_sub},
    {"SBB", do_sbb},
    {"LOCK AND", do_and},
    {"OR", do_or},
    {"XOR", do_xor},
    {"XOR to a register", do_xor_register},
    {"NOT", do_not},
    {"NEG", do_neg},
    {"INC", do_inc},
    {"LOCK DEC", do_dec},
    {"TEST", do_test},
    {"TEST with a constant", do_test_constant},
    {"CMP", do_cmp},
    {"CMP with a register", do_cmp_register},
    {"XCHG", do_xchg},
    {"LOCK XADD", do_xadd},
    {"CMPXCHG that fails", do_cmpxchg},
    {"CMPXCHG that succeeds", do_cmpxchg_equal},
    {"BT", do_bt},
    {"LOCK BTS", do_bts},
    {"SHL", do_shl},
    {"SHR by one", do_shr},
    {"STOS", do_stos},
    {"REP STOS, once", do_rep_stos_once},
    {"REP STOS, not at all", do_rep_stos_none},
    {"LODS", do_lods},
    {"CMOV", do_cmov},
    {"MOV with an index", do_indexed},
};

static const uint32_t values[] = {1, 0x80, 0x7fffffff, 0x80000000, 0xffffffff, 0x12345678, 0xfedcba98};
enum { VALUES = sizeof values / sizeof values[0] };

static void check_forms(void) {
    static uint32_t variable;
    for (unsigned form = 0; form < sizeof forms / sizeof forms[0]; form++) {
        struct tally tally = {0};
        for (unsigned i = 0; i < VALUES * VALUES; i++) {
            struct effect oracle = {0, values[i % VALUES], values[(i + 3) % VALUES], i & 1 ? FLAGS : 2}, got = oracle;
            variable = values[i / VALUES];
            mmio_write32(REGISTER, variable);
            forms[form].run((uint64_t)&variable, &oracle);
            forms[form].run(REGISTER, &got);
            tally_equal(&tally, got.memory, oracle.memory);
            tally_equal(&tally, got.accumulator, oracle.accumulator);
            tally_equal(&tally, got.other, oracle.other);
            tally_equal(&tally, got.flags, oracle.flags);
        }
        check_tally(forms[form].name, &tally);
    }
}

static void check_strings(void) {
    static uint32_t buffer[8];
    mmio_write32(REGISTER, 0xabcdef01);
    uint64_t to = (uint64_t)buffer, from = REGISTER;
    asm volatile("movsl" : "+D"(to), "+S"(from) : : "memory");
    check_equal("MOVS from a device to memory", buffer[0], 0xabcdef01);
    check_true("and both pointers moved", to == (uint64_t)&buffer[1] && from == REGISTER + 4);
    buffer[3] = 0x600df00d;
    to = REGISTER, from = (uint64_t)&buffer[3];
    asm volatile("std; movsl; cld" : "+D"(to), "+S"(from) : : "memory");
    check_equal("MOVS from memory to a device, downwards", mmio_read32(REGISTER), 0x600df00d);
    check_true("and both pointers moved down", to == REGISTER - 4 && from == (uint64_t)&buffer[2]);
    uint64_t count = 1;
    to = (uint64_t)&buffer[5], from = REGISTER;
    asm volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    check_true("REP MOVS", buffer[5] == 0x600df00d && !count);
}

static void check_narrow(void) {
    mmio_write32(IOAPIC_BASE + IOAPIC_SELECT, 0xc5);
    uint64_t zero_extended, sign_extended;
    asm volatile("movzbl (%1), %k0" : "=r"(zero_extended) : "r"(IOAPIC_BASE));
    asm volatile("movsbq (%1), %0" : "=r"(sign_extended) : "r"(IOAPIC_BASE));
    check_equal("MOVZX of a byte", zero_extended, 0xc5);
    check_equal("MOVSX of a byte", sign_extended, 0xffffffffffffffc5);
    *(volatile uint8_t *)(IOAPIC_BASE + IOAPIC_SELECT) = IOAPIC_VERSION;
    check_equal("MOV of a byte", *(volatile uint8_t *)IOAPIC_BASE, IOAPIC_VERSION);
    asm volatile("orb $0x10, (%0)" : : "r"(IOAPIC_BASE) : "memory", "cc");
    check_equal("OR of a byte", *(volatile uint8_t *)IOAPIC_BASE, IOAPIC_VERSION | 0x10);
    if (!on_tcg())
        check_equal("where nobody answers all ones", load64(TEST_VA + 0x100), ~0ul); /* QEMU has zeros there */
}

/* Two pages in a row: memory, then the APIC; the APIC, then nothing. */
static void check_crossing(void) {
    uint64_t page = TEST_VA + 0x20000, last = page + PAGE_BYTES - 2;
    uint16_t *memory = (uint16_t *)page_alloc();
    map_page(current_pml4(), page, (uint64_t)memory, PTE_P | PTE_W);
    map_page(current_pml4(), page + PAGE_BYTES, APIC_BASE, PTE_P | PTE_W);
    *(volatile uint32_t *)last = 0xdeadbeef;
    check_equal("a store across memory and a device: memory gets its part", memory[PAGE_BYTES / 2 - 1], 0xbeef);
    check_equal("a load gets it back", *(volatile uint32_t *)last & 0xffff, 0xbeef);
    page += PAGE_BYTES, last += PAGE_BYTES;
    TRY("movl %k0, (%1)", : : "r"(1ul), "r"(last) : "memory");
    check_page_fault("a store that runs out of a device's page faults", PF_WRITE, page + PAGE_BYTES);
    TRY("movl (%1), %k0", : "=r"(last) : "r"(last) : "memory");
    check_page_fault("and so does a load", 0, page + PAGE_BYTES);
}

USER_CODE(user_load, "movl (%rdi), %eax");
USER_CODE(user_store, "movl $0x77, (%rdi); movl (%rdi), %eax");

static void check_rights(void) {
    uint64_t at = ALIAS + APIC_TIMER_INITIAL;
    map_page(current_pml4(), ALIAS, APIC_BASE, PTE_P);
    mmio_write32(REGISTER, 0x55);
    check_equal("an alias of the page leads to the device", mmio_read32(at), 0x55);
    TRY("movl %k0, (%1)", : : "r"(1ul), "r"(at) : "memory");
    check_page_fault("a store through a read-only mapping faults", PF_PRESENT | PF_WRITE, at);
    TRY("orl %k0, (%1)", : : "r"(1ul), "r"(at) : "memory");
    check_page_fault("and so does a read-modify-write", PF_PRESENT | PF_WRITE, at);
    check_equal("nothing was stored", mmio_read32(REGISTER), 0x55);
    user_call((void *)user_load, at);
    check_page_fault("ring 3 may not read a supervisor's mapping", PF_PRESENT | PF_USER, at);
    map_page(current_pml4(), ALIAS, APIC_BASE, PTE_P | PTE_U);
    invlpg(ALIAS);
    check_equal("ring 3 reads through a mapping of its own", user_call((void *)user_load, at), 0x55);
    user_call((void *)user_store, at);
    check_page_fault("ring 3 may not store through a read-only one", PF_PRESENT | PF_WRITE | PF_USER, at);
    map_page(current_pml4(), ALIAS, APIC_BASE, PTE_P | PTE_W | PTE_U);
    invlpg(ALIAS);
    check_equal("ring 3 stores", user_call((void *)user_store, at), 0x77);
    check_equal("accessed and dirty are set", *entry_of(current_pml4(), ALIAS, LEVEL_PT) & (PTE_A | PTE_D),
                PTE_A | PTE_D);
    unmap(current_pml4(), ALIAS);
    TRY("movl (%1), %k0", : "=r"(at) : "r"(at) : "memory");
    check_page_fault("unmapped, it faults", 0, ALIAS + APIC_TIMER_INITIAL);
}

static void check_single_step(void) {
    uint64_t value = 0;
    TRY("pushfq; orq $0x100, (%%rsp); popfq; movl (%1), %k0", : "+r"(value) : "r"(REGISTER) : "memory", "cc");
    check_equal("a single step over a device access traps behind it", last_fault.vector, VECTOR_DB);
}

void guest_main(void) {
    if (!(cpuid(1, 0).edx >> 9 & 1)) skip("no local APIC");
    apic_init();
    map_page(current_pml4(), TEST_VA, 0xfd000000, PTE_P | PTE_W); /* a page of nobody's */
    check_forms();
    check_strings();
    check_narrow();
    check_crossing();
    check_rights();
    check_single_step();
}
