/* Local APIC and I/O APIC. */
#include "apic.h"

#include <stddef.h>

#include "paging.h"
#include "trap.h"

#define PTE_UNCACHED (1ul << 3 | 1ul << 4) /* PWT, PCD */

static void (*vector_handlers[256])(void);

void apic_init(void) {
    map_page(current_pml4(), APIC_BASE, APIC_BASE, PTE_P | PTE_W | PTE_UNCACHED);
    map_page(current_pml4(), IOAPIC_BASE, IOAPIC_BASE, PTE_P | PTE_W | PTE_UNCACHED);
    apic_write(APIC_SVR, APIC_ENABLED | APIC_SPURIOUS_VECTOR);
    for (unsigned lvt = APIC_LVT_TIMER; lvt <= APIC_LVT_ERROR; lvt += 16)
        apic_write(lvt, LVT_MASKED | APIC_SPURIOUS_VECTOR);
    apic_write(APIC_TPR, 0);
}

bool apic_bit(enum apic_register first, unsigned vector) {
    return apic_read(first + vector / 32 * 16) >> vector % 32 & 1;
}

static void handle_vector(struct trap_frame *frame) {
    vector_handlers[frame->vector & 0xff]();
    apic_write(APIC_EOI, 0);
}

void apic_set_handler(unsigned vector, void (*handler)(void)) {
    vector_handlers[vector & 0xff] = handler;
    trap_set_handler(vector, handler ? handle_vector : NULL);
}

void apic_request(unsigned vector) { apic_write(APIC_ICR_LOW, ICR_TO_SELF | vector); }

uint32_t ioapic_read(unsigned index) {
    mmio_write32(IOAPIC_BASE + IOAPIC_SELECT, index);
    return mmio_read32(IOAPIC_BASE + IOAPIC_WINDOW);
}

void ioapic_write(unsigned index, uint32_t value) {
    mmio_write32(IOAPIC_BASE + IOAPIC_SELECT, index);
    mmio_write32(IOAPIC_BASE + IOAPIC_WINDOW, value);
}

/* The destination first: the low half may unmask. */
void ioapic_route(unsigned pin, uint32_t low, unsigned destination) {
    ioapic_write(IOAPIC_REDIRECTION + 2 * pin, RTE_MASKED);
    ioapic_write(IOAPIC_REDIRECTION + 2 * pin + 1, destination << 24);
    ioapic_write(IOAPIC_REDIRECTION + 2 * pin, low);
}
