/* Claim: the I/O APIC turns the PC's interrupt lines into the vectors its redirection entries name: the PIT on pin 2, the
 * UART on pin 4, the RTC on pin 8; edges once each, levels until they are gone and once per EOI (82093AA data sheet).
 */
#include "apic.h"
#include "guest.h"

#define PIN_PIT 2
#define PIN_COM1 4
#define PIN_RTC 8
#define PIT_VECTOR 0x51
#define UART_VECTOR 0x62
#define RTC_VECTOR 0x73
#define UART_IER (COM1 + 1)
#define UART_IIR (COM1 + 2)
#define UART_MCR (COM1 + 4)
#define UART_LSR (COM1 + 5)
#define RTC_B_PERIODIC 0x40
#define TICKS 10

static volatile unsigned pit_ticks, rtc_ticks, uart_interrupts;
static volatile bool was_level;

static void on_pit(void) { pit_ticks = pit_ticks + 1; }

static void on_rtc(void) {
    rtc_ticks = rtc_ticks + 1;
    cmos_read(RTC_C);
}

static void on_uart(void) {
    was_level = apic_bit(APIC_TMR, UART_VECTOR);
    uart_interrupts = uart_interrupts + 1;
    if (uart_interrupts == 3) in8(UART_IIR); /* only now is the cause looked at, and gone */
}

static void let_in(void) {
    interrupts_on();
    for (volatile unsigned i = 0; i < 10; i++)
        ;
    interrupts_off();
}

static void check_registers(void) {
    check_equal("version 0x11 or 0x20", ioapic_read(IOAPIC_VERSION) & 0xce, 0);
    check_equal("24 entries", ioapic_read(IOAPIC_VERSION) >> 16 & 0xff, 23);
    ioapic_write(IOAPIC_ID, 0x05000000);
    check_equal("the ID can be set", ioapic_read(IOAPIC_ID), 0x05000000);
    struct tally tally = {0};
    for (unsigned pin = 0; pin < 24; pin++) {
        ioapic_route(pin, RTE_MASKED | RTE_LEVEL | RTE_ACTIVE_LOW | RTE_LOGICAL | (0x30 + pin), 0x80 + pin);
        tally_equal(&tally, ioapic_read(IOAPIC_REDIRECTION + 2 * pin),
                    RTE_MASKED | RTE_LEVEL | RTE_ACTIVE_LOW | RTE_LOGICAL | (0x30 + pin));
        tally_equal(&tally, ioapic_read(IOAPIC_REDIRECTION + 2 * pin + 1), (0x80ul + pin) << 24);
        ioapic_route(pin, RTE_MASKED, 0);
    }
    check_tally("entries keep what is written", &tally);
    mmio_write32(IOAPIC_BASE + IOAPIC_SELECT, 0x1ff & 0xff);
    mmio_write32(IOAPIC_BASE + IOAPIC_SELECT, IOAPIC_VERSION);
    check_equal("the index reads back", *(volatile uint8_t *)(IOAPIC_BASE + IOAPIC_SELECT), IOAPIC_VERSION);
}

static void check_pit(unsigned id) {
    ioapic_route(PIN_PIT, PIT_VECTOR, id);
    pit_periodic(PIT_HZ / 1000);
    while (pit_ticks < TICKS) wait_for_interrupt();
    check_equal("the PIT interrupts on pin 2, once per wait", pit_ticks, TICKS);
    ioapic_route(PIN_PIT, RTE_MASKED | PIT_VECTOR, id);
    let_in(); /* one may have been under way */
    unsigned before = pit_ticks;
    for (unsigned i = 0; i < 3; i++) { /* periods, by the PIT's own count */
        uint8_t last = 0xff, now;
        do {
            out8(PIT_CONTROL, 0);
            in8(PIT_CHANNEL0);
            now = in8(PIT_CHANNEL0);
            if (now > last) break;
            last = now;
        } while (true);
    }
    let_in();
    check_equal("masked, it does not", pit_ticks, before);
    ioapic_route(PIN_PIT, PIT_VECTOR, id ^ 0x40);
    for (volatile unsigned i = 0; i < 100000; i++)
        ;
    let_in();
    check_equal("nor with another CPU's ID", pit_ticks, before);
    apic_write(APIC_LDR, 0x02000000);
    ioapic_route(PIN_PIT, RTE_LOGICAL | PIT_VECTOR, 0x03);
    while (pit_ticks == before) wait_for_interrupt();
    check_true("but with a logical destination that has its bit", pit_ticks > before);
    ioapic_route(PIN_PIT, RTE_MASKED, 0);
    pit_one_shot(0);
}

static void check_rtc(unsigned id) {
    ioapic_route(PIN_RTC, RTC_VECTOR, id);
    cmos_write(RTC_A, RTC_RATE_1024_HZ);
    uint8_t register_b = cmos_read(RTC_B);
    cmos_read(RTC_C);
    cmos_write(RTC_B, register_b | RTC_B_PERIODIC);
    while (rtc_ticks < TICKS) wait_for_interrupt();
    cmos_write(RTC_B, register_b & ~RTC_B_PERIODIC);
    cmos_read(RTC_C);
    check_equal("the RTC interrupts on pin 8", rtc_ticks, TICKS);
    ioapic_route(PIN_RTC, RTE_MASKED, 0);
}

static void check_level(unsigned id) {
    while (!(in8(UART_LSR) & 0x40))
        ;
    out8(UART_MCR, in8(UART_MCR) | 0x08);
    ioapic_route(PIN_COM1, RTE_LEVEL | UART_VECTOR, id);
    out8(UART_IER, 0x02); /* transmitter empty: so it is, and the line is high. What we print would raise it again */
    bool before = ioapic_read(IOAPIC_REDIRECTION + 2 * PIN_COM1) & RTE_REMOTE_IRR;
    for (unsigned i = 0; i < 4; i++) let_in();
    bool after = ioapic_read(IOAPIC_REDIRECTION + 2 * PIN_COM1) & RTE_REMOTE_IRR;
    out8(UART_IER, 0);
    check_true("a level-triggered entry has remote IRR set until the EOI", before);
    check_equal("it interrupts again after each EOI, until the line falls", uart_interrupts, 3);
    check_true("TMR says level", was_level);
    check_true("remote IRR is clear then", !after);
    ioapic_route(PIN_COM1, RTE_MASKED, 0);
}

void guest_main(void) {
    if (!(cpuid(1, 0).edx >> 9 & 1)) skip("no local APIC");
    apic_init();
    apic_set_handler(PIT_VECTOR, on_pit);
    apic_set_handler(UART_VECTOR, on_uart);
    apic_set_handler(RTC_VECTOR, on_rtc);
    unsigned id = apic_read(APIC_ID) >> 24;
    check_registers();
    check_pit(id);
    check_rtc(id);
    check_level(id);
}
