/* Segment selectors of the library's GDT, for C and assembly.
 *
 * The order is what SYSCALL, SYSRET, SYSENTER and SYSEXIT require (SDM 2B, "SYSRET", "SYSEXIT"):
 *   STAR[47:32] = 0x10: SYSCALL  CS 0x10, SS 0x18    STAR[63:48] = 0x20: SYSRET  CS 0x30, SS 0x28 (32-bit: CS 0x20)
 *   SYSENTER_CS = 0x10: SYSENTER CS 0x10, SS 0x18
 *                         SYSEXIT CS 0x30, SS 0x38 (32-bit: CS 0x20, SS 0x28)
 */
#ifndef SELECTORS_H
#define SELECTORS_H

#define SEL_KERNEL_CODE32 0x08
#define SEL_KERNEL_CODE 0x10
#define SEL_KERNEL_DATA 0x18
#define SEL_USER_CODE32 (0x20 | 3)
#define SEL_USER_DATA (0x28 | 3)
#define SEL_USER_CODE (0x30 | 3)
#define SEL_USER_DATA_SYSEXIT (0x38 | 3)
#define SEL_TSS 0x40 /* 16 bytes */
#define SEL_NOT_PRESENT 0x50
#define SEL_SPARE 0x58 /* free for tests: SPARE_COUNT descriptors */
#define SPARE_COUNT 8
#define GDT_ENTRIES ((SEL_SPARE >> 3) + SPARE_COUNT)

#define VECTOR_USER_RETURN 0x80 /* INT 0x80: ring 3 code hands control back to user_call() */
#define NO_FAULT 256

#endif
