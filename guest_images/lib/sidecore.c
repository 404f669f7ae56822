/* The guest's side of sidecalls: see sidecore.h. Slot 0 is that of the blocking calls. */
#include "sidecore.h"

#include "guest.h"

#define CPUID_HYPERVISOR (1u << 31)

static struct sidecore_slot *slots;
static bool has_hypervisor;

int64_t hypercall(uint64_t number, uint64_t first, uint64_t second) {
    int64_t result;
    asm volatile("vmcall" : "=a"(result) : "a"(number), "D"(first), "S"(second) : "memory");
    return result;
}

bool sidecore_init(unsigned count) {
    has_hypervisor = cpuid(1, 0).ecx & CPUID_HYPERVISOR && !on_tcg();
    if (!has_hypervisor || cpuid(SIDECORE_CPUID & ~0xffu, 0).eax < SIDECORE_CPUID) return false;
    struct cpuid_result leaf = cpuid(SIDECORE_CPUID, 0);
    if (leaf.eax != SIDECORE_ABI || !(leaf.ebx & SIDECORE_CPUID_PRESENT)) return false;
    struct sidecore_slot *page = (struct sidecore_slot *)page_alloc();
    if (hypercall(SIDECORE_CALL_REGISTER, (uint64_t)page, count)) return false;
    slots = page;
    return true;
}

struct sidecore_slot *sidecore_slot(unsigned index) { return slots + index; }

int64_t sidecore_switch(bool on) { return hypercall(SIDECORE_CALL_SWITCH, on, 0); }

int64_t sidecore_unregister(void) {
    slots = 0;
    return hypercall(SIDECORE_CALL_UNREGISTER, 0, 0);
}

bool sidecore_post(struct sidecore_slot *slot, uint32_t operation, uint64_t argument0, uint64_t argument1) {
    if (slot->state & SIDECORE_CLOSED) return false;
    slot->sequence++;
    slot->operation = operation;
    slot->arguments[0] = argument0;
    slot->arguments[1] = argument1;
    slot->state = SIDECORE_POSTED; /* stores of a processor are seen in order (SDM 3A 9.2.2) */
    return true;
}

int sidecore_collect(struct sidecore_slot *slot) {
    while ((slot->state & SIDECORE_STATE) == SIDECORE_POSTED) asm volatile("pause" : : : "memory");
    return slot->status;
}

static bool sidecall(uint32_t operation, uint64_t argument0, uint64_t argument1) {
    return slots && sidecore_post(slots, operation, argument0, argument1) && !sidecore_collect(slots);
}

void sidecore_null(void) {
    if (!sidecall(SIDECORE_OP_NULL, 0, 0) && has_hypervisor) hypercall(SIDECORE_CALL_NULL, 0, 0);
}

struct cpuid_result sidecore_cpuid(uint32_t leaf, uint32_t subleaf) {
    if (!sidecall(SIDECORE_OP_CPUID, leaf, subleaf)) return cpuid(leaf, subleaf);
    uint64_t low = slots->results[0], high = slots->results[1];
    return (struct cpuid_result){(uint32_t)low, low >> 32, (uint32_t)high, high >> 32};
}

void sidecore_change_pte(uint64_t *entry, uint64_t value, uint64_t va) {
    if (sidecall(SIDECORE_OP_PTE_CHANGE, (uint64_t)entry, value)) return;
    *(volatile uint64_t *)entry = value;
    invlpg(va);
}

void sidecore_set_pte(uint64_t *entry, uint64_t value) {
    if (!sidecall(SIDECORE_OP_PTE_SET, (uint64_t)entry, value)) *(volatile uint64_t *)entry = value;
}
