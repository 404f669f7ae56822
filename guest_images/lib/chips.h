/* The PC's interrupt controllers, timer and clock: i8259, i8254, MC146818 (their data sheets). */
#ifndef CHIPS_H
#define CHIPS_H

#include <stdint.h>

#define PIC_MASTER 0x20
#define PIC_SLAVE 0xa0
#define PIT_CHANNEL0 0x40
#define PIT_CONTROL 0x43
#define PIT_HZ 1193182
#define CMOS_INDEX 0x70
#define CMOS_DATA 0x71
#define RTC_A 0x0a
#define RTC_B 0x0b
#define RTC_C 0x0c
#define RTC_RATE_1024_HZ 0x26

enum { IRQ_PIT = 0, IRQ_CASCADE = 2, IRQ_COM1 = 4, IRQ_RTC = 8, IRQ_COUNT = 16 };

void pic_init(void);                                       /* IRQ n at vector 0x20 + n, all masked */
void irq_set_handler(unsigned irq, void (*handler)(void)); /* unmasks; the EOI follows the handler. NULL masks */
void pit_periodic(unsigned divisor);                       /* mode 2 */
void pit_one_shot(unsigned count);                         /* mode 0 */
uint8_t cmos_read(uint8_t index);
void cmos_write(uint8_t index, uint8_t value);

#endif
