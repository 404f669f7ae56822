/* Page tables: building, walking, mapping. */
#include "paging.h"

#include "console.h"
#include "cpu.h"
#include "report.h"
#include "trap.h"

#define POOL_START 0x1000000ul /* pages at 16 MiB.. */
#define POOL_END 0x4000000ul
#define LARGE_POOL_END 0xc000000ul /* ..and 2 MiB pages at 64 MiB..192 MiB */
#define TABLE_FLAGS (PTE_P | PTE_W | PTE_U)

extern const char user_start[], user_end[];

static uint64_t next_page = POOL_START, next_large_page = POOL_END;

uint64_t *page_alloc(void) {
    if (next_page == POOL_END) error("no page left");
    uint64_t *page = (uint64_t *)next_page;
    next_page += PAGE_BYTES;
    return memset(page, 0, PAGE_BYTES);
}

uint64_t *large_page_alloc(void) {
    if (next_large_page == LARGE_POOL_END) error("no large page left");
    next_large_page += LARGE_PAGE_BYTES;
    return (uint64_t *)(next_large_page - LARGE_PAGE_BYTES);
}

static unsigned index_at(uint64_t va, int level) { return va >> (12 + 9 * (level - 1)) & 511; }

uint64_t *entry_of(uint64_t *table, uint64_t va, int level) {
    for (int at = LEVEL_PML4; at > level; at--) {
        uint64_t entry = table[index_at(va, at)];
        if (!(entry & PTE_P) || (at < LEVEL_PML4 && entry & PTE_PS)) return NULL;
        table = (uint64_t *)(entry & PTE_ADDRESS);
    }
    return table + index_at(va, level);
}

uint64_t *entry_make(uint64_t *table, uint64_t va, int level) {
    for (int at = LEVEL_PML4; at > level; at--) {
        uint64_t *entry = table + index_at(va, at);
        if (!(*entry & PTE_P))
            *entry = (uint64_t)page_alloc() | TABLE_FLAGS;
        else if (at < LEVEL_PML4 && *entry & PTE_PS)
            error("0x%lx is mapped by a large page", va);
        table = (uint64_t *)(*entry & PTE_ADDRESS);
    }
    return table + index_at(va, level);
}

void map_page(uint64_t *pml4, uint64_t va, uint64_t pa, uint64_t flags) {
    *entry_make(pml4, va, LEVEL_PT) = pa | flags;
}

void map_large(uint64_t *pml4, uint64_t va, uint64_t pa, uint64_t flags) {
    *entry_make(pml4, va, LEVEL_PD) = pa | flags | PTE_PS;
}

uint64_t unmap(uint64_t *pml4, uint64_t va) {
    uint64_t *entry = entry_of(pml4, va, LEVEL_PT);
    if (!entry) error("0x%lx has no page table", va);
    uint64_t old = *entry;
    *entry = 0;
    invlpg(va);
    return old;
}

bool try_load(uint64_t va, uint64_t *ret) {
    uint64_t value = 0;
    TRY("movq (%1), %0", : "+r"(value) : "r"(va) : "memory");
    *ret = value;
    return last_fault.vector == NO_FAULT;
}

bool try_store(uint64_t va, uint64_t value) {
    TRY("movq %0, (%1)", : : "r"(value), "r"(va) : "memory");
    return last_fault.vector == NO_FAULT;
}

uint64_t *address_space_new(void) {
    uint64_t *pml4 = page_alloc();
    for (uint64_t pa = LARGE_PAGE_BYTES; pa < HUGE_PAGE_BYTES; pa += LARGE_PAGE_BYTES)
        map_large(pml4, pa, pa, PTE_P | PTE_W);
    for (uint64_t pa = 0; pa < LARGE_PAGE_BYTES; pa += PAGE_BYTES) {
        bool user = pa >= (uint64_t)user_start && pa < (uint64_t)user_end;
        map_page(pml4, pa, pa, PTE_P | PTE_W | (user ? PTE_U : 0));
    }
    return pml4;
}

bool has_nx(void) { return cpuid(0x80000000, 0).eax >= 0x80000001 && cpuid(0x80000001, 0).edx >> 20 & 1; }

bool has_huge_pages(void) { return cpuid(0x80000000, 0).eax >= 0x80000001 && cpuid(0x80000001, 0).edx >> 26 & 1; }

void paging_init(void) {
    if (has_nx()) write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_NXE);
    write_cr3((uint64_t)address_space_new());
    write_cr0(read_cr0() | CR0_WP);
}
