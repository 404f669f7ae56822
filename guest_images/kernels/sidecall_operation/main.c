/* Claim: the ABI of sidecalls (lib/sidecore.h) is all that a guest needs: discovery, registration, a request, the answer,
 * step by step and without the library's call sites. It asks for operation 100 of 21, which no VMM has unless a script
 * has added it: vmm/sidecore/README.md does, and then it is twice the argument.
 */
#include "guest.h"
#include "sidecore.h"

#define OPERATION 100
#define ARGUMENT 21

static int64_t vmcall(uint64_t number, uint64_t first, uint64_t second) {
    int64_t result;
    asm volatile("vmcall" : "=a"(result) : "a"(number), "D"(first), "S"(second) : "memory");
    return result;
}

static bool is_offered(void) {
    if (on_tcg() || !(cpuid(1, 0).ecx & 1u << 31)) return false; /* no hypervisor */
    if (cpuid(0x40000000, 0).eax < SIDECORE_CPUID) return false; /* none of its leaves is this one */
    struct cpuid_result leaf = cpuid(SIDECORE_CPUID, 0);
    return leaf.eax == SIDECORE_ABI && leaf.ebx & SIDECORE_CPUID_PRESENT;
}

/* The status; `result` is the first word of the answer. */
static int ask(struct sidecore_slot *slot, uint64_t *result) {
    if (slot->state & SIDECORE_CLOSED) return SIDECORE_ECLOSED; /* switched off: a guest does without */
    slot->sequence++;
    slot->operation = OPERATION;
    slot->arguments[0] = ARGUMENT;
    slot->state = SIDECORE_POSTED; /* the last store: from now on the line is the sidecore's */
    while ((slot->state & SIDECORE_STATE) == SIDECORE_POSTED) asm volatile("pause" : : : "memory");
    *result = slot->results[0];
    return slot->status;
}

void guest_main(void) {
    uint64_t result = 0;
    int status = SIDECORE_EOPERATION;
    if (is_offered()) {
        struct sidecore_slot *page = (struct sidecore_slot *)page_alloc(); /* zeroed; identity-mapped, so this is its guest-physical address */
        check_equal("the page is registered", vmcall(SIDECORE_CALL_REGISTER, (uint64_t)page, 1), 0);
        status = ask(page, &result);
        print("~ operation %u of %u: status %d, %lu\n", OPERATION, ARGUMENT, status, result);
        check_equal("the page is given back", vmcall(SIDECORE_CALL_UNREGISTER, 0, 0), 0);
    }
    bool is_right = status == SIDECORE_EOPERATION || (status == 0 && result == 2 * ARGUMENT);
    check_true("the answer is right, or that there is no such operation", is_right);
}
