/* Four-level page tables (SDM 3A 4.5) over an identity map.
 *
 *   47       39 38       30 29       21 20       12 11        0
 *  |  level 4  |  level 3  |  level 2  |  level 1  |  offset  |     level n entry maps 2^(12 + 9 (n - 1)) bytes
 *
 * After paging_init(): the first 1 GiB is mapped onto itself, supervisor and writable, in 2 MiB pages; the first 2 MiB
 * in 4 KiB pages, of which those of .user_text and .user_data belong to ring 3. Free for tests: addresses from
 * TEST_VA on, and pages from page_alloc().
 */
#ifndef PAGING_H
#define PAGING_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_BYTES 0x1000ul
#define LARGE_PAGE_BYTES 0x200000ul
#define HUGE_PAGE_BYTES 0x40000000ul
#define PTE_P (1ul << 0)
#define PTE_W (1ul << 1)
#define PTE_U (1ul << 2)
#define PTE_A (1ul << 5)
#define PTE_D (1ul << 6)
#define PTE_PS (1ul << 7)
#define PTE_G (1ul << 8)
#define PTE_NX (1ul << 63)
#define PTE_ADDRESS 0x000ffffffffff000ul
#define TEST_VA 0x0000400000000000ul

enum { LEVEL_PT = 1, LEVEL_PD, LEVEL_PDPT, LEVEL_PML4 };

void paging_init(void);
uint64_t *page_alloc(void);                                   /* a zeroed 4 KiB page, at its physical address */
uint64_t *large_page_alloc(void);                             /* 2 MiB, aligned; not zeroed */
uint64_t *address_space_new(void);                            /* a PML4 with the identity map in it */
uint64_t *entry_of(uint64_t *pml4, uint64_t va, int level);   /* NULL when a level above is missing or large */
uint64_t *entry_make(uint64_t *pml4, uint64_t va, int level); /* makes the tables above, as P|W|U */
void map_page(uint64_t *pml4, uint64_t va, uint64_t pa, uint64_t flags);
void map_large(uint64_t *pml4, uint64_t va, uint64_t pa, uint64_t flags);
uint64_t unmap(uint64_t *pml4, uint64_t va); /* clears the 4 KiB entry, INVLPG; the old entry */
bool try_load(uint64_t va, uint64_t *ret);   /* 64 bits; false when it faults: see last_fault */
bool try_store(uint64_t va, uint64_t value);
bool has_nx(void);
bool has_huge_pages(void);

static inline uint64_t *current_pml4(void) {
    uint64_t cr3;
    asm volatile("mov %%cr3, %0" : "=r"(cr3) : : "memory");
    return (uint64_t *)(cr3 & PTE_ADDRESS);
}

static inline uint64_t load64(uint64_t va) { return *(volatile uint64_t *)va; }
static inline void store64(uint64_t va, uint64_t value) { *(volatile uint64_t *)va = value; }

#endif
