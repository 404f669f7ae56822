/* The local APIC and the I/O APIC (SDM 3A 10, Intel 82093AA data sheet).
 *
 * apic_init() maps their pages onto themselves, uncached, and enables the local APIC with every local interrupt masked
 * (so the 8259s are cut off, too); apic_set_handler() gives a vector a handler, and the EOI follows it.
 */
#ifndef APIC_H
#define APIC_H

#include <stdbool.h>
#include <stdint.h>

#define APIC_BASE 0xfee00000ul
#define IOAPIC_BASE 0xfec00000ul

enum apic_register {
    APIC_ID = 0x020,
    APIC_VERSION = 0x030,
    APIC_TPR = 0x080,
    APIC_PPR = 0x0a0,
    APIC_EOI = 0x0b0,
    APIC_LDR = 0x0d0,
    APIC_DFR = 0x0e0,
    APIC_SVR = 0x0f0,
    APIC_ISR = 0x100,
    APIC_TMR = 0x180,
    APIC_IRR = 0x200,
    APIC_ESR = 0x280,
    APIC_ICR_LOW = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_LVT_LINT0 = 0x350,
    APIC_LVT_LINT1 = 0x360,
    APIC_LVT_ERROR = 0x370,
    APIC_TIMER_INITIAL = 0x380,
    APIC_TIMER_CURRENT = 0x390,
    APIC_TIMER_DIVIDE = 0x3e0,
};
#define APIC_ENABLED 0x100
#define APIC_SPURIOUS_VECTOR 0xff
#define LVT_MASKED (1u << 16)
#define LVT_LEVEL (1u << 15)
#define LVT_NMI (4u << 8)
#define LVT_EXTINT (7u << 8)
#define TIMER_PERIODIC (1u << 17)
#define TIMER_DEADLINE (2u << 17)
#define TIMER_DIVIDE_BY_1 0xb
#define ICR_TO_SELF (1u << 18)
#define ICR_TO_ALL (2u << 18)
#define ICR_TO_OTHERS (3u << 18)
#define ICR_LOGICAL (1u << 11)
#define ICR_LOWEST (1u << 8)
#define MSR_APIC_BASE 0x1b
#define MSR_TSC_DEADLINE 0x6e0

#define IOAPIC_SELECT 0x00
#define IOAPIC_WINDOW 0x10
enum ioapic_register { IOAPIC_ID = 0, IOAPIC_VERSION = 1, IOAPIC_ARBITRATION = 2, IOAPIC_REDIRECTION = 0x10 };
#define RTE_MASKED (1u << 16)
#define RTE_LEVEL (1u << 15)
#define RTE_REMOTE_IRR (1u << 14)
#define RTE_ACTIVE_LOW (1u << 13)
#define RTE_LOGICAL (1u << 11)

static inline uint32_t mmio_read32(uint64_t address) { return *(volatile uint32_t *)address; }
static inline void mmio_write32(uint64_t address, uint32_t value) { *(volatile uint32_t *)address = value; }
static inline uint32_t apic_read(enum apic_register offset) { return mmio_read32(APIC_BASE + offset); }
static inline void apic_write(enum apic_register offset, uint32_t value) { mmio_write32(APIC_BASE + offset, value); }

void apic_init(void);
bool apic_bit(enum apic_register first, unsigned vector);      /* of ISR, TMR or IRR */
void apic_set_handler(unsigned vector, void (*handler)(void)); /* NULL: none */
void apic_request(unsigned vector);                            /* a fixed interrupt to this CPU */
uint32_t ioapic_read(unsigned index);
void ioapic_write(unsigned index, uint32_t value);
void ioapic_route(unsigned pin, uint32_t low, unsigned destination);

#endif
