/* Claim: after a MOV to CR3 every address means what the new tables say; address spaces do not leak into each other,
 * also when a table page is freed and used for another space or for data. SDM 3A 4.10.4.1.
 */
#include "guest.h"

#define SPACES 24
#define ROUNDS 40
#define PRIVATE_VA TEST_VA
#define SHARED_VA (TEST_VA + 0x8000000000)
#define CR4_PGE_SUPPORTED (1u << 13)

USER_CODE(user_load, "movq (%rdi), %rax");

static uint64_t *first_pml4, *spaces[SPACES], *pages[SPACES], *shared_page;

/* A level 4 table that shares the identity map with the first one. */
static void space_make(unsigned i) {
    spaces[i] = page_alloc();
    pages[i] = page_alloc();
    spaces[i][0] = first_pml4[0];
    pages[i][0] = 1000 + i;
    map_page(spaces[i], PRIVATE_VA, (uint64_t)pages[i], PTE_P | PTE_W | PTE_U);
    map_page(spaces[i], SHARED_VA, (uint64_t)shared_page, PTE_P | PTE_W | PTE_U);
}

static void check_private(void) {
    struct tally own = {0}, shared = {0}, user = {0};
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned i = 0; i < SPACES; i++) {
            unsigned at = (i * 7 + round) % SPACES;
            write_cr3((uint64_t)spaces[at]);
            tally_equal(&own, load64(PRIVATE_VA), 1000 + at + (uint64_t)round * 10000);
            store64(PRIVATE_VA, 1000 + at + (round + 1ul) * 10000);
            tally_equal(&shared, load64(SHARED_VA), round * (uint64_t)SPACES + i);
            store64(SHARED_VA, round * (uint64_t)SPACES + i + 1);
            if (i % 8 == 0)
                tally_equal(&user, user_call((void *)user_load, PRIVATE_VA), 1000 + at + (round + 1ul) * 10000);
        }
    check_tally("each space sees its own page", &own);
    check_tally("all spaces see the shared page", &shared);
    check_tally("ring 3 too", &user);
}

static void check_absent(void) {
    struct tally tally = {0};
    uint64_t value;
    for (unsigned i = 0; i < SPACES; i++) {
        write_cr3((uint64_t)spaces[i]);
        map_page(spaces[i], PRIVATE_VA + 0x10000 * (i + 1), (uint64_t)pages[i], PTE_P);
        for (unsigned j = 0; j <= i; j++) tally_equal(&tally, try_load(PRIVATE_VA + 0x10000 * (j + 1), &value), j == i);
    }
    check_tally("what one space maps is absent in the others", &tally);
}

/* Tables edited while another space is active are right when theirs becomes active. */
static void check_remote_edit(void) {
    struct tally tally = {0};
    for (unsigned round = 0; round < 10; round++) {
        write_cr3((uint64_t)spaces[0]);
        for (unsigned i = 1; i < SPACES; i++)
            *entry_of(spaces[i], PRIVATE_VA, LEVEL_PT) = (uint64_t)pages[(i + round) % SPACES] | PTE_P | PTE_W;
        for (unsigned i = 1; i < SPACES; i++) {
            write_cr3((uint64_t)spaces[i]);
            tally_equal(&tally, load64(PRIVATE_VA) % 10000, 1000 + (i + round) % SPACES);
        }
    }
    check_tally("edits to a space that is not active", &tally);
}

static void check_reuse(void) {
    struct tally data = {0}, space = {0};
    for (unsigned round = 0; round < 12; round++) {
        uint64_t *page = spaces[1];
        write_cr3((uint64_t)first_pml4);
        for (unsigned i = 0; i < 512; i++) page[i] = round * 512 + i; /* the freed table is data now */
        for (unsigned i = 0; i < 512; i++) tally_equal(&data, page[i], round * 512 + i);
        memset(page, 0, PAGE_BYTES);
        page[0] = first_pml4[0];
        map_page(page, PRIVATE_VA, (uint64_t)pages[round % SPACES], PTE_P | PTE_W);
        write_cr3((uint64_t)page);
        tally_equal(&space, load64(PRIVATE_VA) % 10000, 1000 + round % SPACES);
    }
    write_cr3((uint64_t)first_pml4);
    check_tally("a freed level 4 table as data", &data);
    check_tally("and as a level 4 table again", &space);
}

static void check_global(void) {
    uint64_t *page = page_alloc();
    if (!(cpuid(1, 0).edx & CR4_PGE_SUPPORTED)) return;
    write_cr4(read_cr4() | CR4_PGE);
    page[0] = 5;
    for (unsigned i = 0; i < SPACES; i++)
        map_page(spaces[i], TEST_VA + 0x123000, (uint64_t)page, PTE_P | PTE_W | PTE_G);
    struct tally tally = {0};
    for (unsigned i = 0; i < SPACES; i++) {
        write_cr3((uint64_t)spaces[i]);
        tally_equal(&tally, load64(TEST_VA + 0x123000), 5 + i);
        store64(TEST_VA + 0x123000, 6 + i);
    }
    check_tally("a global page, the same in all spaces", &tally);
    uint64_t *other = page_alloc();
    write_cr3((uint64_t)spaces[2]);
    *entry_of(spaces[2], TEST_VA + 0x123000, LEVEL_PT) = (uint64_t)other | PTE_P | PTE_W | PTE_G;
    write_cr4(read_cr4() & ~CR4_PGE); /* flushes global entries */
    check_equal("a changed global page is seen after CR4.PGE was cleared", load64(TEST_VA + 0x123000), 0);
    write_cr3((uint64_t)first_pml4);
}

void guest_main(void) {
    first_pml4 = current_pml4();
    shared_page = page_alloc();
    for (unsigned i = 0; i < SPACES; i++) space_make(i);
    check_private();
    check_absent();
    check_remote_edit();
    check_global();
    check_reuse();
}
