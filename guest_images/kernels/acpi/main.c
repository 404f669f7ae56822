/* Claim: firmware's tables are where a kernel looks for them, add up, and lead to this machine's CPU, interrupt controllers
 * and power-management block; its timer keeps time with the PIT, and entering S5 ends the run (ACPI specification 6.4, 4.8
 * and 5.2; MP specification 1.4).
 */
#include "apic.h"
#include "guest.h"

#define SEARCH_START 0xe0000ul
#define SEARCH_END 0x100000ul
#define PM_TIMER_HZ 3579545
#define PM_CONTROL_SCI_ENABLED 1
#define PM_CONTROL_SLEEP (1 << 13)
#define FADT_FLAG_TIMER_32 (1 << 8)

struct __attribute__((packed)) table {
    char signature[4];
    uint32_t bytes;
    uint8_t revision, checksum;
    char oem[6], oem_table[8];
    uint32_t oem_revision, creator, creator_revision;
};
struct __attribute__((packed)) rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt;
};
struct __attribute__((packed)) fadt {
    struct table header;
    uint32_t facs, dsdt;
    uint8_t reserved, profile;
    uint16_t sci;
    uint32_t smi_command;
    uint8_t modes[4];
    uint32_t event_a, event_b, control_a, control_b, control_2, timer, gpe0, gpe1;
    uint8_t event_bytes, control_bytes, control_2_bytes, timer_bytes, other[20];
    uint32_t flags;
};

static bool same(const char *a, const char *b, unsigned bytes) {
    while (bytes--)
        if (a[bytes] != b[bytes]) return false;
    return true;
}

static bool adds_up(const void *data, uint32_t bytes) {
    uint8_t sum = 0;
    for (uint32_t i = 0; i < bytes; i++) sum += ((const uint8_t *)data)[i];
    return !sum;
}

/* What begins with `signature` at a multiple of 16, with a checksum over `bytes`. */
static const void *search(const char *signature, unsigned signature_bytes, uint32_t bytes) {
    for (uint64_t at = SEARCH_START; at < SEARCH_END; at += 16)
        if (same((const char *)at, signature, signature_bytes) && adds_up((const void *)at, bytes))
            return (const void *)at;
    return NULL;
}

/* Tables lie anywhere below 4 GiB; on QEMU at the end of memory, which the identity map has. */
static const struct table *find(const struct table *rsdt, const char *signature) {
    for (uint32_t at = sizeof *rsdt; at + 4 <= rsdt->bytes; at += 4) {
        const struct table *table = (const void *)(uint64_t) * (const uint32_t *)((uint64_t)rsdt + at);
        if (same(table->signature, signature, 4)) return table;
    }
    error("no table %s", signature);
}

static void check_madt(const struct table *madt) {
    bool has_cpu = false, has_ioapic = false, timer_is_on_pin_2 = false;
    check_true("MADT: its checksum", adds_up(madt, madt->bytes));
    check_equal("MADT: the local APICs are at 0xfee00000", *(const uint32_t *)(madt + 1), APIC_BASE);
    const uint8_t *end = (const uint8_t *)madt + madt->bytes;
    for (const uint8_t *at = (const uint8_t *)(madt + 1) + 8; at + 2 <= end && at[1] >= 2; at += at[1]) {
        if (at[0] == 0 && at[3] == apic_read(APIC_ID) >> 24 && (at[4] & 1)) has_cpu = true;
        if (at[0] == 1 && *(const uint32_t *)(at + 4) == IOAPIC_BASE && !*(const uint32_t *)(at + 8)) has_ioapic = true;
        if (at[0] == 2 && !at[3] && *(const uint32_t *)(at + 4) == 2) timer_is_on_pin_2 = true;
    }
    check_true("MADT: this CPU is enabled", has_cpu);
    check_true("MADT: the I/O APIC is at 0xfec00000 and has the first interrupts", has_ioapic);
    check_true("MADT: IRQ 0 is on pin 2", timer_is_on_pin_2);
}

static uint32_t pm_timer(const struct fadt *fadt) {
    uint32_t mask = fadt->flags & FADT_FLAG_TIMER_32 ? 0xffffffff : 0xffffff;
    return in32(fadt->timer) & mask;
}

static void check_pm(const struct fadt *fadt) {
    check_true("FADT: its checksum", adds_up(fadt, fadt->header.bytes));
    check_equal("FADT: the SCI is IRQ 9", fadt->sci, 9);
    check_equal("FADT: the timer has a port of 4 bytes", fadt->timer_bytes, 4);
    check_equal("PM1: no button is pressed", in16(fadt->event_a) & 0x520, 0);
    uint32_t began = pm_timer(fadt);
    pit_one_shot(PIT_HZ / 100);
    do out8(PIT_CONTROL, 0xe2); /* the status of counter 0: is OUT high? */
    while (!(in8(PIT_CHANNEL0) & 0x80));
    uint32_t ticks = (pm_timer(fadt) - began) & 0xffffff;
    check_true("the PM timer counts 3.58 MHz by the PIT", ticks > PM_TIMER_HZ / 110 && ticks < PM_TIMER_HZ / 90);
}

static void check_mp_table(void) {
    const uint8_t *pointer = search("_MP_", 4, 16);
    check_true("the MP floating pointer is found", pointer);
    if (!pointer) return;
    const uint8_t *table = (const void *)(uint64_t) * (const uint32_t *)(pointer + 4);
    check_true("the MP table and its checksum",
               same((const char *)table, "PCMP", 4) && adds_up(table, *(const uint16_t *)(table + 4)));
    check_equal("its local APIC address", *(const uint32_t *)(table + 36), APIC_BASE);
}

/* The value of SLP_TYP is the first element of the package \_S5: a byte or a constant 0 or 1. */
static unsigned s5_type(const struct table *dsdt) {
    const char *end = (const char *)dsdt + dsdt->bytes - 8;
    for (const char *at = (const char *)(dsdt + 1); at < end; at++) {
        if (!same(at, "_S5_", 4) || at[4] != 0x12) continue;
        const uint8_t *element = (const uint8_t *)at + 7; /* behind PackageOp, length, count */
        return *element == 0x0a ? element[1] : *element;
    }
    error("the DSDT has no _S5");
}

void guest_main(void) {
    apic_init();
    const struct rsdp *rsdp = search("RSD PTR ", 8, 20);
    if (!rsdp) error("no RSDP");
    const struct table *rsdt = (const void *)(uint64_t)rsdp->rsdt;
    check_true("the RSDP leads to the RSDT", same(rsdt->signature, "RSDT", 4) && adds_up(rsdt, rsdt->bytes));
    check_madt(find(rsdt, "APIC"));
    const struct fadt *fadt = (const void *)find(rsdt, "FACP");
    const struct table *dsdt = (const void *)(uint64_t)fadt->dsdt;
    check_true("the DSDT and its checksum", same(dsdt->signature, "DSDT", 4) && adds_up(dsdt, dsdt->bytes));
    check_pm(fadt);
    check_mp_table();
    unsigned type = s5_type(dsdt);
    print_verdict();
    out16(fadt->control_a, (uint16_t)(type << 10 | PM_CONTROL_SLEEP));
    for (;;) asm volatile("cli; hlt");
}
