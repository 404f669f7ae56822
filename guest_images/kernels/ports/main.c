/* Claim: IN and OUT of each width, with immediate or DX port, and their string forms with REP, direction, faults in the
 * middle and segment overrides, move the right bytes and leave the registers as SDM 2 says.
 *
 * Ports used: the UART's scratch register (0x3ff, 8 bits that keep what is written), CMOS RAM, POST (0x80), and one
 * that nothing decodes. Wide accesses to 8-bit chips are split into bytes, lowest port first.
 */
#include "guest.h"

#define SCRATCH (COM1 + 7)
#define CMOS_FREE 0x60
#define NOBODY 0x2f30

static uint8_t buffer[64];

static void check_widths(void) {
    struct tally bytes = {0}, words = {0}, longs = {0};
    for (unsigned value = 0; value < 256; value += 5) {
        out8(SCRATCH, value);
        tally_equal(&bytes, in8(SCRATCH), value);
        tally_equal(&words, in16(SCRATCH - 1) >> 8, value);
        tally_equal(&longs, in32(SCRATCH - 3) >> 24, value);
    }
    check_tally("8-bit IN and OUT", &bytes);
    check_tally("16-bit IN is two bytes", &words);
    check_tally("32-bit IN is four bytes", &longs);
    out16(CMOS_INDEX, 0x5a << 8 | CMOS_FREE); /* index, then data */
    check_equal("16-bit OUT is two bytes, lowest port first", cmos_read(CMOS_FREE), 0x5a);
    check_equal("8-bit IN of a port nobody decodes", in8(NOBODY), 0xff);
    check_equal("16-bit IN of a port nobody decodes", in16(NOBODY), 0xffff);
    check_equal("32-bit IN of a port nobody decodes", in32(NOBODY), 0xffffffff);
    out32(NOBODY, 0x12345678);
    out8(POST_PORT, 0x42);
    out16(POST_PORT, 0x4243);
    out32(POST_PORT, 0x42434445);
    check_equal("OUT to a port nobody decodes goes nowhere", in32(NOBODY), 0xffffffff);
}

static void check_registers(void) {
    uint64_t rax;
    out8(SCRATCH, 0x77);
    asm volatile("movq $-1, %%rax; inb %%dx, %%al" : "=&a"(rax) : "d"(SCRATCH));
    check_equal("8-bit IN changes AL only", rax, 0xffffffffffffff77);
    asm volatile("movq $-1, %%rax; inw %%dx, %%ax" : "=&a"(rax) : "d"(NOBODY + 0x10000));
    check_equal("16-bit IN changes AX only, DX is 16 bits of RDX", rax, ~0ul);
    asm volatile("movq $-1, %%rax; inl %%dx, %%eax" : "=&a"(rax) : "d"(NOBODY));
    check_equal("32-bit IN clears the upper half of RAX", rax, 0xffffffff);
    asm volatile("movq $-1, %%rax; outb %%al, $0x80; inb $0x71, %%al; movb $0, %%al" : "=&a"(rax));
    check_equal("immediate ports: the rest of RAX stays", rax, ~0xfful);
}

struct string_result {
    uint64_t rsi, rdi, rcx;
};

#define STRING(text, at, times, port)                                          \
    ({                                                                         \
        struct string_result result = {(uint64_t)(at), (uint64_t)(at), times}; \
        asm volatile(text "; cld"                                              \
                     : "+S"(result.rsi), "+D"(result.rdi), "+c"(result.rcx)    \
                     : "d"(port)                                               \
                     : "memory", "cc");                                        \
        result;                                                                \
    })

static void check_string_in(void) {
    struct tally data = {0};
    struct string_result result;
    memset(buffer, 0, sizeof buffer);
    out8(SCRATCH, 0xa5);
    result = STRING("rep insb", buffer + 8, 16, SCRATCH);
    for (unsigned i = 0; i < sizeof buffer; i++) tally_equal(&data, buffer[i], i >= 8 && i < 24 ? 0xa5 : 0);
    check_tally("REP INSB: the bytes", &data);
    check_true("REP INSB: RDI and RCX", result.rdi == (uint64_t)buffer + 24 && !result.rcx);
    result = STRING("std; rep insw", buffer + 40, 4, NOBODY);
    check_true("REP INSW, backwards: RDI", result.rdi == (uint64_t)buffer + 32);
    check_true("REP INSW, backwards: the words",
               buffer[33] == 0 && buffer[34] == 0xff && buffer[41] == 0xff && buffer[42] == 0);
    result = STRING("rep insl", buffer + 48, 0, NOBODY);
    check_true("REP INSL, zero times", result.rdi == (uint64_t)buffer + 48 && buffer[48] == 0);
    result = STRING("insl", buffer + 48, 7, NOBODY);
    check_true("INSL without REP: once",
               result.rdi == (uint64_t)buffer + 52 && result.rcx == 7 && buffer[51] == 0xff && !buffer[52]);
}

static void check_string_out(void) {
    static const uint8_t pairs[] = {CMOS_FREE, 0x11, CMOS_FREE + 1, 0x22, CMOS_FREE + 2, 0x33, CMOS_FREE + 3, 0x44};
    struct string_result result = STRING("rep outsw", pairs, 4, CMOS_INDEX);
    struct tally tally = {0};
    for (unsigned i = 0; i < 4; i++) tally_equal(&tally, cmos_read(CMOS_FREE + i), 0x11 * (i + 1));
    check_tally("REP OUTSW: index and data pairs", &tally);
    check_true("REP OUTSW: RSI and RCX", result.rsi == (uint64_t)pairs + 8 && !result.rcx);
    result = STRING("rep outsb", pairs, 6, SCRATCH);
    check_equal("REP OUTSB: the last byte is what stays", in8(SCRATCH), 0x33);
    result = STRING("std; rep outsb", pairs + 7, 3, SCRATCH);
    check_equal("REP OUTSB, backwards", in8(SCRATCH), pairs[5]);
    check_true("REP OUTSB, backwards: RSI", result.rsi == (uint64_t)pairs + 4);
    result = STRING("rep outsl", pairs, 2, POST_PORT);
    check_true("REP OUTSL: RSI", result.rsi == (uint64_t)pairs + 8 && !result.rcx);
}

static void check_faults(void) {
    uint64_t *page = page_alloc();
    map_page(current_pml4(), TEST_VA, (uint64_t)page, PTE_P | PTE_W);
    out8(SCRATCH, 0x3c);
    uint64_t to = TEST_VA + PAGE_BYTES - 5, count = 12;
    TRY("rep insb", : "+D"(to), "+c"(count) : "d"(SCRATCH) : "memory");
    check_page_fault("REP INSB into an absent page", PF_WRITE, TEST_VA + PAGE_BYTES);
    check_true("it stops there, and RDI and RCX say where", to == TEST_VA + PAGE_BYTES && count == 7);
    check_equal("what was read before is in memory", page[511] >> 24, 0x3c3c3c3c3c);
    page[511] = 0x7777777777777777;
    uint64_t from = TEST_VA + PAGE_BYTES - 4;
    count = 9;
    TRY("rep outsb", : "+S"(from), "+c"(count) : "d"(SCRATCH) : "memory");
    check_page_fault("REP OUTSB from an absent page", 0, TEST_VA + PAGE_BYTES);
    check_true("RSI and RCX say where it stopped", from == TEST_VA + PAGE_BYTES && count == 5);
    check_equal("the bytes before were written", in8(SCRATCH), 0x77);
    *entry_of(current_pml4(), TEST_VA, LEVEL_PT) &= ~PTE_W;
    invlpg(TEST_VA);
    to = TEST_VA + 16;
    TRY("insb", : "+D"(to) : "d"(SCRATCH) : "memory");
    check_page_fault("INSB into a read-only page", PF_PRESENT | PF_WRITE, TEST_VA + 16);
}

static void check_prefixes(void) {
    static const uint8_t bytes[] = {1, 2, 3, 4};
    uint64_t from = 2;
    write_msr(MSR_FS_BASE, (uint64_t)bytes);
    asm volatile("fs outsb" : "+S"(from) : "d"(SCRATCH) : "memory");
    check_true("OUTSB with FS", in8(SCRATCH) == 3 && from == 3);
    write_msr(MSR_FS_BASE, 0);
    uint64_t to = (uint64_t)buffer | 0xabcdul << 48;
    memset(buffer, 0, sizeof buffer);
    asm volatile("addr32 insb" : "+D"(to) : "d"(SCRATCH) : "memory");
    check_true("INSB with a 32-bit address: EDI, zero-extended", buffer[0] == 3 && to == (uint64_t)buffer + 1);
}

void guest_main(void) {
    check_widths();
    check_registers();
    check_string_in();
    check_string_out();
    check_faults();
    check_prefixes();
}
