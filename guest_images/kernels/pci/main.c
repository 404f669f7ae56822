/* Claim: a driver finds its device by PCI configuration space, learns the size of its registers and moves them, and takes
 * its level-triggered interrupt through the 8259s, where the interrupt line register says, and through the I/O APIC, where
 * the MP table says (PCI Local Bus Specification 2.3, 3.2.2.3.2 and 6.2; MP specification 1.4, D.4). The device is QEMU's
 * `edu` (docs/specs/edu.rst).
 */
#include "apic.h"
#include "guest.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define CONFIG_ENABLE 0x80000000u
#define SLOTS 32
enum { PCI_ID = 0x00, PCI_COMMAND = 0x04, PCI_CLASS = 0x08, PCI_BAR0 = 0x10, PCI_BAR1 = 0x14, PCI_INTERRUPT = 0x3c };
#define COMMAND_MEMORY 2u
#define COMMAND_NO_INTERRUPTS (1u << 10)
#define STATUS_INTERRUPT (1u << 19) /* of the doubleword at PCI_COMMAND */

#define EDU_ID 0x11e81234
#define EDU_NUMBER_VALUE 0x010000ed
#define EDU_BYTES 0x100000u
#define OTHER_PLACE 0xe8000000u
enum { EDU_NUMBER = 0x00, EDU_LIVENESS = 0x04, EDU_FACTORIAL = 0x08, EDU_STATUS = 0x20 };
enum { EDU_INTERRUPTS = 0x24, EDU_RAISE = 0x60, EDU_ACKNOWLEDGE = 0x64 };
#define EDU_COMPUTING 1u
#define EDU_INTERRUPT_WHEN_DONE 0x80u

#define IO_VECTOR 0x61
#define CAUSES 3u /* two bits, acknowledged one by one */

static unsigned slot;
static uint64_t registers;
static volatile unsigned interrupts;
static volatile uint32_t causes[4];

static uint32_t config_read(unsigned at, unsigned offset) {
    out32(CONFIG_ADDRESS, CONFIG_ENABLE | at << 11 | offset);
    return in32(CONFIG_DATA);
}

static void config_write(unsigned offset, uint32_t value) {
    out32(CONFIG_ADDRESS, CONFIG_ENABLE | slot << 11 | offset);
    out32(CONFIG_DATA, value);
}

static uint32_t edu_read(unsigned offset) { return mmio_read32(registers + offset); }
static void edu_write(unsigned offset, uint32_t value) { mmio_write32(registers + offset, value); }

static void map_registers(uint32_t base) {
    registers = base;
    map_page(current_pml4(), base, base, PTE_P | PTE_W | 1ul << 4);
}

static void check_bus(void) {
    check_equal("there is a host bridge in slot 0", config_read(0, PCI_CLASS) >> 16, 0x0600);
    check_equal("CONFIG_ADDRESS reads back", in32(CONFIG_ADDRESS), CONFIG_ENABLE | PCI_CLASS);
    bool has_isa_bridge = false, has_empty = false;
    for (unsigned at = 0; at < SLOTS; at++) {
        uint32_t id = config_read(at, PCI_ID);
        if (id == EDU_ID) slot = at;
        has_empty |= id == 0xffffffff;
        has_isa_bridge |= id != 0xffffffff && config_read(at, PCI_CLASS) >> 16 == 0x0601;
    }
    check_true("there is a bridge to ISA", has_isa_bridge);
    check_true("an empty slot answers with ones", has_empty);
    if (!slot) skip("no PCI device edu");
}

static void check_configuration(void) {
    check_equal("its header is that of a device with one function", config_read(slot, 0x0c) >> 16 & 0xff, 0);
    check_equal("its interrupt pin is INTA#", config_read(slot, PCI_INTERRUPT) >> 8 & 0xff, 1);
    uint32_t placed = config_read(slot, PCI_BAR0);
    config_write(PCI_BAR0, 0xffffffff);
    check_equal("its first region has 1 MiB", -(config_read(slot, PCI_BAR0) & ~0xfu), EDU_BYTES);
    config_write(PCI_BAR0, placed);
    config_write(PCI_BAR1, 0xffffffff);
    check_equal("it has no second region", config_read(slot, PCI_BAR1), 0);
    config_write(PCI_COMMAND, COMMAND_MEMORY);
    map_registers(placed & ~0xfu);
    check_equal("firmware has placed it", edu_read(EDU_NUMBER), EDU_NUMBER_VALUE);
    config_write(PCI_COMMAND, 0);
    check_true("it does not answer where the command register forbids it", edu_read(EDU_NUMBER) != EDU_NUMBER_VALUE);
    config_write(PCI_BAR0, OTHER_PLACE);
    config_write(PCI_COMMAND, COMMAND_MEMORY);
    check_true("moved, it has left its place", edu_read(EDU_NUMBER) != EDU_NUMBER_VALUE);
    map_registers(OTHER_PLACE);
    check_equal("and answers at the other", edu_read(EDU_NUMBER), EDU_NUMBER_VALUE);
}

static void check_registers(void) {
    edu_write(EDU_LIVENESS, 0x12345678);
    check_equal("it lives", edu_read(EDU_LIVENESS), ~0x12345678u);
    struct tally tally = {0};
    for (uint32_t n = 0, expected = 1; n < 13; expected *= ++n) {
        edu_write(EDU_FACTORIAL, n);
        while (edu_read(EDU_STATUS) & EDU_COMPUTING)
            ;
        tally_equal(&tally, edu_read(EDU_FACTORIAL), expected);
    }
    check_tally("it knows factorials", &tally);
}

/* Each interrupt acknowledges one cause; while there is another, the level interrupts again after the EOI. */
static void on_interrupt(void) {
    uint32_t now = edu_read(EDU_INTERRUPTS);
    causes[interrupts & 3] = now;
    interrupts = interrupts + 1;
    edu_write(EDU_ACKNOWLEDGE, now & -now);
}

static void let_in(void) {
    interrupts_on();
    for (volatile unsigned i = 0; i < 1000; i++)
        ;
    interrupts_off();
}

static void check_interrupts(const char *once_per_cause, const char *forbidden, const char *when_done) {
    interrupts = 0;
    edu_write(EDU_RAISE, CAUSES);
    let_in();
    check_equal(once_per_cause, interrupts << 8 | causes[0] << 4 | causes[1], 0x232);
    config_write(PCI_COMMAND, COMMAND_MEMORY | COMMAND_NO_INTERRUPTS);
    edu_write(EDU_RAISE, 1);
    let_in();
    bool pending = config_read(slot, PCI_COMMAND) & STATUS_INTERRUPT;
    unsigned before = interrupts;
    config_write(PCI_COMMAND, COMMAND_MEMORY);
    let_in();
    check_true(forbidden, pending && before == 2 && interrupts == 3);
    edu_write(EDU_STATUS, EDU_INTERRUPT_WHEN_DONE);
    edu_write(EDU_FACTORIAL, 10);
    while (interrupts == 3) wait_for_interrupt();
    edu_write(EDU_STATUS, 0);
    check_equal(when_done, edu_read(EDU_FACTORIAL), 3628800);
}

static void check_8259(void) {
    unsigned irq = config_read(slot, PCI_INTERRUPT) & 0xff;
    check_true("firmware has noted an IRQ", irq > 2 && irq < IRQ_COUNT && irq != 8 && irq != 13);
    if (irq >= IRQ_COUNT) return;
    irq_set_handler(irq, on_interrupt);
    check_interrupts("8259: an interrupt for each cause", "8259: none while the command register forbids it",
                     "8259: the factorial wakes a halted CPU");
    irq_set_handler(irq, NULL);
}

/* The pin of the I/O APIC for INTA# of `slot` on PCI bus 0. */
static unsigned io_pin(void) {
    const uint8_t *table = NULL;
    for (uint64_t at = 0xe0000; at < 0x100000 && !table; at += 16)
        if (*(const volatile uint32_t *)at == 0x5f504d5f) table = (const void *)(uint64_t) * (const uint32_t *)(at + 4);
    if (!table) error("no MP table");
    unsigned count = *(const uint16_t *)(table + 34), pci_bus = 0;
    for (const uint8_t *at = table + 44; count--; at += *at ? 8 : 20) {
        if (at[0] == 1 && at[2] == 'P' && at[3] == 'C' && at[4] == 'I') pci_bus = at[1];
        if (at[0] == 3 && at[4] == pci_bus && at[5] == slot << 2 && at[5]) return at[7];
    }
    error("the MP table has no interrupt for slot %u", slot);
}

static void check_ioapic(void) {
    unsigned pin = io_pin();
    apic_set_handler(IO_VECTOR, on_interrupt);
    ioapic_route(pin, RTE_LEVEL | RTE_ACTIVE_LOW | IO_VECTOR, apic_read(APIC_ID) >> 24);
    check_interrupts("I/O APIC: an interrupt for each cause", "I/O APIC: none while the command register forbids it",
                     "I/O APIC: the factorial wakes a halted CPU");
    ioapic_route(pin, RTE_MASKED, 0);
}

void guest_main(void) {
    check_bus();
    check_configuration();
    check_registers();
    check_8259();
    if (!(cpuid(1, 0).edx >> 9 & 1)) return;
    apic_init();
    check_ioapic();
}
