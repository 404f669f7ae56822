/* Claim: memory above 4 GiB, which the memory map tells of, is memory like any other: it holds what is stored in it, all of
 * it, apart from what is below; code runs there, page tables lie there, also their root, and a device reaches it (SDM 3A 4.5).
 */
#include "edu.h"

#define FOUR_GIB 0x100000000ul
#define WINDOW(page) (TEST_VA + (page) * LARGE_PAGE_BYTES)
#define SAMPLES 64u
#define MOV_EAX_IMMEDIATE 0xb8
#define RET 0xc3

static struct e820_entry high;

static void find_high(void) {
    uint64_t low_end = 0;
    for (unsigned i = 0; i < boot_params->e820_count; i++) {
        struct e820_entry entry = boot_params->e820[i];
        if (entry.type != E820_RAM) continue;
        if (entry.address >= FOUR_GIB && entry.size_bytes > high.size_bytes) high = entry;
        if (entry.address < FOUR_GIB && entry.address + entry.size_bytes > low_end)
            low_end = entry.address + entry.size_bytes;
    }
    if (!high.size_bytes) skip("no memory above 4 GiB");
    check_equal("it begins at 4 GiB", high.address, FOUR_GIB);
    check_true("below it is a hole for devices", low_end <= 0xe0000000);
}

static void map_window(unsigned number, uint64_t address) {
    map_large(current_pml4(), WINDOW(number), address & ~(LARGE_PAGE_BYTES - 1), PTE_P | PTE_W);
}

/* Pages all over it, the first and the last too. */
static uint64_t sample(unsigned i) {
    return high.address + ((high.size_bytes - PAGE_BYTES) / (SAMPLES - 1) * i & ~(PAGE_BYTES - 1));
}
static volatile uint64_t *at(unsigned i) {
    return (volatile uint64_t *)(WINDOW(i) + (sample(i) & (LARGE_PAGE_BYTES - 1)));
}

static void check_all_of_it(void) {
    struct tally zero = {0}, kept = {0}, low = {0};
    for (unsigned i = 0; i < SAMPLES; i++) map_window(i, sample(i));
    for (unsigned i = 0; i < SAMPLES; i++) tally_equal(&zero, at(i)[1], 0);
    for (unsigned i = 0; i < SAMPLES; i++) *at(i) = sample(i) * 3 + 1;
    for (unsigned i = 0; i < SAMPLES; i++) tally_equal(&kept, *at(i), sample(i) * 3 + 1);
    for (uint64_t address = 0x2000000; address < 0x4000000; address += 0x100000) tally_equal(&low, load64(address), 0);
    check_tally("it is zero at first", &zero);
    check_tally("it holds what is stored, from its first page to its last", &kept);
    check_tally("and memory below does not change", &low);
}

static void check_code(void) {
    volatile uint8_t *code = (volatile uint8_t *)at(3);
    struct tally tally = {0};
    for (uint32_t round = 0; round < 5; round++) {
        code[0] = MOV_EAX_IMMEDIATE;
        for (int i = 0; i < 4; i++) code[1 + i] = (round * 0x01030507) >> 8 * i;
        code[5] = RET;
        uint32_t result;
        asm volatile("call *%1" : "=a"(result) : "r"(code) : "memory", "cc");
        tally_equal(&tally, result, round * 0x01030507);
    }
    check_tally("code runs there, and changes", &tally);
}

/* A root and the tables under it, all above 4 GiB: the identity map of this kernel, and one page of the sample. */
static void check_tables(void) {
    uint64_t *old = current_pml4(), va = TEST_VA + 8 * HUGE_PAGE_BYTES, tables[4];
    for (unsigned level = 0; level < 4; level++) {
        tables[level] = sample(10 + level);
        for (unsigned i = 0; i < 512; i++) at(10 + level)[i] = level ? 0 : old[i];
    }
    at(10)[va >> 39 & 511] = tables[1] | PTE_P | PTE_W;
    at(11)[va >> 30 & 511] = tables[2] | PTE_P | PTE_W;
    at(12)[va >> 21 & 511] = tables[3] | PTE_P | PTE_W;
    at(13)[va >> 12 & 511] = sample(20) | PTE_P | PTE_W;
    *at(20) = 0x1234567890abcdef;
    uint64_t cr3 = read_cr3();
    write_cr3(tables[0]);
    uint64_t seen = load64(va), root = read_cr3();
    store64(va + 8, 77);
    write_cr3(cr3);
    check_equal("CR3 holds its address", root, tables[0]);
    check_equal("tables there translate", seen, 0x1234567890abcdef);
    check_equal("also for stores", at(20)[1], 77);
    check_equal("which set A and D there", at(13)[va >> 12 & 511] & (PTE_A | PTE_D), PTE_A | PTE_D);
}

static void check_device(void) {
    struct edu edu = edu_find();
    for (unsigned i = 0; i < 32; i++) at(30)[i] = i * i + 7;
    edu_take(&edu, sample(30), 256);
    edu_put(&edu, sample(31) + 64, 256);
    struct tally tally = {0};
    for (unsigned i = 0; i < 32; i++) tally_equal(&tally, at(31)[8 + i], i * i + 7);
    check_tally("a device reads and writes it", &tally);
}

void guest_main(void) {
    find_high();
    check_all_of_it();
    check_code();
    check_tables();
    check_device();
}
