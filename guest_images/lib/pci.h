/* PCI configuration space by mechanism #1 (PCI Local Bus Specification 3.0, 3.2.2.3.2 and 6). */
#ifndef PCI_H
#define PCI_H

#include <stdint.h>

#include "cpu.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define CONFIG_ENABLE 0x80000000u
#define SLOTS 32
enum { PCI_ID = 0x00, PCI_COMMAND = 0x04, PCI_CLASS = 0x08, PCI_BAR0 = 0x10, PCI_BAR1 = 0x14, PCI_INTERRUPT = 0x3c };
enum { PCI_CAPABILITIES = 0x34 };
#define COMMAND_MEMORY 2u
#define COMMAND_MASTER 4u
#define COMMAND_NO_INTERRUPTS (1u << 10)
#define STATUS_INTERRUPT (1u << 19) /* of the doubleword at PCI_COMMAND */
#define STATUS_CAPABILITIES (1u << 20)

static inline uint32_t config_read(unsigned slot, unsigned offset) {
    out32(CONFIG_ADDRESS, CONFIG_ENABLE | slot << 11 | offset);
    return in32(CONFIG_DATA);
}

static inline void config_write(unsigned slot, unsigned offset, uint32_t value) {
    out32(CONFIG_ADDRESS, CONFIG_ENABLE | slot << 11 | offset);
    out32(CONFIG_DATA, value);
}

#endif
