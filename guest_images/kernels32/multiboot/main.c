/* Claim: a Multiboot 1 loader enters a 32-bit ELF kernel as the specification says (0.6.96, 3.2 "Machine state"), tells it
 * memory size, memory map and command line (3.3), and the PC's first interrupt controller and timer work.
 */
#include "guest32.h"

enum { HAS_MEMORY = 1, HAS_COMMAND_LINE = 4, HAS_MEMORY_MAP = 0x40, RAM = 1 };
#define MIB 0x100000u

static const struct memory_map_entry *next_of(const struct memory_map_entry *entry) {
    return (const void *)((const char *)entry + entry->size + 4);
}

static void check_memory_map(void) {
    const struct memory_map_entry *entry = (const void *)information->memory_map;
    const struct memory_map_entry *end = (const void *)(information->memory_map + information->memory_map_bytes);
    uint32_t low_bytes = 0, high_bytes = 0;
    for (; entry < end; entry = next_of(entry)) {
        if (entry->type == RAM && entry->address == 0) low_bytes = (uint32_t)entry->length;
        if (entry->type == RAM && entry->address == MIB) high_bytes = (uint32_t)entry->length;
    }
    check_true("the memory map ends where its length says", entry == end);
    check_equal("base memory is that of the memory map", information->lower_kib, low_bytes >> 10);
    check_true("memory above 1 MiB is that of the memory map", information->upper_kib - (high_bytes >> 10) <= 384);
    check_true("there are more than 16 MiB", high_bytes > 16 * MIB);
}

static void check_command_line(void) {
    const char *text = (const char *)information->command_line;
    uint32_t length = 0;
    while (length < 4096 && text[length]) length++;
    check_true("the command line begins with the kernel's name and ends", length > 0 && length < 4096 && *text != ' ');
}

static void check_interrupt(void) {
    pic_init(VECTOR_IRQ0, 1);
    pit_one_shot(1000);
    while (!interrupt_count) wait_for_interrupt();
    check_equal("the timer interrupts once", interrupt_count, 1);
    pic_init(VECTOR_IRQ0, 0);
}

void guest_main(void) {
    check_equal("EAX is the loader's magic", loader_magic, 0x2badb002);
    check_equal("protected mode without paging", read_cr0() & (CR0_PE | CR0_PG), CR0_PE);
    check_equal("the loader tells memory size and map and command line",
                information->flags & (HAS_MEMORY | HAS_COMMAND_LINE | HAS_MEMORY_MAP),
                HAS_MEMORY | HAS_COMMAND_LINE | HAS_MEMORY_MAP);
    check_memory_map();
    check_command_line();
    TRY("ud2", :);
    check_fault("#UD comes by the IDT", VECTOR_UD, 0);
    check_interrupt();
}
