/* Claim: the PIT, the RTC and the UART raise their lines through the i8259 pair, once per event, at their vectors;
 * masks, IF, in-service priority and EOI do what the data sheets say; nothing is lost or invented, and the interrupted
 * code does not notice. (i8259A, 82C54, MC146818, PC16550D data sheets.)
 */
#include "guest.h"

#define PIT_TICKS 20
#define RTC_TICKS 8
#define UART_BYTES 10
#define PIC_READ_IRR 0x0a
#define PIC_READ_ISR 0x0b
#define UART_IER (COM1 + 1)
#define UART_IIR (COM1 + 2)
#define UART_MCR (COM1 + 4)
#define UART_LSR (COM1 + 5)
#define IER_THRE 0x02
#define IIR_THRE 0x02
#define MCR_OUT2 0x08
#define RTC_B_PERIODIC 0x40
#define RTC_C_PERIODIC 0xc0
#define SPIN_LIMIT 2000000000ul

static volatile unsigned ticks, rtc_ticks, uart_interrupts, uart_sent;
static volatile uint8_t in_service, rtc_causes, uart_causes;

static uint8_t pic_read(uint16_t port, uint8_t command) {
    out8(port, command);
    return in8(port);
}

static void on_pit(void) {
    ticks++;
    in_service |= pic_read(PIC_MASTER, PIC_READ_ISR);
}

static void on_rtc(void) {
    rtc_ticks++;
    rtc_causes |= cmos_read(RTC_C);
}

static void on_uart(void) {
    uart_causes |= in8(UART_IIR);
    uart_interrupts++;
    if (uart_sent < UART_BYTES) {
        out8(COM1, (uint8_t)('0' + uart_sent));
        uart_sent = uart_sent + 1;
    } else {
        out8(UART_IER, 0);
    }
}

static void check_pit(void) {
    irq_set_handler(IRQ_PIT, on_pit);
    pit_periodic(PIT_HZ / 1000);
    while (ticks < PIT_TICKS) wait_for_interrupt();
    check_equal("PIT mode 2: one interrupt per wait", ticks, PIT_TICKS);
    check_equal("PIC: only IRQ 0 is in service in its handler", in_service, 1 << IRQ_PIT);
    check_equal("PIC: nothing is in service after EOI", pic_read(PIC_MASTER, PIC_READ_ISR), 0);
    interrupts_on();
    uint64_t spins = 0;
    for (unsigned until = ticks + 3; ticks < until && spins < SPIN_LIMIT; spins++) asm volatile("" : : : "memory");
    interrupts_off();
    check_true("PIT interrupts a loop that does not wait", spins < SPIN_LIMIT);
    irq_set_handler(IRQ_PIT, NULL);
}

static void check_one_shot(void) {
    ticks = 0;
    pit_one_shot(PIT_HZ / 1000);
    irq_set_handler(IRQ_PIT, on_pit);
    while (!(pic_read(PIC_MASTER, PIC_READ_IRR) & 1 << IRQ_PIT));
    check_equal("IF clear: the request waits in IRR, no interrupt", ticks, 0);
    interrupts_on();
    asm volatile("nop");
    interrupts_off();
    check_equal("IF set: the waiting request is delivered", ticks, 1);
    check_equal("IRR is clear after delivery", pic_read(PIC_MASTER, PIC_READ_IRR) & 1 << IRQ_PIT, 0);
    irq_set_handler(IRQ_PIT, NULL);
}

/* All registers and the red-hot loop state survive interrupts at arbitrary instructions. */
static void check_transparency(void) {
    ticks = 0;
    irq_set_handler(IRQ_PIT, on_pit);
    pit_periodic(PIT_HZ / 5000);
    struct tally tally = {0};
    while (ticks < 50) {
        uint64_t sum = 0, count = 20000;
        asm volatile("sti; 1: addq %1, %0; push %0; pop %%rax; xorq %0, %%rax; orq %%rax, %%rbx; decq %1; jnz 1b; cli"
                     : "+r"(sum), "+r"(count)
                     :
                     : "rax", "rbx", "cc", "memory");
        tally_equal(&tally, sum, 20000ul * 20001 / 2);
        if (tally.count > 10000000) break;
    }
    irq_set_handler(IRQ_PIT, NULL);
    check_true("interrupted loops compute the right sum", tally.count && !tally.differences);
    check_true("and they were interrupted", ticks >= 50);
}

static void check_rtc(void) {
    irq_set_handler(IRQ_RTC, on_rtc);
    cmos_write(RTC_A, RTC_RATE_1024_HZ);
    uint8_t register_b = cmos_read(RTC_B);
    cmos_read(RTC_C); /* causes of the past would raise the line at once */
    cmos_write(RTC_B, register_b | RTC_B_PERIODIC);
    while (rtc_ticks < RTC_TICKS) wait_for_interrupt();
    cmos_write(RTC_B, register_b & ~RTC_B_PERIODIC);
    cmos_read(RTC_C);
    irq_set_handler(IRQ_RTC, NULL);
    check_equal("RTC: periodic interrupts come through the slave PIC", rtc_ticks, RTC_TICKS);
    check_equal("RTC: register C names the cause", rtc_causes & 0xf0, RTC_C_PERIODIC);
    check_equal("PIC: the slave has nothing in service after EOI", pic_read(PIC_SLAVE, PIC_READ_ISR), 0);
}

static void check_uart(void) {
    irq_set_handler(IRQ_COM1, on_uart);
    while (!(in8(UART_LSR) & 0x40));
    out8(UART_MCR, in8(UART_MCR) | MCR_OUT2);
    out8(UART_IER, IER_THRE);
    while (in8(UART_IER)) wait_for_interrupt();
    irq_set_handler(IRQ_COM1, NULL);
    while (!(in8(UART_LSR) & 0x40));
    print("\n");
    check_equal("UART: every byte was sent from the THRE interrupt", uart_sent, UART_BYTES);
    check_equal("UART: one THRE interrupt per byte, and one to begin", uart_interrupts, UART_BYTES + 1);
    check_equal("UART: IIR says THR empty", uart_causes & 0x0f, IIR_THRE);
}

static volatile unsigned rtc_during_pit;

static void on_pit_nested(void) {
    unsigned before = rtc_ticks;
    ticks++;
    interrupts_on();
    for (uint64_t i = 0; i < 2000; i++) asm volatile("" : : : "memory");
    interrupts_off();
    rtc_during_pit += rtc_ticks - before;
}

/* IRQ 8 has lower priority than IRQ 0: it must wait for the EOI of IRQ 0 even when IF is set. */
static void check_priority(void) {
    ticks = rtc_ticks = 0;
    irq_set_handler(IRQ_PIT, on_pit_nested);
    irq_set_handler(IRQ_RTC, on_rtc);
    pit_periodic(PIT_HZ / 2000);
    uint8_t register_b = cmos_read(RTC_B);
    cmos_read(RTC_C); /* causes of the past would raise the line at once */
    cmos_write(RTC_B, register_b | RTC_B_PERIODIC);
    while (ticks < 20 || rtc_ticks < 8) wait_for_interrupt();
    cmos_write(RTC_B, register_b & ~RTC_B_PERIODIC);
    cmos_read(RTC_C);
    irq_set_handler(IRQ_PIT, NULL);
    irq_set_handler(IRQ_RTC, NULL);
    check_equal("PIC: IRQ 8 never interrupts the handler of IRQ 0", rtc_during_pit, 0);
}

static void check_software(void) {
    ticks = 0;
    trap_set_handler(VECTOR_IRQ0, NULL);
    TRY("int $0x20", :);
    check_fault_at("INT 0x20 reaches the vector without the PIC", VECTOR_IRQ0, 0, last_fault.start + 2);
    check_equal("and puts nothing in service", pic_read(PIC_MASTER, PIC_READ_ISR), 0);
}

void guest_main(void) {
    check_pit();
    check_one_shot();
    check_transparency();
    check_rtc();
    check_uart();
    check_priority();
    check_software();
}
