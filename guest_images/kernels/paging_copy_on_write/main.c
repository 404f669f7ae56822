/* Claim: copy on write works as every kernel uses it: pages shared read-only, one fault per first write, the copy
 * private, the others untouched; thousands of faults in a row, from rings 0 and 3, by fork and by zero page.
 */
#include "guest.h"

#define PAGES 256
#define VA TEST_VA
#define AVAILABLE_COW (1ul << 9) /* a bit the processor ignores */

static uint64_t *pml4;
static volatile unsigned faults;
static struct tally codes;
static uint64_t expected_code;

/* Copies the page and makes it writable, in the active address space. */
static void on_write(struct trap_frame *frame) {
    uint64_t va = read_cr2() & ~(PAGE_BYTES - 1);
    uint64_t *entry = entry_of(current_pml4(), va, LEVEL_PT);
    if (!entry || !(*entry & AVAILABLE_COW))
        error("unexpected #PF(0x%lx) at rip 0x%lx cr2 0x%lx", frame->error_code, frame->rip, read_cr2());
    tally_equal(&codes, frame->error_code, expected_code);
    faults++;
    uint64_t *copy = page_alloc();
    memcpy(copy, (void *)(*entry & PTE_ADDRESS), PAGE_BYTES);
    *entry = (uint64_t)copy | PTE_P | PTE_W | (*entry & PTE_U);
    invlpg(va);
}

static void check_zero_page(void) {
    uint64_t zero = (uint64_t)page_alloc();
    struct tally data = {0};
    for (unsigned i = 0; i < PAGES; i++) map_page(pml4, VA + i * PAGE_BYTES, zero, PTE_P | AVAILABLE_COW);
    for (unsigned i = 0; i < PAGES; i++) tally_equal(&data, load64(VA + i * PAGE_BYTES + 8 * i), 0);
    check_equal("zero page: reading does not fault", faults, 0);
    for (unsigned i = 0; i < PAGES; i += 2) {
        store64(VA + i * PAGE_BYTES + 8 * i, i + 1);
        store64(VA + i * PAGE_BYTES + 8 * (511 - i), i + 2);
    }
    check_equal("zero page: one fault per page written", faults, PAGES / 2);
    for (unsigned i = 0; i < PAGES; i++) tally_equal(&data, load64(VA + i * PAGE_BYTES + 8 * i), i & 1 ? 0 : i + 1);
    check_tally("zero page: writes are private", &data);
}

static uint64_t *fork_space(void) {
    uint64_t *child = page_alloc();
    child[0] = pml4[0];
    for (unsigned i = 0; i < PAGES; i++) {
        uint64_t *entry = entry_of(pml4, VA + i * PAGE_BYTES, LEVEL_PT);
        *entry = (*entry & ~PTE_W) | AVAILABLE_COW;
        map_page(child, VA + i * PAGE_BYTES, *entry & PTE_ADDRESS, PTE_P | PTE_U | AVAILABLE_COW);
    }
    write_cr3((uint64_t)pml4);
    return child;
}

static void check_fork(void) {
    struct tally parent = {0}, child_data = {0};
    for (unsigned i = 0; i < PAGES; i++)
        map_page(pml4, VA + i * PAGE_BYTES, (uint64_t)page_alloc(), PTE_P | PTE_W | PTE_U);
    write_cr3((uint64_t)pml4);
    for (unsigned i = 0; i < PAGES; i++) store64(VA + i * PAGE_BYTES, i);
    uint64_t *child = fork_space();
    faults = 0;
    write_cr3((uint64_t)child);
    for (unsigned i = 0; i < PAGES; i += 3) store64(VA + i * PAGE_BYTES, 1000 + i);
    check_equal("fork: the child faults once per page it writes", faults, (PAGES + 2) / 3);
    write_cr3((uint64_t)pml4);
    faults = 0;
    for (unsigned i = 0; i < PAGES; i += 5) store64(VA + i * PAGE_BYTES, 2000 + i);
    check_equal("fork: so does the parent", faults, (PAGES + 4) / 5);
    for (unsigned i = 0; i < PAGES; i++) tally_equal(&parent, load64(VA + i * PAGE_BYTES), i % 5 ? i : 2000 + i);
    write_cr3((uint64_t)child);
    for (unsigned i = 0; i < PAGES; i++) tally_equal(&child_data, load64(VA + i * PAGE_BYTES), i % 3 ? i : 1000 + i);
    write_cr3((uint64_t)pml4);
    check_tally("fork: the parent's memory", &parent);
    check_tally("fork: the child's memory", &child_data);
}

/* Writes each of the pages, in ring 3. rdi: first address, rsi is not given: the count is in rax. */
USER_CODE(user_write_pages, "movl $256, %eax; 1: movq %rdi, (%rdi); addq $4096, %rdi; decl %eax; jnz 1b");

static void check_user(void) {
    struct tally data = {0};
    uint64_t page = (uint64_t)page_alloc();
    for (unsigned i = 0; i < PAGES; i++) map_page(pml4, VA + i * PAGE_BYTES, page, PTE_P | PTE_U | AVAILABLE_COW);
    write_cr3((uint64_t)pml4);
    faults = 0;
    expected_code = PF_PRESENT | PF_WRITE | PF_USER;
    user_call((void *)user_write_pages, VA);
    check_equal("ring 3: one fault per page", faults, PAGES);
    for (unsigned i = 0; i < PAGES; i++) tally_equal(&data, load64(VA + i * PAGE_BYTES), VA + i * PAGE_BYTES);
    check_tally("ring 3: the data", &data);
}

/* A storm: write-protect again and again; each round faults once per page and keeps what was written. */
static void check_storm(void) {
    struct tally counts = {0};
    expected_code = PF_PRESENT | PF_WRITE;
    for (unsigned round = 0; round < 8; round++) {
        for (unsigned i = 0; i < PAGES; i++) {
            uint64_t *entry = entry_of(pml4, VA + i * PAGE_BYTES, LEVEL_PT);
            *entry = (*entry & ~PTE_W) | AVAILABLE_COW;
        }
        write_cr3((uint64_t)pml4);
        faults = 0;
        for (unsigned i = 0; i < PAGES; i++) *(volatile uint64_t *)(VA + i * PAGE_BYTES) += 1;
        tally_equal(&counts, faults, PAGES);
        tally_equal(&counts, load64(VA + 17 * PAGE_BYTES), VA + 17 * PAGE_BYTES + round + 1);
    }
    check_tally("write protection, eight rounds", &counts);
}

void guest_main(void) {
    pml4 = current_pml4();
    trap_set_handler(VECTOR_PF, on_write);
    expected_code = PF_PRESENT | PF_WRITE;
    check_zero_page();
    check_fork();
    check_user();
    check_storm();
    trap_set_handler(VECTOR_PF, NULL);
    check_tally("every fault had the error code of a denied write", &codes);
}
