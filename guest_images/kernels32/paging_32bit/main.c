/* Claim: 32-bit paging translates by two levels of 4-byte entries, with 4 MiB pages under CR4.PSE; faults, accessed and
 * dirty bits, stores into page tables, and switches between address spaces and to PAE and no paging are as SDM 3A 4.3,
 * 4.6 to 4.8 say.
 */
#include "guest32.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80 };
enum { PF_PRESENT = 1, PF_WRITE = 2, PF_USER = 4, PF_RESERVED = 8 };
#define LARGE_BYTES 0x400000u
#define HEAP 0x1000000u       /* pages for tables and data: identity mapped */
#define TEST 0x40000000u      /* free for tests */
#define RECURSIVE 0xffc00000u /* directory entry 1023 leads to the directory itself */

static uint32_t heap_next = HEAP;
static uint32_t *directory;

static uint32_t *page(void) {
    uint32_t *result = (uint32_t *)heap_next;
    heap_next += 4096;
    for (int i = 0; i < 1024; i++) result[i] = 0;
    return result;
}

/* A directory that maps the first 64 MiB onto themselves by large pages, for all. */
static uint32_t *new_directory(void) {
    uint32_t *result = page();
    for (uint32_t i = 0; i < 16; i++) result[i] = i * LARGE_BYTES | PS | P | W | U;
    return result;
}

static void reload(void) { write_cr3(read_cr3()); }

static uint32_t *map(uint32_t *in, uint32_t va, uint32_t pa, uint32_t flags) {
    uint32_t *entry = &in[va >> 22];
    if (!*entry) *entry = (uint32_t)page() | P | W | U;
    uint32_t *table = (uint32_t *)(*entry & ~0xfffu);
    table[va >> 12 & 1023] = pa | flags;
    invlpg(va);
    return &table[va >> 12 & 1023];
}

static void check_supervisor(void) {
    uint32_t *data = page();
    *data = 0x11223344;
    TRY("movl (%0), %%eax", : : "r"(TEST) : "eax");
    check_page_fault("read, no directory entry", 0, TEST);
    uint32_t *entry = map(directory, TEST, (uint32_t)data, P | W);
    check_equal("read", load32(TEST), 0x11223344);
    check_equal("accessed, not dirty", *entry & (A | D), A);
    check_equal("the directory entry is accessed, too", directory[TEST >> 22] & A, A);
    store32(TEST + 4, 5);
    check_equal("dirty after a write", *entry & (A | D), A | D);
    check_equal("the write went to the page", data[1], 5);
    TRY("movl %%eax, (%0)", : : "r"(TEST + 0x1ffc) : "eax");
    check_page_fault("write, no table entry", PF_WRITE, TEST + 0x1ffc);
    *entry &= ~(uint32_t)W;
    invlpg(TEST);
    store32(TEST, 6);
    check_equal("supervisor writes a read-only page with WP clear", *data, 6);
    write_cr0(read_cr0() | CR0_WP);
    TRY("movl %%eax, (%0)", : : "r"(TEST) : "eax");
    check_page_fault("write, read-only with WP", PF_PRESENT | PF_WRITE, TEST);
    directory[TEST >> 22] &= ~(uint32_t)W;
    *entry |= W;
    reload();
    TRY("movl %%eax, (%0)", : : "r"(TEST) : "eax");
    check_page_fault("write, read-only by the directory", PF_PRESENT | PF_WRITE, TEST);
    directory[TEST >> 22] |= W;
    reload();
}

extern const char user_read[], user_write[], user_execute[];
asm("user_read: movl (%ebx), %eax; int $0x80\n"
    "user_write: movl %eax, (%ebx); int $0x80\n"
    "user_execute: jmp *%ebx\n");

static void user_access(const char *name, const void *code, uint32_t va, uint32_t vector, uint32_t error_code) {
    struct registers user = user_registers(code);
    user.ebx = va;
    run(&user);
    bool same = user.vector == vector && user.cs == SELECTOR_USER_CODE;
    if (vector == VECTOR_PF)
        same = same && user.error_code == error_code && last_cr2 == va && user.eip == (uint32_t)code;
    check_true(name, same);
}

static void check_user(void) {
    uint32_t va = TEST + 0x10000;
    uint32_t *entry = map(directory, va, (uint32_t)page(), P | W | U);
    user_access("ring 3 reads", user_read, va, VECTOR_RETURN, 0);
    user_access("ring 3 writes", user_write, va, VECTOR_RETURN, 0);
    check_equal("dirty after ring 3's write", *entry & D, D);
    user_access("ring 3: not present", user_read, va + 0x1000, VECTOR_PF, PF_USER);
    *entry &= ~(uint32_t)W;
    invlpg(va);
    user_access("ring 3: read-only", user_write, va, VECTOR_PF, PF_USER | PF_WRITE | PF_PRESENT);
    *entry = (*entry & ~(uint32_t)U) | W;
    invlpg(va);
    user_access("ring 3: supervisor's", user_read, va, VECTOR_PF, PF_USER | PF_PRESENT);
    user_access("ring 3: write, supervisor's", user_write, va, VECTOR_PF, PF_USER | PF_WRITE | PF_PRESENT);
    *entry |= U;
    directory[va >> 22] &= ~(uint32_t)U;
    reload();
    user_access("ring 3: supervisor's by the directory", user_read, va, VECTOR_PF, PF_USER | PF_PRESENT);
    directory[va >> 22] |= U;
    reload();
}

static void check_large(void) {
    uint32_t va = TEST + 4 * LARGE_BYTES, *entry = &directory[va >> 22];
    *entry = 8 * LARGE_BYTES | PS | P | W;
    store32(va + 0x300ffc, 0x5555aaaa);
    check_equal("a 4 MiB page reaches its last MiB", load32(8 * LARGE_BYTES + 0x300ffc), 0x5555aaaa);
    check_equal("and is accessed and dirty", *entry & (A | D), A | D);
    *entry = 9 * LARGE_BYTES | PS | P;
    invlpg(va);
    store32(9 * LARGE_BYTES + 0x1ffffc, 1);
    store32(9 * LARGE_BYTES + 0x200000, 2);
    check_equal("remapped, below the middle", load32(va + 0x1ffffc), 1);
    check_equal("remapped, above the middle", load32(va + 0x200000), 2);
    check_equal("read only: accessed, not dirty", *entry & (A | D), A);
    TRY("movl %%eax, (%0)", : : "r"(va + 0x200000) : "eax");
    check_page_fault("write, read-only 4 MiB page", PF_PRESENT | PF_WRITE, va + 0x200000);
    *entry |= 1 << 21;
    invlpg(va);
    TRY("movl (%0), %%eax", : : "r"(va) : "eax");
    check_page_fault("bit 21 of a 4 MiB page is reserved", on_tcg() ? PF_RESERVED : PF_PRESENT | PF_RESERVED, va);
    uint32_t *table = page(), *data = page();
    *data = 77;
    table[0] = (uint32_t)data | P;
    *entry = (uint32_t)table | P | PS;  /* a large page at no boundary, or with CR4.PSE clear a table */
    for (uint32_t i = 0; i < 16; i++) { /* the kernel's own pages have to do without */
        uint32_t *own = page();
        for (uint32_t k = 0; k < 1024; k++) own[k] = i * LARGE_BYTES | k << 12 | P | W | U;
        directory[i] = (uint32_t)own | P | W | U;
    }
    write_cr4(read_cr4() & ~CR4_PSE);
    check_equal("with PSE clear the entry leads to a table", load32(va), 77);
    write_cr4(read_cr4() | CR4_PSE);
    *entry = 0;
    invlpg(va);
}

/* Stores of every kind to a table that is in use: the translation follows, at the latest after INVLPG. */
static void check_table_stores(void) {
    uint32_t va = TEST + 0x20000, *pages[4];
    for (uint32_t i = 0; i < 4; i++) {
        pages[i] = page();
        *pages[i] = 100 + i;
    }
    uint32_t *entry = map(directory, va, (uint32_t)pages[0], P | W);
    map(directory, va + 0x1000, (uint32_t)pages[1], P | W);
    bool follows = load32(va) == 100 && load32(va + 0x1000) == 101;
#define STORE(text, expected, ...)                                         \
    do {                                                                   \
        asm volatile(text : : "r"(entry), ##__VA_ARGS__ : "memory", "cc"); \
        invlpg(va);                                                        \
        follows = follows && load32(va) == (expected);                     \
    } while (0)
    STORE("movl %1, (%0)", 102, "r"((uint32_t)pages[2] | P | W));
    STORE("xchgl %1, (%0)", 103, "r"((uint32_t)pages[3] | P | W));
    STORE("movw %w1, (%0)", 100, "r"((uint32_t)pages[0] | P | W));
    STORE("lock cmpxchgl %1, (%0)", 102, "r"((uint32_t)pages[2] | P | W), "a"(*entry));
    STORE("andl $~2, (%0)", 102);
    STORE("orb $2, (%0)", 102);
    STORE("addl $0x1000, (%0)", 103);
    STORE("subl %1, (%0)", 101, "r"(0x2000));
    STORE("pushl %1; popl (%0)", 100, "r"((uint32_t)pages[0] | P | W));
    STORE("btrl $0, (%0); btsl $0, (%0)", 100);
#undef STORE
    check_true("translations follow stores of every kind", follows);
    uint64_t both = (uint64_t)((uint32_t)pages[3] | P) << 32 | (uint32_t)pages[2] | P;
    uint32_t old_low = entry[0], old_high = entry[1];
    asm volatile("lock cmpxchg8b (%0)"
                 : "+a"(old_low), "+d"(old_high)
                 : "S"(entry), "b"((uint32_t)both), "c"((uint32_t)(both >> 32))
                 : "memory", "cc");
    if (entry[0] != (uint32_t)both) *(volatile uint64_t *)entry = both; /* an accessed bit came between */
    invlpg(va);
    invlpg(va + 0x1000);
    check_true("two entries by one store of 8 bytes", load32(va) == 102 && load32(va + 0x1000) == 103);
    uint32_t count = 2, *next = entry;
    asm volatile("rep stosl" : "+D"(next), "+c"(count) : "a"(0) : "memory");
    invlpg(va);
    invlpg(va + 0x1000);
    TRY("movl (%0), %%eax", : : "r"(va) : "eax");
    check_page_fault("cleared by REP STOS", 0, va);
    TRY("movl (%0), %%eax", : : "r"(va + 0x1000) : "eax");
    check_page_fault("and the one behind", 0, va + 0x1000);
}

static void check_recursive(void) {
    directory[1023] = (uint32_t)directory | P | W;
    uint32_t va = TEST + 0x30000, *data = page();
    *data = 4711;
    map(directory, va, 0, 0);
    volatile uint32_t *entry = (volatile uint32_t *)(RECURSIVE + (va >> 12) * 4);
    *entry = (uint32_t)data | P | W;
    invlpg(va);
    check_equal("mapped through the recursive window", load32(va), 4711);
    check_equal("its accessed bit is seen there", *entry & A, A);
    check_equal("the directory is its own last page", load32(RECURSIVE + 0x3ff000 + 4 * 1023) & ~0xfffu,
                (uint32_t)directory);
    *entry = 0;
    invlpg(va);
    TRY("movl (%0), %%eax", : : "r"(va) : "eax");
    check_page_fault("unmapped through it", 0, va);
    directory[1023] = 0;
    reload();
}

static void check_address_spaces(void) {
    uint32_t *spaces[8], va = TEST + 0x7ff000;
    bool right = true;
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t *data = page();
        *data = 1000 + i;
        spaces[i] = new_directory();
        map(spaces[i], va, (uint32_t)data, P | W);
    }
    for (uint32_t round = 0; round < 64; round++) {
        write_cr3((uint32_t)spaces[round * 5 & 7]);
        right = right && load32(va) == 1000 + (round * 5 & 7) + 8 * (round >> 3);
        store32(va, load32(va) + 8);
    }
    write_cr3((uint32_t)directory);
    check_true("eight address spaces, by turns", right);
    spaces[3][va >> 22] = 0; /* while another is in use */
    write_cr3((uint32_t)spaces[3]);
    TRY("movl (%0), %%eax", : : "r"(va) : "eax");
    write_cr3((uint32_t)directory);
    check_page_fault("one changed while another was in use", 0, va);
}

/* 31 30 | 29..21 | 20..12 | 11..0: four entries of 8 bytes, then 512 each */
static void check_pae(void) {
    uint64_t *pointers = (uint64_t *)page();
    uint32_t va = TEST + 0x40000, *data = page();
    *data = 31415;
    map(directory, va, (uint32_t)data, P | W);
    for (uint32_t gib = 0; gib < 2; gib++) {
        uint64_t *large = (uint64_t *)page();
        for (uint32_t i = 0; i < 512; i++) large[i] = (uint64_t)(i << 21) | PS | P | W | U;
        pointers[gib] = (uint32_t)large | P;
    }
    check_equal("two levels", load32(va), 31415);
    write_cr0(read_cr0() & ~CR0_PG);
    write_cr4(read_cr4() | CR4_PAE);
    write_cr3((uint32_t)pointers);
    write_cr0(read_cr0() | CR0_PG);
    check_equal("PAE: 1 GiB further is the first one again", load32(TEST + (uint32_t)data), 31415);
    TRY("movl (%0), %%eax", : : "r"(0x80000000) : "eax");
    check_page_fault("PAE: no pointer", 0, 0x80000000);
    write_cr0(read_cr0() & ~CR0_PG);
    check_equal("no paging", load32((uint32_t)data), 31415);
    *data = 27182;
    write_cr4(read_cr4() & ~CR4_PAE);
    write_cr3((uint32_t)directory);
    write_cr0(read_cr0() | CR0_PG);
    check_equal("two levels again", load32(va), 27182);
}

static void check_changes_without_paging(void) {
    uint32_t va = TEST + 0x50000, *first = page(), *second = page();
    *first = 1;
    *second = 2;
    uint32_t *entry = map(directory, va, (uint32_t)first, P);
    bool right = load32(va) == 1;
    write_cr0(read_cr0() & ~CR0_PG);
    *entry = (uint32_t)second | P;
    write_cr0(read_cr0() | CR0_PG);
    check_true("an entry changed while paging was off counts when it is on again", right && load32(va) == 2);
}

void guest_main(void) {
    directory = new_directory();
    write_cr4(read_cr4() | CR4_PSE);
    write_cr3((uint32_t)directory);
    write_cr0(read_cr0() | CR0_PG);
    check_equal("paging is on", read_cr0() & CR0_PG, CR0_PG);
    check_supervisor();
    check_user();
    check_large();
    check_table_stores();
    check_recursive();
    check_address_spaces();
    check_pae();
    check_changes_without_paging();
}
