/* Claim: ring 3 may use a port when CPL <= IOPL or when the TSS bitmap has zeros for all its bytes, and gets #GP(0)
 * otherwise; a bitmap cut by the TSS limit counts as ones; IOPL also rules CLI and STI; POPF in ring 3 changes neither.
 * SDM 1 19.5.
 */
#include "guest.h"

#define SCRATCH (COM1 + 7)
#define IOPL3 RFLAGS_IOPL
#define BITMAP_OFFSET __builtin_offsetof(struct tss64, io_bitmap)

USER_CODE(user_in8, "movl %edi, %edx; inb %dx, %al");
USER_CODE(user_in16, "movl %edi, %edx; inw %dx, %ax");
USER_CODE(user_in32, "movl %edi, %edx; inl %dx, %eax");
USER_CODE(user_out8, "movl %edi, %edx; movb $0x66, %al; outb %al, %dx");
USER_CODE(user_insb, "movl $0x3ff, %edx; leaq -64(%rsp), %rdi; insb");
USER_CODE(user_in_immediate, "inb $0x80, %al");
USER_CODE(user_cli_sti, "cli; sti; cli");
USER_CODE(user_popf, "pushq $0x3202; popfq; pushfq; popq %rax");

#define MOV_BYTES 2 /* `movl %edi, %edx` comes first */

static void allow(uint16_t port, bool allowed) {
    uint8_t bit = 1 << (port & 7);
    tss.io_bitmap[port >> 3] = allowed ? tss.io_bitmap[port >> 3] & ~bit : tss.io_bitmap[port >> 3] | bit;
}

/* 1: allowed, 0: #GP(0) at the right RIP, 2: something else */
static uint64_t outcome(const char *code, uint16_t port, uint64_t rflags) {
    user_call_flags((void *)code, port, RFLAGS_FIXED | rflags);
    if (last_fault.vector == NO_FAULT) return 1;
    bool plain = code == user_in_immediate || code == user_cli_sti;
    uint64_t at = last_fault.start + (plain ? 0 : MOV_BYTES + (code == user_out8 ? 2 : 0));
    return last_fault.vector == VECTOR_GP && !last_fault.error_code && last_fault.rip == at ? 0 : 2;
}

static void check_iopl(void) {
    struct tally tally = {0};
    for (uint64_t iopl = 0; iopl < 4; iopl++) {
        tally_equal(&tally, outcome(user_in8, SCRATCH, iopl << 12), iopl == 3);
        tally_equal(&tally, outcome(user_out8, SCRATCH, iopl << 12), iopl == 3);
        tally_equal(&tally, outcome(user_in32, SCRATCH - 3, iopl << 12), iopl == 3);
        tally_equal(&tally, outcome(user_in_immediate, 0, iopl << 12), iopl == 3);
        tally_equal(&tally, outcome(user_cli_sti, 0, iopl << 12), iopl == 3);
    }
    check_tally("IOPL 0..3: ports, CLI and STI", &tally);
    check_equal("with IOPL 3 the OUT was done", in8(SCRATCH), 0x66);
    check_equal("POPF in ring 3, IOPL 0: IF and IOPL stay", user_call((void *)user_popf, 0) & (RFLAGS_IF | RFLAGS_IOPL),
                0);
    check_equal("POPF in ring 3, IOPL 3: IF can be set",
                user_call_flags((void *)user_popf, 0, RFLAGS_FIXED | IOPL3) & (RFLAGS_IF | RFLAGS_IOPL),
                RFLAGS_IF | IOPL3);
}

static void check_bitmap(void) {
    struct tally one = {0}, wide = {0};
    for (unsigned bit = 0; bit < 16; bit++) {
        uint16_t port = 0x3f0 + bit;
        allow(port, true);
        for (unsigned other = 0; other < 16; other++)
            tally_equal(&one, outcome(user_in8, 0x3f0 + other, 0), other == bit);
        allow(port, false);
    }
    check_tally("one bit allows one port", &one);
    for (uint16_t first = 0x2f0; first < 0x300; first++)
        for (unsigned hole = 0; hole < 4; hole++) {
            for (unsigned i = 0; i < 4; i++) allow(first + i, i != hole);
            tally_equal(&wide, outcome(user_in16, first, 0), hole >= 2);
            tally_equal(&wide, outcome(user_in32, first, 0), 0);
            allow(first + hole, true);
            tally_equal(&wide, outcome(user_in32, first, 0), 1);
            for (unsigned i = 0; i < 4; i++) allow(first + i, false);
        }
    check_tally("wide accesses need a zero for each byte, also over a byte boundary", &wide);
    allow(SCRATCH, true);
    user_call((void *)user_insb, 0);
    check_no_fault("string IN through the bitmap");
    allow(SCRATCH, false);
    user_call((void *)user_insb, 0);
    check_equal("string IN denied", last_fault.vector, VECTOR_GP);
    allow(0xffff, true);
    check_equal("the last port", outcome(user_in8, 0xffff, 0), 1);
    allow(0xffff, false);
}

static void check_limit(void) {
    allow(0x80, true);
    allow(0x2f8, true);
    tss_load(BITMAP_OFFSET + (0x80 >> 3) + 1); /* two bytes are read: the port's and the next */
    check_equal("bitmap cut by the limit: a port inside", outcome(user_in8, 0x80, 0), 1);
    check_equal("bitmap cut by the limit: a port outside", outcome(user_in8, 0x2f8, 0), 0);
    tss_load(BITMAP_OFFSET - 1);
    check_equal("limit before the bitmap: all denied", outcome(user_in8, 0x80, 0), 0);
    tss_load(sizeof tss - 1);
    check_equal("the full bitmap again", outcome(user_in8, 0x2f8, 0), 1);
    tss.io_bitmap_offset = 0xfff0;
    check_equal("bitmap offset beyond the limit: all denied", outcome(user_in8, 0x80, 0), 0);
    tss.io_bitmap_offset = BITMAP_OFFSET;
}

void guest_main(void) {
    check_iopl();
    check_bitmap();
    check_limit();
}
