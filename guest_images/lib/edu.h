/* The device of the PCI tests: QEMU's `edu` (docs/specs/edu.rst). */
#ifndef EDU_H
#define EDU_H

#include "apic.h"
#include "guest.h"
#include "pci.h"

#define EDU_ID 0x11e81234
enum { EDU_NUMBER = 0x00, EDU_LIVENESS = 0x04, EDU_FACTORIAL = 0x08, EDU_STATUS = 0x20 };
enum { EDU_INTERRUPTS = 0x24, EDU_RAISE = 0x60, EDU_ACKNOWLEDGE = 0x64 };
enum { EDU_SOURCE = 0x80, EDU_DESTINATION = 0x88, EDU_COUNT = 0x90, EDU_COMMAND = 0x98 };
#define EDU_RUN 1u
#define EDU_TO_MEMORY 2u
#define EDU_INTERRUPT_AFTER 4u
#define EDU_DMA_DONE 0x100u /* of EDU_INTERRUPTS */
#define EDU_BUFFER 0x40000u /* as source or destination */
#define EDU_AT_ONCE 4080u   /* it has 4096 bytes, but QEMU 7.2 refuses the last one */

struct edu {
    unsigned slot;
    uint64_t registers;
};

static inline uint32_t edu_read(const struct edu *edu, unsigned offset) { return mmio_read32(edu->registers + offset); }
static inline void edu_write(const struct edu *edu, unsigned offset, uint32_t value) {
    mmio_write32(edu->registers + offset, value);
}

static inline void edu_allow(const struct edu *edu, uint32_t command) { config_write(edu->slot, PCI_COMMAND, command); }

/* The device where firmware has put it, its registers mapped, bus mastering on. */
static inline struct edu edu_find(void) {
    struct edu edu = {0};
    for (unsigned slot = 1; slot < SLOTS && !edu.slot; slot++)
        if (config_read(slot, PCI_ID) == EDU_ID) edu.slot = slot;
    if (!edu.slot) skip("no PCI device edu");
    edu.registers = config_read(edu.slot, PCI_BAR0) & ~0xfu;
    map_page(current_pml4(), edu.registers, edu.registers, PTE_P | PTE_W | 1ul << 4);
    edu_allow(&edu, COMMAND_MEMORY | COMMAND_MASTER);
    return edu;
}

static inline void edu_start(const struct edu *edu, uint64_t source, uint64_t destination, uint32_t count,
                             uint32_t command) {
    *(volatile uint64_t *)(edu->registers + EDU_SOURCE) = source;
    *(volatile uint64_t *)(edu->registers + EDU_DESTINATION) = destination;
    edu_write(edu, EDU_COUNT, count);
    edu_write(edu, EDU_COMMAND, command | EDU_RUN);
}

static struct edu edu_waited_for;
static inline void edu_on_done(void) { edu_write(&edu_waited_for, EDU_ACKNOWLEDGE, EDU_DMA_DONE); }

/* Halt until a transfer that interrupts is done; interrupts go through the 8259s, and are taken only here. */
static inline void edu_finish(const struct edu *edu) {
    edu_waited_for = *edu;
    irq_set_handler(config_read(edu->slot, PCI_INTERRUPT) & 0xf, edu_on_done);
    while (edu_read(edu, EDU_COMMAND) & EDU_RUN) wait_for_interrupt();
}

/* From memory into the buffer, and back to elsewhere: `count` bytes, EDU_AT_ONCE at most. */
static inline void edu_take(const struct edu *edu, uint64_t source, uint32_t count) {
    edu_start(edu, source, EDU_BUFFER, count, EDU_INTERRUPT_AFTER);
    edu_finish(edu);
}
static inline void edu_put(const struct edu *edu, uint64_t destination, uint32_t count) {
    edu_start(edu, EDU_BUFFER, destination, count, EDU_TO_MEMORY | EDU_INTERRUPT_AFTER);
    edu_finish(edu);
}
static inline void edu_copy(const struct edu *edu, const void *source, void *destination, uint32_t count) {
    for (uint32_t at = 0; at < count; at += EDU_AT_ONCE) {
        uint32_t part = count - at < EDU_AT_ONCE ? count - at : EDU_AT_ONCE;
        edu_take(edu, (uint64_t)source + at, part);
        edu_put(edu, (uint64_t)destination + at, part);
    }
}

#endif
