/* Claim: the loader keeps the boot contract (README.md): 64-bit mode with flat segments, interrupts off, the first 4
 * GiB mapped onto themselves, a zero page with a memory map and a command line, and the image's zero-initialised data
 * zero.
 */
#include "guest.h"

#define MIB 0x100000ul
#define LEAST_MEMORY_BYTES (250 * MIB)
#define FOUR_GIB 0x100000000ul
#define COMMAND_LINE_LIMIT 4096

static uint8_t zeroed[3 * PAGE_BYTES];

static void check_processor(void) {
    check_equal("CS", entry_state.cs, SEL_KERNEL_CODE);
    check_equal("DS, ES and SS are the same", (entry_state.ds ^ entry_state.es) | (entry_state.ds ^ entry_state.ss), 0);
    check_equal("DS", entry_state.ds, SEL_KERNEL_DATA);
    check_equal("RFLAGS: IF, DF, TF, NT and IOPL are clear",
                entry_state.rflags & (RFLAGS_IF | RFLAGS_DF | RFLAGS_TF | RFLAGS_NT | RFLAGS_IOPL), 0);
    check_equal("CR0: PE and PG", entry_state.cr0 & (CR0_PE | CR0_PG), CR0_PE | CR0_PG);
    check_equal("CR4: PAE", entry_state.cr4 & CR4_PAE, CR4_PAE);
    check_equal("EFER: LME and LMA", entry_state.efer & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
}

/* The loader's tables are still in memory: 2 MiB pages, each onto itself, present and writable. */
static void check_identity_map(void) {
    struct tally tally = {0};
    for (uint64_t va = 0; va < FOUR_GIB; va += LARGE_PAGE_BYTES) {
        uint64_t *entry = entry_of((uint64_t *)(entry_state.cr3 & PTE_ADDRESS), va, LEVEL_PD);
        uint64_t flags = PTE_P | PTE_W | PTE_PS;
        tally_equal(&tally, entry ? *entry & (PTE_ADDRESS | flags) : 0, va | flags);
    }
    check_tally("4 GiB are mapped onto themselves", &tally);
}

static void check_memory_map(void) {
    uint64_t memory_bytes = 0, image_at = (uint64_t)guest_main;
    struct tally sane = {0};
    bool image_in_ram = false;
    for (unsigned i = 0; i < boot_params->e820_count && i < 128; i++) {
        const struct e820_entry *entry = &boot_params->e820[i];
        tally_equal(&sane, entry->address + entry->size_bytes > entry->address, true);
        if (entry->type != E820_RAM) continue;
        memory_bytes += entry->size_bytes;
        image_in_ram |= entry->address <= image_at && image_at < entry->address + entry->size_bytes;
    }
    check_tally("e820: there are entries, none is empty", &sane);
    check_true("e820: there is enough memory", memory_bytes >= LEAST_MEMORY_BYTES);
    check_true("e820: the image is in memory", image_in_ram);
}

static void check_command_line(void) {
    const char *text = (const char *)(uint64_t)boot_params->command_line;
    unsigned length = 0;
    while (text && text[length] && length < COMMAND_LINE_LIMIT) length++;
    check_true("the command line is there and ends", text && length < COMMAND_LINE_LIMIT);
}

void guest_main(void) {
    struct tally tally = {0};
    check_processor();
    check_identity_map();
    check_memory_map();
    check_command_line();
    for (unsigned i = 0; i < sizeof zeroed; i++) tally_equal(&tally, ((volatile uint8_t *)zeroed)[i], 0);
    check_tally("what the ELF file does not fill is zero", &tally);
}
