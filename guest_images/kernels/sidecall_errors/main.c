/* Claim: a request that cannot be is answered with an error, and touches nothing; pages that cannot be registered are
 * refused; a page that is unregistered is memory again. Without a sidecore there is nothing to check but that.
 */
#include "guest.h"
#include "sidecore.h"

#define MEMORY_END 0x10000000ul /* 256 MiB */
#define ENOSYS (-38)

static struct sidecore_slot *slot;
static uint64_t *table;

static int64_t call(uint32_t operation, uint64_t first, uint64_t second) {
    if (!sidecore_post(slot, operation, first, second)) return 1;
    return sidecore_collect(slot);
}

static void check_requests(void) {
    struct tally tally = {0};
    uint64_t good = (uint64_t)table | PTE_P | PTE_W | PTE_A | PTE_D;
    table[1] = good;
    tally_equal(&tally, call(99, 0, 0), SIDECORE_EOPERATION);
    tally_equal(&tally, call(~0u, 0, 0), SIDECORE_EOPERATION);
    for (uint32_t operation = SIDECORE_OP_PTE_SET; operation <= SIDECORE_OP_PTE_CHANGE; operation++) {
        tally_equal(&tally, call(operation, (uint64_t)table + 1, good), SIDECORE_EADDRESS);
        tally_equal(&tally, call(operation, MEMORY_END, good), SIDECORE_EADDRESS);
        tally_equal(&tally, call(operation, MEMORY_END - 4, good), SIDECORE_EADDRESS);
        tally_equal(&tally, call(operation, ~0ul - 7, good), SIDECORE_EADDRESS);
        tally_equal(&tally, call(operation, 1ul << 63, good), SIDECORE_EADDRESS);
        tally_equal(&tally, call(operation, (uint64_t)table, MEMORY_END | PTE_P), SIDECORE_EVALUE);
        tally_equal(&tally, call(operation, (uint64_t)table, PTE_ADDRESS | PTE_P | PTE_W), SIDECORE_EVALUE);
    }
    tally_equal(&tally, call(SIDECORE_OP_PTE_SET, (uint64_t)(table + 1), good), SIDECORE_EVALUE);
    tally_equal(&tally, table[0], 0);
    tally_equal(&tally, table[1], good);
    tally_equal(&tally, call(SIDECORE_OP_PTE_SET, (uint64_t)table, good), 0);
    tally_equal(&tally, table[0], good);
    check_tally("bad requests", &tally);
}

static void check_slot(void) {
    struct tally tally = {0};
    tally_equal(&tally, call(SIDECORE_OP_NULL, 7, 0), 0);
    slot->state = SIDECORE_POSTED; /* the same sequence number again */
    tally_equal(&tally, sidecore_collect(slot), SIDECORE_ESEQUENCE);
    slot->state = 0xdeadbe00; /* nothing that a state is */
    tally_equal(&tally, slot->state, 0xdeadbe00);
    slot->state = SIDECORE_FREE;
    tally_equal(&tally, call(SIDECORE_OP_NULL, 8, 0), 0);
    tally_equal(&tally, slot->results[0], 8);
    sidecore_slot(2)->state = SIDECORE_POSTED; /* not one of the slots in use */
    tally_equal(&tally, call(SIDECORE_OP_NULL, 9, 0), 0);
    tally_equal(&tally, sidecore_slot(2)->state, SIDECORE_POSTED);
    check_tally("what is wrong with slots", &tally);
}

static void check_registration(void) {
    struct tally tally = {0};
    uint64_t page = (uint64_t)page_alloc();
    tally_equal(&tally, hypercall(SIDECORE_CALL_REGISTER, page, 1), -17);
    slot->sequence++; /* posted, and then the page goes */
    slot->state = SIDECORE_POSTED;
    tally_equal(&tally, sidecore_unregister(), 0);
    tally_equal(&tally, sidecore_unregister(), -2);
    tally_equal(&tally, sidecore_switch(true), -2);
    slot->state = SIDECORE_POSTED;
    for (volatile unsigned i = 0; i < 10000; i++);
    tally_equal(&tally, slot->state, SIDECORE_POSTED);
    tally_equal(&tally, hypercall(SIDECORE_CALL_REGISTER, page + 64, 1), -22);
    tally_equal(&tally, hypercall(SIDECORE_CALL_REGISTER, MEMORY_END, 1), -22);
    tally_equal(&tally, hypercall(SIDECORE_CALL_REGISTER, ~0xffful, 1), -22);
    tally_equal(&tally, hypercall(SIDECORE_CALL_REGISTER, page, 0), -22);
    tally_equal(&tally, hypercall(SIDECORE_CALL_REGISTER, page, SIDECORE_SLOTS_MAX + 1), -22);
    tally_equal(&tally, hypercall(SIDECORE_CALL_REGISTER, page, SIDECORE_SLOTS_MAX), 0);
    slot = (struct sidecore_slot *)page + SIDECORE_SLOTS_MAX - 1;
    tally_equal(&tally, call(SIDECORE_OP_NULL, 10, 0), 0);
    check_tally("registering", &tally);
}

void guest_main(void) {
    int64_t result = ENOSYS;
    if (sidecore_init(2)) {
        slot = sidecore_slot(0);
        table = page_alloc();
        check_requests();
        check_slot();
        check_registration();
    } else if (cpuid(1, 0).ecx & 1u << 31 && !on_tcg()) {
        result = hypercall(SIDECORE_CALL_REGISTER, 0x1000, 1);
    }
    check_equal("without a sidecore there is no such hypercall", (uint64_t)result, (uint64_t)ENOSYS);
}
