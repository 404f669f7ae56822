/* Claim: what runs at an address is what the page tables map there now: another page after remapping, new bytes after a
 * store through a writable alias, code in a page that held data, and the right function in each address space. SDM
 * 3A 4.10, 12.1.3.
 */
#include "guest.h"

#define VA TEST_VA
#define ALIAS (TEST_VA + 0x10000000)
#define PAGES 16
#define ROUNDS 200

static uint64_t *pml4, pages[PAGES];

/* mov $value, %eax; ret */
static void write_function(uint64_t code, uint32_t value) {
    *(volatile uint8_t *)code = 0xb8;
    for (unsigned i = 0; i < 4; i++) ((volatile uint8_t *)code)[1 + i] = value >> 8 * i & 0xff;
    *(volatile uint8_t *)(code + 5) = 0xc3;
}

static uint32_t call_at(uint64_t address) { return ((uint32_t (*)(void))address)(); }

/* SDM 3A 9.1.3: after modifying code through another linear address, serialize. */
static void serialize(void) { cpuid(0, 0); }

static void check_remap(const char *name, bool by_cr3) {
    struct tally tally = {0};
    for (unsigned i = 0; i < ROUNDS; i++) {
        map_page(pml4, VA, pages[i * 5 % PAGES], PTE_P);
        if (by_cr3)
            write_cr3(read_cr3());
        else
            invlpg(VA);
        tally_equal(&tally, call_at(VA), i * 5 % PAGES);
    }
    check_tally(name, &tally);
}

static void check_boundary(void) {
    struct tally tally = {0};
    uint64_t first = (uint64_t)page_alloc(), second[2] = {(uint64_t)page_alloc(), (uint64_t)page_alloc()};
    *(volatile uint8_t *)(first + 0xffe) = 0xb8; /* mov $imm32, %eax: one byte of the immediate in the first page */
    *(volatile uint8_t *)(first + 0xfff) = 0x11;
    for (unsigned i = 0; i < 2; i++) *(volatile uint32_t *)second[i] = i ? 0xc3445566 : 0xc3223344;
    map_page(pml4, VA + 0x100000, first, PTE_P);
    for (unsigned i = 0; i < ROUNDS; i++) {
        map_page(pml4, VA + 0x101000, second[i & 1], PTE_P);
        invlpg(VA + 0x101000);
        tally_equal(&tally, call_at(VA + 0x100ffe), i & 1 ? 0x44556611 : 0x22334411);
    }
    check_tally("an instruction over a boundary, its second page remapped", &tally);
}

static void check_alias(const char *name, uint64_t alias_flags) {
    struct tally tally = {0}, reversed = {0};
    map_page(pml4, VA, pages[0], PTE_P);
    map_page(pml4, ALIAS, pages[0], PTE_P | PTE_W | alias_flags);
    invlpg(VA);
    invlpg(ALIAS);
    for (unsigned i = 0; i < ROUNDS; i++) {
        write_function(ALIAS, 0x5000 + i);
        serialize();
        tally_equal(&tally, call_at(VA), 0x5000 + i);
    }
    check_tally(name, &tally);
    for (unsigned i = 0; i < ROUNDS; i++) {
        write_function(pages[0], 0x6000 + i);
        serialize();
        tally_equal(&reversed, call_at(VA), 0x6000 + i);
    }
    check_tally("and through the identity map", &reversed);
    write_function(pages[0], 0);
}

static void check_data_then_code(void) {
    struct tally tally = {0};
    uint64_t page = (uint64_t)page_alloc();
    map_page(pml4, VA, page, PTE_P | PTE_W);
    invlpg(VA);
    for (unsigned i = 0; i < 50; i++) {
        for (unsigned at = 0; at < 512; at++) store64(VA + 8 * at, at * i);
        tally_equal(&tally, load64(VA + 8 * 77), 77 * i);
        write_function(VA + 0x340, i);
        tally_equal(&tally, call_at(VA + 0x340), i);
    }
    check_tally("a page that is data, then code, then data", &tally);
}

static void check_unmapped(void) {
    map_page(pml4, VA, pages[3], PTE_P);
    invlpg(VA);
    uint32_t before = call_at(VA);
    unmap(pml4, VA);
    TRY("call *%0", : : "r"(VA) : "rax", "memory");
    check_true("code that ran and was unmapped faults",
               before == 3 && last_fault.vector == VECTOR_PF && last_fault.rip == VA);
    if (has_nx()) {
        map_page(pml4, VA, pages[3], PTE_P);
        before = call_at(VA);
        *entry_of(pml4, VA, LEVEL_PT) |= PTE_NX;
        invlpg(VA);
        TRY("call *%0", : : "r"(VA) : "rax", "memory");
        check_true("code that ran and was made NX faults",
                   before == 3 && last_fault.error_code == (PF_PRESENT | PF_FETCH));
    }
}

static void check_spaces(void) {
    struct tally tally = {0};
    uint64_t *spaces[PAGES];
    for (unsigned i = 0; i < PAGES; i++) {
        spaces[i] = page_alloc();
        spaces[i][0] = pml4[0];
        map_page(spaces[i], VA, pages[i], PTE_P);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        write_cr3((uint64_t)spaces[i * 3 % PAGES]);
        tally_equal(&tally, call_at(VA), i * 3 % PAGES);
    }
    write_cr3((uint64_t)pml4);
    check_tally("one address, other code in each address space", &tally);
}

static void check_large(void) {
    struct tally tally = {0};
    uint64_t frames[2] = {(uint64_t)large_page_alloc(), (uint64_t)large_page_alloc()}, va = TEST_VA + 0x40000000;
    for (unsigned i = 0; i < 2; i++) write_function(frames[i] + 0x12345, 70 + i);
    for (unsigned i = 0; i < ROUNDS; i++) {
        map_large(pml4, va, frames[i & 1], PTE_P);
        invlpg(on_tcg() ? va + 0x12345 : va); /* TCG forgets only the blocks of the 4 KiB page that is named */
        tally_equal(&tally, call_at(va + 0x12345), 70 + (i & 1));
    }
    check_tally("a 2 MiB page of code, remapped", &tally);
}

void guest_main(void) {
    pml4 = current_pml4();
    for (unsigned i = 0; i < PAGES; i++) {
        pages[i] = (uint64_t)page_alloc();
        write_function(pages[i], i);
    }
    check_remap("remapped, INVLPG", false);
    check_remap("remapped, MOV to CR3", true);
    check_boundary();
    check_alias("new bytes through a writable alias", 0);
    if (has_nx()) check_alias("new bytes through a writable alias with NX", PTE_NX);
    check_data_then_code();
    check_unmapped();
    check_spaces();
    check_large();
}
