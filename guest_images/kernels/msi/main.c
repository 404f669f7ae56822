/* Claim: a device whose MSI capability is enabled interrupts by a message, one for each cause: to the CPU and with the vector
 * that the message says, by edge, with its pin silent; without bus mastering there are none, and a message to an address that
 * is memory is a store (PCI Local Bus Specification 3.0, 6.8; SDM 3A 10.11). The device is QEMU's `edu`.
 */
#include "edu.h"
#include "smp.h"

#define VECTOR 0x71
#define OTHER_VECTOR 0x72
#define MSI_ID 0x05
enum { MSI_CONTROL = 0x00, MSI_ADDRESS = 0x04, MSI_ADDRESS_HIGH = 0x08, MSI_DATA = 0x0c }; /* doublewords */
#define MSI_ENABLE (1u << 16)
#define MSI_64_BIT (1u << 23)
#define MESSAGE_ADDRESS 0xfee00000u
#define TO_CPU(cpu) (MESSAGE_ADDRESS | (cpu) << 12)
#define DATA_NMI (4u << 8)

static struct edu edu;
static unsigned at; /* of the capability */
static volatile uint64_t taken[CPUS_MAX], others[CPUS_MAX], nmis, ready, stop;

static void on_message(void) { taken[smp_cpu()] = taken[smp_cpu()] + 1; }
static void on_other(void) { others[smp_cpu()] = others[smp_cpu()] + 1; }
static void on_nmi(struct trap_frame *frame) {
    (void)frame;
    nmis = nmis + 1;
}

static void send_to(uint64_t address, uint32_t data) {
    config_write(edu.slot, at + MSI_ADDRESS, (uint32_t)address);
    config_write(edu.slot, at + MSI_ADDRESS_HIGH, address >> 32);
    config_write(edu.slot, at + MSI_DATA, data);
}

static void enable(bool on) {
    uint32_t control = config_read(edu.slot, at) & ~MSI_ENABLE;
    config_write(edu.slot, at, control | (on ? MSI_ENABLE : 0));
}

static void let_in(void) {
    interrupts_on();
    for (volatile unsigned i = 0; i < 1000; i++);
    interrupts_off();
}

static void cause(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        edu_write(&edu, EDU_RAISE, 1u << i);
        let_in();
    }
    edu_write(&edu, EDU_ACKNOWLEDGE, ~0u);
}

static void find_capability(void) {
    check_true("it has a list of capabilities", config_read(edu.slot, PCI_COMMAND) & STATUS_CAPABILITIES);
    unsigned next = config_read(edu.slot, PCI_CAPABILITIES) & 0xfc;
    for (unsigned count = 0; next && count < 48; count++) {
        uint32_t header = config_read(edu.slot, next);
        if ((header & 0xff) == MSI_ID) at = next;
        next = header >> 8 & 0xfc;
    }
    if (!at) error("no MSI capability");
    check_equal("MSI is off at first", config_read(edu.slot, at) & MSI_ENABLE, 0);
    check_true("it has a 64-bit address", config_read(edu.slot, at) & MSI_64_BIT);
    check_equal("and one vector", config_read(edu.slot, at) >> 17 & 7, 0);
    config_write(edu.slot, at + MSI_ADDRESS, ~0u);
    check_equal("addresses are aligned", config_read(edu.slot, at + MSI_ADDRESS), ~3u);
}

static void check_messages(void) {
    unsigned self = apic_read(APIC_ID) >> 24;
    send_to(TO_CPU(self), VECTOR);
    enable(true);
    cause(3);
    check_equal("a message for each cause, though none was acknowledged before", taken[self], 3);
    edu_write(&edu, EDU_RAISE, 1);

    edu_write(&edu, EDU_ACKNOWLEDGE, ~0u);
    let_in();
    check_equal("an edge waits while interrupts are off", taken[self], 4);
    send_to(TO_CPU(self), OTHER_VECTOR);
    cause(1);
    check_equal("another vector", others[self], 1);
    edu_start(&edu, (uint64_t)page_alloc(), EDU_BUFFER, 64, EDU_INTERRUPT_AFTER);
    while (others[self] == 1) wait_for_interrupt();
    check_equal("the end of a transfer wakes a halted CPU", edu_read(&edu, EDU_INTERRUPTS), EDU_DMA_DONE);
    edu_write(&edu, EDU_ACKNOWLEDGE, ~0u);
    trap_set_handler(VECTOR_NMI, on_nmi);
    send_to(TO_CPU(self), DATA_NMI);
    cause(1);
    check_equal("an NMI", nmis, 1);
    trap_set_handler(VECTOR_NMI, NULL);
}

static void check_elsewhere(void) {
    unsigned self = apic_read(APIC_ID) >> 24;
    uint64_t before = taken[self];
    volatile uint32_t *page = (volatile uint32_t *)page_alloc();
    page[0] = page[1] = page[2] = 0x55555555;
    send_to((uint64_t)(page + 1), VECTOR);
    cause(1);
    check_equal("a message to memory is a store of 32 bits",
                page[0] == 0x55555555 && page[2] == 0x55555555 ? page[1] : 0, VECTOR);
    send_to(TO_CPU(0x5a), VECTOR);
    cause(1);
    check_equal("one to no CPU is lost", taken[self], before);
    send_to(TO_CPU(self), VECTOR);
    edu_allow(&edu, COMMAND_MEMORY);
    cause(1);
    edu_allow(&edu, COMMAND_MEMORY | COMMAND_MASTER);
    let_in();
    check_equal("and one without bus mastering", taken[self], before);
    cause(1);
    check_equal("the next one arrives", taken[self], before + 1);
    enable(false);
    cause(1);
    check_equal("without MSI there are no messages", taken[self], before + 1);
}

static void work(unsigned cpu) {
    (void)cpu;
    apic_write(APIC_SVR, APIC_ENABLED | APIC_SPURIOUS_VECTOR);
    atomic_add(&ready, 1);
    interrupts_on();
    while (!stop) cpu_relax();
    interrupts_off();
}

static void check_others(void) {
    unsigned count = smp_start(work);
    if (count == 1) return;
    wait_until(&ready, count - 1);
    struct tally tally = {0};
    enable(true);
    for (unsigned cpu = 1; cpu < count; cpu++) {
        uint64_t before = taken[cpu], own = taken[0];
        send_to(TO_CPU(cpu), VECTOR);
        edu_write(&edu, EDU_RAISE, 1);
        wait_until(&taken[cpu], before + 1);
        tally_equal(&tally, taken[0], own);
        edu_write(&edu, EDU_ACKNOWLEDGE, ~0u);
    }
    stop = 1;
    check_tally("a message to another CPU arrives there alone", &tally);
}

void guest_main(void) {
    if (!(cpuid(1, 0).edx >> 9 & 1)) skip("no local APIC");
    edu = edu_find();
    apic_init();
    apic_set_handler(VECTOR, on_message);
    apic_set_handler(OTHER_VECTOR, on_other);
    find_capability();
    check_messages();
    check_elsewhere();
    check_others();
}
