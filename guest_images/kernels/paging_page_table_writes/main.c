/* Claim: it does not matter with which instruction a page-table entry is written: any width, locked or not, one or
 * many, misaligned, over a page boundary, from ring 3 through an alias, as a stack; and a table page can become data
 * and a table again.
 *
 * (Where tables are shadowed each of these is a store that a hypervisor has to notice and understand.)
 */
#include "guest.h"

#define VA (TEST_VA + 0x40000000)
#define FLAGS (PTE_P | PTE_W)
#define OTHER_SLOT 8

static uint64_t *pml4, *table, *pages[2];

static uint64_t old_value(void) { return (uint64_t)pages[0] | FLAGS; }
static uint64_t new_value(void) { return (uint64_t)pages[1] | FLAGS; }

static void with_mov8(uint64_t *entry) {
    for (unsigned i = 0; i < 8; i++) ((volatile uint8_t *)entry)[i] = new_value() >> 8 * i & 0xff;
}
static void with_mov16(uint64_t *entry) {
    for (unsigned i = 0; i < 4; i++) ((volatile uint16_t *)entry)[i] = new_value() >> 16 * i & 0xffff;
}
static void with_mov32(uint64_t *entry) {
    ((volatile uint32_t *)entry)[0] = (uint32_t)new_value();
    ((volatile uint32_t *)entry)[1] = new_value() >> 32;
}
static void with_mov64(uint64_t *entry) { *(volatile uint64_t *)entry = new_value(); }
static void with_mov_immediate(uint64_t *entry) {
    asm volatile("movq $0, (%0); movl $0x40000000, (%0); movq %1, (%0)" : : "r"(entry), "r"(new_value()) : "memory");
}
static void with_movnti(uint64_t *entry) {
    asm volatile("movnti %1, (%0); sfence" : : "r"(entry), "r"(new_value()) : "memory");
}
static void with_xchg(uint64_t *entry) {
    uint64_t value = new_value();
    asm volatile("xchgq %0, (%1)" : "+r"(value) : "r"(entry) : "memory");
}
static void with_cmpxchg(uint64_t *entry) {
    uint64_t current = *entry;
    asm volatile("lock cmpxchgq %2, (%1)" : "+a"(current) : "r"(entry), "r"(new_value()) : "memory", "cc");
}
static void with_cmpxchg8b(uint64_t *entry) {
    uint64_t current = *entry, value = new_value();
    uint32_t low = (uint32_t)current, high = current >> 32;
    asm volatile("lock cmpxchg8b (%2)"
                 : "+a"(low), "+d"(high)
                 : "r"(entry), "b"((uint32_t)value), "c"((uint32_t)(value >> 32))
                 : "memory", "cc");
}
static void with_and_or(uint64_t *entry) {
    asm volatile("lock andq %1, (%0); lock orq %2, (%0)" : : "r"(entry), "r"(0ul), "r"(new_value()) : "memory", "cc");
}
static void with_xor(uint64_t *entry) {
    asm volatile("xorq %1, (%0)" : : "r"(entry), "r"(*entry ^ new_value()) : "memory", "cc");
}
static void with_add(uint64_t *entry) {
    asm volatile("addq %1, (%0)" : : "r"(entry), "r"(new_value() - *entry) : "memory", "cc");
}
static void with_sub(uint64_t *entry) {
    asm volatile("subq %1, (%0)" : : "r"(entry), "r"(*entry - new_value()) : "memory", "cc");
}
static void with_xadd(uint64_t *entry) {
    uint64_t value = new_value() - *entry;
    asm volatile("lock xaddq %0, (%1)" : "+r"(value) : "r"(entry) : "memory", "cc");
}
static void with_bit_operations(uint64_t *entry) {
    uint64_t changed = *entry ^ new_value();
    for (uint64_t bit = 0; bit < 64; bit++) {
        if (!(changed >> bit & 1)) continue;
        if (new_value() >> bit & 1)
            asm volatile("lock btsq %1, (%0)" : : "r"(entry), "r"(bit) : "memory", "cc");
        else
            asm volatile("lock btrq %1, (%0)" : : "r"(entry), "r"(bit) : "memory", "cc");
    }
}
static void with_not_neg(uint64_t *entry) {
    *entry = ~new_value();
    asm volatile("notq (%0); negq (%0); negq (%0)" : : "r"(entry) : "memory", "cc");
}
static void with_shift(uint64_t *entry) {
    *entry = new_value() << 4 | new_value() >> 60;
    asm volatile("rorq $4, (%0)" : : "r"(entry) : "memory", "cc");
}
static void with_stos(uint64_t *entry) {
    uint64_t count = 1;
    asm volatile("rep stosq" : "+D"(entry), "+c"(count) : "a"(new_value()) : "memory");
}
static void with_movs(uint64_t *entry) {
    uint64_t source[1] = {new_value()}, *from = source, count = 8;
    asm volatile("rep movsb" : "+D"(entry), "+S"(from), "+c"(count) : : "memory");
}
static void with_push(uint64_t *entry) {
    asm volatile("movq %%rsp, %%rax; leaq 8(%0), %%rsp; pushq %1; movq %%rax, %%rsp"
                 :
                 : "r"(entry), "r"(new_value())
                 : "rax", "memory");
}
static void with_pop(uint64_t *entry) {
    asm volatile("pushq %1; popq (%0)" : : "r"(entry), "r"(new_value()) : "memory");
}
static void with_misaligned(uint64_t *entry) {
    uint64_t value = new_value();
    *(volatile uint64_t *)((uint64_t)entry - 3) = value << 24; /* the low 5 bytes of the entry */
    *(volatile uint64_t *)((uint64_t)entry + 5) = value >> 40; /* the high 3, and 5 of the next */
}

static const struct {
    const char *name;
    void (*write)(uint64_t *entry);
} writers[] = {
    {"MOV, 8 bits", with_mov8},
    {"MOV, 16 bits", with_mov16},
    {"MOV, 32 bits", with_mov32},
    {"MOV, 64 bits", with_mov64},
    {"MOV, immediate", with_mov_immediate},
    {"MOVNTI", with_movnti},
    {"XCHG", with_xchg},
    {"LOCK CMPXCHG", with_cmpxchg},
    {"LOCK CMPXCHG8B", with_cmpxchg8b},
    {"LOCK AND, LOCK OR", with_and_or},
    {"XOR", with_xor},
    {"ADD", with_add},
    {"SUB", with_sub},
    {"LOCK XADD", with_xadd},
    {"LOCK BTS, LOCK BTR", with_bit_operations},
    {"NOT, NEG", with_not_neg},
    {"ROR", with_shift},
    {"REP STOSQ", with_stos},
    {"REP MOVSB", with_movs},
    {"PUSH", with_push},
    {"POP", with_pop},
    {"MOV, misaligned", with_misaligned},
};

static void check_writer(unsigned at) {
    struct tally tally = {0};
    for (unsigned slot = 2; slot < 512; slot += 101) {
        uint64_t va = VA + slot * PAGE_BYTES;
        for (unsigned from_absent = 0; from_absent < 2; from_absent++) {
            table[slot] = from_absent ? 0 : old_value();
            invlpg(va);
            if (!from_absent) tally_equal(&tally, load64(va), 0xaaaa);
            writers[at].write(table + slot);
            invlpg(va);
            uint64_t value = 0;
            try_load(va, &value);
            tally_equal(&tally, value, 0xbbbb);
            tally_equal(&tally, table[slot] & ~(PTE_A | PTE_D), new_value());
        }
        table[slot] = 0;
        invlpg(va);
    }
    check_tally(writers[at].name, &tally);
}

/* Many entries by one instruction, over several level 1 tables that are neighbours in memory. */
static void check_many(void) {
    uint64_t va = TEST_VA + 0x80000000, *first = page_alloc(), count = 3 * 512;
    struct tally same = {0}, copied = {0};
    page_alloc();
    page_alloc();
    for (unsigned i = 0; i < 3; i++)
        *entry_make(pml4, va + i * LARGE_PAGE_BYTES, LEVEL_PD) = ((uint64_t)first + i * PAGE_BYTES) | FLAGS;
    uint64_t *to = first;
    asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(old_value()) : "memory");
    for (unsigned i = 0; i < 3 * 512; i += 37) tally_equal(&same, load64(va + i * PAGE_BYTES), 0xaaaa);
    check_tally("REP STOSQ over three tables", &same);
    uint64_t *source = page_alloc(), *from = source;
    for (unsigned i = 0; i < 512; i++) source[i] = i & 1 ? new_value() : old_value();
    to = first + 256; /* the second half of one table and the first of the next */
    count = 512;
    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    write_cr3(read_cr3());
    for (unsigned i = 256; i < 768; i += 3) tally_equal(&copied, load64(va + i * PAGE_BYTES), i & 1 ? 0xbbbb : 0xaaaa);
    check_tally("REP MOVSQ over a table boundary", &copied);
    *(volatile uint64_t *)((uint64_t)(first + 512) - 4) =
        (uint64_t)(uint32_t)new_value() << 32 | *((uint32_t *)(first + 511) + 1);
    write_cr3(read_cr3());
    check_equal("a store over a table boundary", load64(va + 512 * PAGE_BYTES), 0xbbbb);
}

USER_CODE(user_store_pair, "movq (%rdi), %rax; movq 8(%rdi), %rcx; movq %rcx, (%rax)");
static uint64_t user_pair[2] USER_DATA;

static void check_user_alias(void) {
    uint64_t alias = TEST_VA + 0x100000000, va = VA + OTHER_SLOT * PAGE_BYTES;
    map_page(pml4, alias, (uint64_t)table, PTE_P | PTE_W | PTE_U);
    table[OTHER_SLOT] = old_value();
    invlpg(va);
    uint64_t before = load64(va);
    user_pair[0] = alias + 8 * OTHER_SLOT;
    user_pair[1] = new_value();
    user_call((void *)user_store_pair, (uint64_t)user_pair);
    invlpg(va);
    check_true("ring 3 writes an entry through an alias of the table", before == 0xaaaa && load64(va) == 0xbbbb);
}

static void check_data_and_back(void) {
    uint64_t va = TEST_VA + 0x200000000;
    uint64_t *page = page_alloc(), *upper = entry_make(pml4, va, LEVEL_PD);
    struct tally data = {0}, mapped = {0};
    for (unsigned round = 0; round < 10; round++) {
        memset(page, 0, PAGE_BYTES);
        page[round] = round & 1 ? new_value() : old_value();
        *upper = (uint64_t)page | FLAGS;
        tally_equal(&mapped, load64(va + round * PAGE_BYTES), round & 1 ? 0xbbbb : 0xaaaa);
        *upper = 0;
        write_cr3(read_cr3());
        for (unsigned i = 0; i < 512; i++)
            page[i] = i * 0x123456789ul + round; /* garbage as an entry, reserved bits and all */
        for (unsigned i = 0; i < 512; i++) tally_equal(&data, page[i], i * 0x123456789ul + round);
        uint64_t value;
        tally_equal(&mapped, try_load(va + round * PAGE_BYTES, &value), false);
    }
    check_tally("a page as a table, again and again", &mapped);
    check_tally("and as data in between", &data);
}

/* One level 1 table under two level 2 entries: an entry written once is seen at both addresses. */
static void check_shared_table(void) {
    uint64_t left = TEST_VA + 0x300000000, right = TEST_VA + 0x500000000, *shared = page_alloc();
    struct tally tally = {0};
    *entry_make(pml4, left, LEVEL_PD) = (uint64_t)shared | FLAGS;
    *entry_make(pml4, right, LEVEL_PD) = (uint64_t)shared | FLAGS;
    for (unsigned i = 0; i < 64; i++) {
        shared[i] = i & 1 ? old_value() : new_value();
        tally_equal(&tally, load64(left + i * PAGE_BYTES), load64(right + i * PAGE_BYTES));
        shared[i] = i & 1 ? new_value() : old_value();
        invlpg(left + i * PAGE_BYTES);
        invlpg(right + i * PAGE_BYTES);
        tally_equal(&tally, load64(left + i * PAGE_BYTES), i & 1 ? 0xbbbb : 0xaaaa);
        tally_equal(&tally, load64(right + i * PAGE_BYTES), i & 1 ? 0xbbbb : 0xaaaa);
    }
    check_tally("a level 1 table used twice", &tally);
}

void guest_main(void) {
    pml4 = current_pml4();
    table = page_alloc();
    for (unsigned i = 0; i < 2; i++) {
        pages[i] = page_alloc();
        pages[i][0] = i ? 0xbbbb : 0xaaaa;
    }
    *entry_make(pml4, VA, LEVEL_PD) = (uint64_t)table | FLAGS;
    for (unsigned at = 0; at < sizeof writers / sizeof *writers; at++) check_writer(at);
    check_many();
    check_user_alias();
    check_data_and_back();
    check_shared_table();
}
