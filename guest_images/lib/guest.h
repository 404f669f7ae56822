/* The library of the test kernels, all of it. A kernel defines guest_main(); returning from it gives the verdict.
 *
 * Reading order: report.h, trap.h, paging.h, segments.h, chips.h, cpu.h; then entry.S and start.c.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>

#include "chips.h"
#include "console.h"
#include "cpu.h"
#include "paging.h"
#include "report.h"
#include "segments.h"
#include "trap.h"

void guest_main(void);

/* QEMU's TCG checks our tests; where it is known not to do what the SDM says, a test may ask and leave a check out. */
bool on_tcg(void);

/* The Linux zero page (Documentation/arch/x86/zero-page.rst), what we read of it. */
struct e820_entry {
    uint64_t address, size_bytes;
    uint32_t type;
} __attribute__((packed));
enum { E820_RAM = 1 };

struct __attribute__((packed)) boot_params {
    uint8_t reserved0[0x1e8];
    uint8_t e820_count;
    uint8_t reserved1[0x228 - 0x1e9];
    uint32_t command_line;
    uint8_t reserved2[0x2d0 - 0x22c];
    struct e820_entry e820[128];
};
extern const struct boot_params *boot_params;

/* The processor as the loader left it. */
extern struct entry_state {
    uint64_t cs, ds, es, ss, rflags, cr0, cr3, cr4, efer;
} entry_state;

#endif
