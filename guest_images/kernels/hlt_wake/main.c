/* Claim: HLT waits until an interrupt, whenever it comes: at once when one is waiting, after the timer's time
 * otherwise; the handler's frame points after the HLT; nothing else wakes it. SDM 2A, "HLT".
 */
#include "guest.h"

#define WAKES 50
#define PIC_READ_IRR 0x0a

static volatile unsigned ticks, rtc_ticks;
static volatile uint64_t frame_rip, frame_flags;

static void on_tick(void) { ticks++; }
static void on_rtc(void) {
    rtc_ticks++;
    cmos_read(RTC_C);
}

static void on_frame(struct trap_frame *frame) {
    frame_rip = frame->rip;
    frame_flags = frame->rflags;
    ticks++;
    out8(PIC_MASTER, 0x20);
}

static void check_each(void) {
    struct tally tally = {0};
    for (unsigned i = 0; i < WAKES; i++) {
        pit_one_shot(20 + 37 * i);
        wait_for_interrupt();
        tally_equal(&tally, ticks, i + 1);
    }
    check_tally("one-shot timers of many lengths: one wake each", &tally);
}

static void check_pending(void) {
    ticks = 0;
    pit_one_shot(1);
    do out8(PIC_MASTER, PIC_READ_IRR);
    while (!(in8(PIC_MASTER) & 1));
    wait_for_interrupt();
    check_equal("an interrupt that waits already wakes HLT", ticks, 1);
}

static void check_frame(void) {
    uint64_t after;
    trap_set_handler(VECTOR_IRQ0, on_frame);
    pit_one_shot(500);
    asm volatile("leaq 1f(%%rip), %0; sti; hlt; 1: cli" : "=r"(after) : : "memory");
    check_equal("the frame's RIP is after HLT", frame_rip, after);
    check_equal("the frame's IF is set", frame_flags & RFLAGS_IF, RFLAGS_IF);
    irq_set_handler(IRQ_PIT, on_tick);
}

static void check_periodic(void) {
    unsigned wakes = 0;
    ticks = 0;
    pit_periodic(PIT_HZ / 1000);
    interrupts_on();
    for (; ticks < WAKES; wakes++) asm volatile("hlt" : : : "memory");
    interrupts_off();
    check_true("periodic: as many wakes as interrupts", wakes <= ticks && wakes + 2 >= WAKES);
    irq_set_handler(IRQ_PIT, NULL);
}

static void check_two_sources(void) {
    ticks = 0;
    irq_set_handler(IRQ_PIT, on_tick);
    irq_set_handler(IRQ_RTC, on_rtc);
    cmos_write(RTC_A, RTC_RATE_1024_HZ);
    uint8_t register_b = cmos_read(RTC_B);
    cmos_read(RTC_C); /* causes of the past would raise the line at once */
    cmos_write(RTC_B, register_b | 0x40);
    unsigned wakes = 0;
    for (; ticks < 20 || rtc_ticks < 20; wakes++) wait_for_interrupt();
    cmos_write(RTC_B, register_b);
    cmos_read(RTC_C);
    check_true("two sources: each wake was an interrupt", wakes <= ticks + rtc_ticks);
}

void guest_main(void) {
    irq_set_handler(IRQ_PIT, on_tick);
    check_each();
    check_pending();
    check_frame();
    check_periodic();
    check_two_sources();
}
