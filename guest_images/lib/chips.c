/* i8259 pair, i8254, MC146818. */
#include "chips.h"

#include <stddef.h>

#include "cpu.h"
#include "report.h"
#include "trap.h"

#define ICW1_INIT_ICW4 0x11
#define ICW4_8086 0x01
#define OCW2_EOI 0x20
#define OCW3_READ_ISR 0x0b
#define PIT_MODE2_LOW_HIGH 0x34
#define PIT_MODE0_LOW_HIGH 0x30

static void (*irq_handlers[IRQ_COUNT])(void);

static void pic_sequence(uint16_t port, uint8_t vector, uint8_t cascade) {
    out8(port, ICW1_INIT_ICW4);
    out8(port + 1, vector);
    out8(port + 1, cascade);
    out8(port + 1, ICW4_8086);
    out8(port + 1, 0xff);
}

/* A line that falls before the acknowledge makes an i8259 answer with its vector 7, and nothing in service. */
static bool is_spurious(unsigned irq) {
    uint16_t port = irq < 8 ? PIC_MASTER : PIC_SLAVE;
    out8(port, OCW3_READ_ISR);
    return !(in8(port) & 0x80);
}

static void handle_spurious(struct trap_frame *frame) {
    unsigned irq = (frame->vector - VECTOR_IRQ0) % IRQ_COUNT;
    if (!is_spurious(irq)) error("an interrupt nobody asked for: IRQ %u", irq);
    if (irq >= 8) out8(PIC_MASTER, OCW2_EOI); /* the cascade is in service all the same */
}

void pic_init(void) {
    pic_sequence(PIC_MASTER, VECTOR_IRQ0, 1 << IRQ_CASCADE);
    pic_sequence(PIC_SLAVE, VECTOR_IRQ0 + 8, IRQ_CASCADE);
    trap_set_handler(VECTOR_IRQ0 + 7, handle_spurious);
    trap_set_handler(VECTOR_IRQ0 + 15, handle_spurious);
}

static void set_masked(unsigned irq, bool masked) {
    uint16_t port = (irq < 8 ? PIC_MASTER : PIC_SLAVE) + 1;
    uint8_t bit = 1 << (irq & 7);
    out8(port, masked ? in8(port) | bit : in8(port) & ~bit);
}

static void handle_irq(struct trap_frame *frame) {
    unsigned irq = (frame->vector - VECTOR_IRQ0) % IRQ_COUNT;
    irq_handlers[irq]();
    if (irq >= 8) out8(PIC_SLAVE, OCW2_EOI);
    out8(PIC_MASTER, OCW2_EOI);
}

void irq_set_handler(unsigned irq, void (*handler)(void)) {
    irq_handlers[irq] = handler;
    trap_set_handler(VECTOR_IRQ0 + irq, handler ? handle_irq : NULL);
    if (irq >= 8) set_masked(IRQ_CASCADE, false);
    set_masked(irq, !handler);
}

static void pit_program(uint8_t control, unsigned count) {
    out8(PIT_CONTROL, control);
    out8(PIT_CHANNEL0, count & 0xff);
    out8(PIT_CHANNEL0, count >> 8 & 0xff);
}

void pit_periodic(unsigned divisor) { pit_program(PIT_MODE2_LOW_HIGH, divisor); }
void pit_one_shot(unsigned count) { pit_program(PIT_MODE0_LOW_HIGH, count); }

uint8_t cmos_read(uint8_t index) {
    out8(CMOS_INDEX, index);
    return in8(CMOS_DATA);
}

void cmos_write(uint8_t index, uint8_t value) {
    out8(CMOS_INDEX, index);
    out8(CMOS_DATA, value);
}
