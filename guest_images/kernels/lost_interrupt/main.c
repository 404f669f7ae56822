/* Claim: a driver that forgets one EOI gets no interrupt any more: the request stays in service at the i8259, which holds
 * back all of the same and of lower priority, and the processor sleeps for ever. For the debugger's tutorial, so it does
 * not end. (i8259A data sheet, "End of interrupt".)
 */
#include "guest.h"

#define OCW2_EOI 0x20
#define FORGOTTEN 3

static volatile unsigned ticks;

static void on_tick(struct trap_frame *frame) {
    (void)frame;
    ticks++;
    if (ticks == FORGOTTEN) return; /* the bug */
    out8(PIC_MASTER, OCW2_EOI);
}

void guest_main(void) {
    trap_set_handler(VECTOR_IRQ0 + IRQ_PIT, on_tick);
    out8(PIC_MASTER + 1, (uint8_t)~(1 << IRQ_PIT));
    pit_periodic(PIT_HZ / 1000);
    while (ticks < 5) wait_for_interrupt();
    check_equal("each tick is one interrupt", ticks, 5);
    print_verdict();
}
