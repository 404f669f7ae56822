/* Claim: the local APIC takes interrupts of this CPU's own making in order of priority, holds back what TPR and CR8
 * forbid, nests only higher classes, and passes the 8259s through LINT0 whatever the priorities are (SDM 3A 10).
 */
#include "apic.h"
#include "guest.h"

#define VECTORS_MAX 16

static volatile unsigned taken[VECTORS_MAX], taken_count, ticks;

static void note(unsigned vector) {
    if (taken_count < VECTORS_MAX) taken[taken_count] = vector;
    taken_count = taken_count + 1;
}

#define HANDLER(vector) \
    static void on_##vector(void) { note(vector); }
HANDLER(0x31)
HANDLER(0x45)
HANDLER(0x4f)
HANDLER(0x52)
HANDLER(0x61)

/* Let what is pending in: an interrupt that is due comes within these instructions. */
static void let_in(void) {
    interrupts_on();
    for (volatile unsigned i = 0; i < 10; i++)
        ;
    interrupts_off();
}

static void check_taken(const char *name, unsigned count, const unsigned *vectors) {
    struct tally tally = {0};
    tally_equal(&tally, taken_count, count);
    for (unsigned i = 0; i < count; i++) tally_equal(&tally, taken[i], vectors[i]);
    check_tally(name, &tally);
    taken_count = 0;
}
#define CHECK_TAKEN(name, ...) \
    check_taken(name, sizeof((unsigned[]){__VA_ARGS__}) / sizeof(unsigned), (const unsigned[]){__VA_ARGS__})
#define CHECK_NOTHING(name) check_taken(name, 0, NULL)

static void check_identity(void) {
    check_true("CPUID has the APIC", cpuid(1, 0).edx >> 9 & 1);
    check_equal("IA32_APIC_BASE: the boot CPU's, enabled, at 0xfee00000", read_msr(MSR_APIC_BASE), APIC_BASE | 0x900);
    check_equal("the APIC ID is that of CPUID leaf 1", apic_read(APIC_ID) >> 24, cpuid(1, 0).ebx >> 24);
    check_equal("the version is that of an integrated APIC", apic_read(APIC_VERSION) & 0xf0, 0x10);
    check_true("with five LVT entries or more", (apic_read(APIC_VERSION) >> 16 & 0xff) >= 4);
}

static void check_registers(void) {
    static const struct {
        unsigned offset, written, reads;
    } rows[] = {
        {APIC_TPR, 0xa5, 0xa5},
        {APIC_LDR, 0x5a000000, 0x5a000000},
        {APIC_SVR, APIC_ENABLED | 0xef, APIC_ENABLED | 0xef},
        {APIC_ICR_HIGH, 0x7f000000, 0x7f000000},
        {APIC_LVT_ERROR, LVT_MASKED | 0x77, LVT_MASKED | 0x77},
        {APIC_LVT_LINT0, LVT_MASKED | LVT_EXTINT, LVT_MASKED | LVT_EXTINT},
        {APIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1, TIMER_DIVIDE_BY_1},
        {APIC_TIMER_INITIAL, 0x89abcdef, 0x89abcdef},
    };
    struct tally tally = {0};
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t before = apic_read(rows[i].offset);
        apic_write(rows[i].offset, rows[i].written);
        tally_equal(&tally, apic_read(rows[i].offset), rows[i].reads);
        apic_write(rows[i].offset, before);
        tally_equal(&tally, apic_read(rows[i].offset), before);
    }
    check_tally("registers keep what is written", &tally);
}

static void check_request(void) {
    apic_request(0x45);
    check_true("a request waits in IRR while IF is clear", apic_bit(APIC_IRR, 0x45));
    check_equal("and the delivery status says idle", apic_read(APIC_ICR_LOW) & 1 << 12, 0);
    let_in();
    CHECK_TAKEN("IF set: it is taken", 0x45);
    check_true("and has left IRR and ISR", !apic_bit(APIC_IRR, 0x45) && !apic_bit(APIC_ISR, 0x45));
    apic_request(0x31);
    apic_request(0x61);
    apic_request(0x45);
    apic_request(0x45);
    let_in();
    CHECK_TAKEN("the highest vector first, each once", 0x61, 0x45, 0x31);
}

static void check_destinations(void) {
    unsigned id = apic_read(APIC_ID) >> 24;
    apic_write(APIC_LDR, 0x04000000);
    apic_write(APIC_ICR_HIGH, id << 24);
    apic_write(APIC_ICR_LOW, 0x31);
    let_in();
    CHECK_TAKEN("a physical destination: this APIC's ID", 0x31);
    apic_write(APIC_ICR_HIGH, 0xfful << 24);
    apic_write(APIC_ICR_LOW, 0x45);
    apic_write(APIC_ICR_LOW, ICR_TO_ALL | 0x61);
    let_in();
    CHECK_TAKEN("broadcast, and the shorthand for all", 0x61, 0x45);
    apic_write(APIC_ICR_HIGH, 0x0cul << 24);
    apic_write(APIC_ICR_LOW, ICR_LOGICAL | 0x31);
    apic_write(APIC_ICR_LOW, ICR_LOGICAL | ICR_LOWEST | 0x45);
    let_in();
    CHECK_TAKEN("a logical destination with this APIC's bit", 0x45, 0x31);
    apic_write(APIC_ICR_HIGH, 0x03ul << 24);
    apic_write(APIC_ICR_LOW, ICR_LOGICAL | 0x31);
    apic_write(APIC_ICR_LOW, ICR_TO_OTHERS | 0x45);
    apic_write(APIC_ICR_HIGH, (id ^ 0x40ul) << 24);
    apic_write(APIC_ICR_LOW, 0x61);
    let_in();
    CHECK_NOTHING("none of these is for this CPU");
    apic_write(APIC_DFR, 0x0fffffff);
    apic_write(APIC_LDR, 0x34000000);
    apic_write(APIC_ICR_HIGH, 0x3cul << 24);
    apic_write(APIC_ICR_LOW, ICR_LOGICAL | 0x31);
    apic_write(APIC_ICR_HIGH, 0x24ul << 24);
    apic_write(APIC_ICR_LOW, ICR_LOGICAL | 0x45);
    let_in();
    CHECK_TAKEN("the cluster model: cluster and bit", 0x31);
    apic_write(APIC_DFR, 0xffffffff);
}

static void check_task_priority(void) {
    apic_write(APIC_TPR, 0x40);
    apic_request(0x4f);
    apic_request(0x52);
    let_in();
    CHECK_TAKEN("TPR holds back its own class and lets a higher one in", 0x52);
    check_equal("CR8 is the class of TPR", read_cr8(), 4);
    interrupts_on();
    write_cr8(3);
    asm volatile("nop");
    interrupts_off();
    CHECK_TAKEN("MOV to CR8 lets in what it had held back", 0x4f);
    check_equal("and TPR follows", apic_read(APIC_TPR), 0x30);
    write_cr8(15);
    check_equal("PPR is TPR when nothing is in service", apic_read(APIC_PPR), 0xf0);
    apic_request(0x61);
    let_in();
    CHECK_NOTHING("CR8 15 holds back everything");
    write_cr8(0);
    let_in();
    CHECK_TAKEN("CR8 0 nothing", 0x61);
    if (on_tcg()) return; /* it takes any value */
    TRY("mov %0, %%cr8", : : "r"(16ul));
    check_fault("a CR8 of 16 is refused", VECTOR_GP, 0);
}

static volatile uint32_t ppr_inside;
static volatile bool waits_inside;

static void on_nesting(void) {
    note(0x50);
    apic_request(0x31);
    apic_request(0x5f);
    apic_request(0x61);
    let_in();
    ppr_inside = apic_read(APIC_PPR);
    waits_inside = apic_bit(APIC_IRR, 0x5f) && apic_bit(APIC_ISR, 0x50) && !apic_bit(APIC_IRR, 0x61);
    note(0x50);
}

static void on_5f(void) { note(0x5f); }

static void check_nesting(void) {
    apic_set_handler(0x50, on_nesting);
    apic_set_handler(0x5f, on_5f);
    apic_request(0x50);
    let_in();
    CHECK_TAKEN("only a higher class interrupts a handler", 0x50, 0x61, 0x50, 0x5f, 0x31);
    check_equal("PPR is the class in service", ppr_inside, 0x50);
    check_true("the others waited in IRR", waits_inside);
    apic_write(APIC_EOI, 0);
    check_equal("an EOI with nothing in service does nothing", apic_read(APIC_PPR), 0);
}

static void on_pit(void) { ticks = ticks + 1; }

static void check_virtual_wire(void) {
    irq_set_handler(IRQ_PIT, on_pit);
    pit_periodic(PIT_HZ / 1000);
    out8(PIC_MASTER, 0x0a);
    while (!(in8(PIC_MASTER) & 1))
        ;
    let_in();
    check_equal("LINT0 masked: the 8259s are not heard", ticks, 0);
    write_cr8(15);
    apic_write(APIC_LVT_LINT0, LVT_EXTINT);
    let_in();
    check_true("LINT0 as ExtINT: they are, whatever TPR says", ticks > 0);
    struct tally in_service = {0};
    for (unsigned i = 0; i < 8; i++) tally_equal(&in_service, apic_read(APIC_ISR + 16 * i), 0);
    check_tally("and the local APIC has nothing in service", &in_service);
    unsigned before = ticks;
    wait_for_interrupt();
    check_true("HLT wakes to them", ticks > before);
    irq_set_handler(IRQ_PIT, NULL);
    apic_write(APIC_LVT_LINT0, LVT_MASKED);
    write_cr8(0);
}

/* QEMU's TCG does not check vectors, and never clears ESR. */
static void check_errors(void) {
    if (on_tcg()) return;
    apic_write(APIC_ESR, 0);
    apic_write(APIC_LVT_ERROR, 0x61);
    apic_request(0x0f);
    let_in();
    CHECK_TAKEN("sending vector 15 is an error, which interrupts", 0x61);
    check_equal("ESR shows it only after a write", apic_read(APIC_ESR), 0);
    apic_write(APIC_ESR, 0);
    check_equal("then it does", apic_read(APIC_ESR), 1 << 5);
    apic_read(0x400);
    apic_write(APIC_ESR, 0);
    check_equal("a reserved register is another", apic_read(APIC_ESR), 1 << 7);
    apic_write(APIC_ESR, 0);
    check_equal("a second write clears it", apic_read(APIC_ESR), 0);
    apic_write(APIC_LVT_ERROR, LVT_MASKED);
}

/* Nor does it mask the LVT when software disables the APIC, or let it be enabled again once it was off. */
static void check_disabling(void) {
    if (on_tcg()) return;
    apic_write(APIC_LVT_ERROR, 0x61);
    apic_write(APIC_SVR, APIC_SPURIOUS_VECTOR);
    check_equal("software disable masks the LVT", apic_read(APIC_LVT_ERROR), LVT_MASKED | 0x61);
    apic_request(0x45);
    check_true("and takes no interrupts", !apic_bit(APIC_IRR, 0x45));
    apic_write(APIC_SVR, APIC_ENABLED | APIC_SPURIOUS_VECTOR);
    TRY("wrmsr", : : "c"(MSR_APIC_BASE), "a"(APIC_BASE | 0xd00), "d"(0));
    check_fault("x2APIC mode is refused", VECTOR_GP, 0);
    write_msr(MSR_APIC_BASE, APIC_BASE | 0x100);
    check_true("CPUID has no APIC while the MSR disables it", !(cpuid(1, 0).edx >> 9 & 1));
    check_equal("nobody answers at its address", apic_read(APIC_VERSION), 0xffffffff);
    write_msr(MSR_APIC_BASE, APIC_BASE | 0x900);
    check_equal("it comes back as after power-up", apic_read(APIC_SVR), 0xff);
}

void guest_main(void) {
    if (!(cpuid(1, 0).edx >> 9 & 1)) skip("no local APIC");
    apic_init();
    apic_set_handler(0x31, on_0x31);
    apic_set_handler(0x45, on_0x45);
    apic_set_handler(0x4f, on_0x4f);
    apic_set_handler(0x52, on_0x52);
    apic_set_handler(0x61, on_0x61);
    check_identity();
    check_registers();
    check_request();
    check_destinations();
    check_task_priority();
    check_nesting();
    check_virtual_wire();
    check_errors();
    check_disabling();
}
