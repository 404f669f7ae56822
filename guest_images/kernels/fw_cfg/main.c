/* Claim: the ports 0x510 and 0x511 tell a kernel what QEMU's tell it: that they are there, how many CPUs and how much
 * memory the machine has, and which files (QEMU docs/specs/fw_cfg.rst).
 */
#include "guest.h"

#define SELECTOR 0x510
#define DATA 0x511
#define MEMORY_BYTES (256ul << 20)
#define CPUS 2 /* what images.py says it is made for */
#define NAME_BYTES 56
#define FILES_MAX 1000
enum { SIGNATURE = 0x00, INTERFACE = 0x01, RAM_SIZE = 0x03, CPU_COUNT = 0x05, CPU_COUNT_MAX = 0x0f };
enum { FILE_DIRECTORY = 0x19, FIRST_FILE = 0x20, NOTHING = 0x1fff };

static uint64_t next_little(unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)in8(DATA) << 8 * i;
    return value;
}

static uint32_t next_big(unsigned bytes) {
    uint32_t value = 0;
    while (bytes--) value = value << 8 | in8(DATA);
    return value;
}

static uint64_t item(uint16_t key, unsigned bytes) {
    out16(SELECTOR, key);
    return next_little(bytes);
}

/* count | size, key, 0, name: big-endian; names end with a zero. */
static void check_directory(void) {
    struct tally keys = {0}, names = {0};
    out16(SELECTOR, FILE_DIRECTORY);
    uint32_t count = next_big(4);
    check_true("the directory has a count that is possible", count < FILES_MAX);
    for (uint32_t i = 0; i < count && i < FILES_MAX; i++) {
        next_big(4);
        tally_equal(&keys, next_big(2) >= FIRST_FILE, true);
        next_big(2);
        uint8_t last = 1;
        for (unsigned at = 0; at < NAME_BYTES; at++) last = in8(DATA);
        tally_equal(&names, last, 0);
    }
    tally_equal(&keys, next_big(4), 0); /* behind its end an item reads as zeros */
    tally_equal(&names, 0, 0);
    check_tally("keys of files, and zeros behind the last", &keys);
    check_tally("names of files", &names);
}

void guest_main(void) {
    check_equal("the signature is QEMU", item(SIGNATURE, 4), 0x554d4551);
    check_true("there is the interface of two ports", item(INTERFACE, 4) & 1);
    check_equal("memory", item(RAM_SIZE, 8), MEMORY_BYTES);
    check_equal("CPUs", item(CPU_COUNT, 2), CPUS);
    check_equal("CPUs at most", item(CPU_COUNT_MAX, 2), CPUS);
    check_equal("an item that is not there", item(NOTHING, 8), 0);
    item(SIGNATURE, 2);
    check_equal("the data goes on where it was", next_little(2), 0x554d);
    check_equal("and begins anew when it is selected", item(SIGNATURE, 2), 0x4551);
    check_directory();
}
