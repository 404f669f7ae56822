/* Claim: the processor switches tasks: by JMP, CALL and IRET, through task gates of the GDT and the IDT, with TSSs of 32 and 16
 * bits. It saves and loads all registers, CR3 and LDTR, keeps links, busy bits and NT, sets CR0.TS; what is wrong with a TSS is
 * a fault of the old task, and what is wrong with its segments one of the new task. SDM 3A 7.
 *
 *   MAIN     the kernel itself            GATE    a task gate to OTHER
 *   OTHER    made anew for each check     FAULTS  takes exceptions, notes them, and jumps back to MAIN
 */
#include "low_memory.h"

enum {
    MAIN = 0x40,
    OTHER = 0x48,
    FAULTS = 0x50,
    GATE = 0x58,
    LDT = 0x60,
    NEXT = 0x68,
    LOW_CODE = 0x70,
    LOW_DATA = 0x78
};
enum { FREE_16 = 1, FREE = 9, BUSY = 2, TASK_GATE = 0x85, TASK_GATE_USER = 0xe5, PAGE = 4096 };
enum { FLAG_NT = 0x4000, FLAG_RF = 0x10000, CR0_TS = 8, VECTOR_TASK = 0x70, VECTOR_BACK = 0x71 };
#define PRESENT (1ull << 47)
#define FLAT_DATA 0x00cf93000000ffff
#define FLAT_CODE 0x00cf9b000000ffff
#define USER 0x600000000000ull

struct __attribute__((packed)) tss {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, map;
};
struct __attribute__((packed)) tss16 {
    uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
};
static struct tss main_tss, other, faults;
static struct tss16 other16;
static uint8_t trap_stack[PAGE], other_stack[PAGE], faults_stack[PAGE];
static uint8_t two_pages[2 * PAGE] __attribute__((aligned(PAGE)));
static uint32_t directory[1024] __attribute__((aligned(PAGE))), table[1024] __attribute__((aligned(PAGE)));
static uint32_t other_directory[1024] __attribute__((aligned(PAGE)));
static uint64_t ldt[2];
static struct registers r;

/* The other task: notes what it sees, and goes back the way it came. */
volatile uint32_t ran, seen_cr0, seen_flags, seen_types, seen_word, seen_ldt, seen_tr, watched;
volatile uint32_t fault_count, fault_code;
extern char task[], fault_task[], user_gate[], user_int[];
asm(".text\n"
    "task: pushal; incl ran; movl %cr0, %eax; movl %eax, seen_cr0; pushfl; popl seen_flags; sldt seen_ldt; str seen_tr\n"
    "movb gdt + 0x45, %al; movb gdt + 0x4d, %ah; movzwl %ax, %eax; andl $0xf0f, %eax; movl %eax, seen_types\n"
    "movl watched, %eax; movl (%eax), %eax; movl %eax, seen_word; popal; incl %edi\n"
    "testl $0x4000, seen_flags; jnz 1f; ljmp $0x40, $0; jmp task\n"
    "1: iretl; jmp task\n"
    "fault_task: popl fault_code; incl fault_count; ljmp $0x40, $0; jmp fault_task\n"
    "user_gate: lcall $0x5b, $0; int $0x80\n"
    "user_int: int $0x70; int $0x80\n");

static uint64_t describe(const void *base, uint32_t limit, uint32_t type) {
    uint64_t at = (uint32_t)base;
    return limit | (at & 0xffffff) << 16 | (uint64_t)(0x80 | type) << 40 | (at >> 24) << 56;
}

static uint32_t type_of(uint32_t selector) { return gdt[selector / 8] >> 40 & 15; }

static struct tss fresh(const void *code, uint8_t *stack) {
    struct tss new = {.eip = (uint32_t)code, .eflags = FLAGS_FIXED, .esp = (uint32_t)(stack + PAGE), .cr3 = read_cr3()};
    new.ss0 = new.es = new.ss = new.ds = new.fs = new.gs = SELECTOR_DATA;
    new.cs = SELECTOR_CODE;
    new.esp0 = (uint32_t)(stack + PAGE / 2);
    new.map = sizeof new;
    return new;
}

static void prepare(void) {
    other = fresh(task, other_stack);
    faults = fresh(fault_task, faults_stack);
    gdt[OTHER / 8] = describe(&other, sizeof other - 1, FREE);
    gdt[FAULTS / 8] = describe(&faults, sizeof faults - 1, FREE);
    gdt[GATE / 8] = (uint64_t)OTHER << 16 | (uint64_t)TASK_GATE_USER << 40;
    watched = (uint32_t)&watched;
    ran = fault_count = 0;
    fault_code = 0xffffffff;
    asm volatile("clts");
}

#define CLOBBERED : : : "eax", "memory", "cc"
#define JMP(selector) TRY("ljmp $" #selector ", $0", CLOBBERED)
#define CALL(selector) TRY("lcall $" #selector ", $0", CLOBBERED)

static void check_jump(void) {
    uint32_t edi;
    prepare();
    other.edi = 0x1234;
    TRY("movl $0xabcd, %%edi; stc; ljmp $0x48, $0", : "=D"(edi) : : "memory", "cc");
    check_no_fault("JMP to a task and back");
    check_equal("it ran", ran, 1);
    check_equal("our EDI is ours", edi, 0xabcd);
    check_true("its EDI is its own", other.edi == 0x1235 && main_tss.edi == 0xabcd);
    if (!on_tcg()) /* where CF is lost, and EIP when the new task faults */
        check_equal("our flags are saved", main_tss.eflags & (FLAG_CF | FLAG_NT | FLAGS_FIXED), FLAG_CF | FLAGS_FIXED);
    check_true("our segments are",
               main_tss.cs == SELECTOR_CODE && main_tss.ss == SELECTOR_DATA && main_tss.ds == SELECTOR_DATA);
    check_equal("who is busy there", seen_types, (FREE | BUSY) << 8 | FREE);
    check_true("and here", type_of(MAIN) == (FREE | BUSY) && type_of(OTHER) == FREE);
    check_equal("TR there", seen_tr & 0xffff, OTHER);
    check_equal("NT there", seen_flags & FLAG_NT, 0);
    check_true("CR0.TS there and here", (seen_cr0 & CR0_TS) && (read_cr0() & CR0_TS));
    TRY("fnop", : : : "memory");
    check_fault("so #NM", VECTOR_NM, 0);
}

static void check_call(void) {
    prepare();
    CALL(0x48);
    check_no_fault("CALL, and IRET from there");
    check_equal("it ran", ran, 1);
    check_equal("NT there", seen_flags & FLAG_NT, FLAG_NT);
    check_equal("it links to us", other.link, MAIN);
    check_equal("both are busy there", seen_types, (FREE | BUSY) << 8 | FREE | BUSY);
    check_true("and we here", type_of(MAIN) == (FREE | BUSY) && type_of(OTHER) == FREE);
    check_equal("IRET saves its flags without NT", other.eflags & FLAG_NT, 0);
    CALL(0x48);
    check_true("again, where it left off", ran == 2 && last_trap.vector == NO_TRAP);
    CALL(0x58);
    check_true("through a task gate", ran == 3 && last_trap.vector == NO_TRAP);
    JMP(0x58);
    check_true("and a JMP", ran == 4 && last_trap.vector == NO_TRAP && !(seen_flags & FLAG_NT));
    r = user_registers(user_gate);
    run(&r);
    check_true("from ring 3 through a gate to a TSS of DPL 0", ran == 5 && r.vector == VECTOR_RETURN);
    check_true("ring 3 is what was saved", main_tss.cs == SELECTOR_USER_CODE && main_tss.ss == SELECTOR_USER_DATA);
}

static void check_16_bits(void) {
    prepare();
    gdt[LOW_CODE / 8] = 0x00009b000000ffff | (uint64_t)LINEAR(CODE_SEGMENT) << 16;
    gdt[LOW_DATA / 8] = 0x000093000000ffff | (uint64_t)LINEAR(STACK_SEGMENT) << 16;
    extern const char task16[], task16_end[];
    copy_down(task16, task16_end, 0);
    other16 =
        (struct tss16){.flags = 2, .ax = 0x7000, .sp = 0x800, .cs = LOW_CODE, .ss = LOW_DATA, .ds = SELECTOR_DATA};
    other16.es = SELECTOR_DATA;
    gdt[OTHER / 8] = describe(&other16, sizeof other16 - 1, FREE_16);
    CALL(0x48);
    check_no_fault("CALL to a 16-bit task and back");
    check_true("its words", other16.ax == 0x7001 && other16.ip == 2 && other16.link == MAIN && other16.cs == LOW_CODE);
    CALL(0x48);
    check_equal("again", other16.ax, 0x7002);
    check_equal("a 16-bit TSS has a type of its own", type_of(OTHER), FREE_16);
}
CODE16(task16, "1: incw %ax; iretw; jmp 1b");

static void check_interrupts(void) {
    prepare();
    set_gate(VECTOR_TASK, 0, OTHER, TASK_GATE_USER);
    TRY("int $0x70", CLOBBERED);
    check_true("INT through a task gate", ran == 1 && last_trap.vector == NO_TRAP && (seen_flags & FLAG_NT));
    r = user_registers(user_int);
    run(&r);
    check_true("from ring 3", ran == 2 && r.vector == VECTOR_RETURN && r.eip == (uint32_t)user_int + 4);
    set_gate(VECTOR_TASK, 0, OTHER, TASK_GATE);
    r = user_registers(user_int);
    run(&r);
    check_true("but not past its DPL", ran == 2 && r.vector == VECTOR_GP && r.error_code == VECTOR_TASK * 8 + 2);
    other.eflags = FLAGS_FIXED;
    set_gate(VECTOR_IRQ0, 0, OTHER, TASK_GATE);
    pic_init(VECTOR_IRQ0, 1);
    pit_one_shot(1000);
    wait_for_interrupt();
    pic_init(VECTOR_IRQ0, 0);
    check_equal("an interrupt of a device", ran, 3);
    check_equal("the task has its own IF", seen_flags & FLAG_IF, 0);
}

static uint64_t saved_gates[256];
static void take_faults(uint32_t vector) {
    saved_gates[vector] = idt[vector];
    set_gate(vector, 0, FAULTS, TASK_GATE);
}
static void give_faults(uint32_t vector) { idt[vector] = saved_gates[vector]; }

/* OTHER faults when it begins: FAULTS finds it, in the state that its TSS has. */
static void begins_with(const char *name, uint32_t vector, uint32_t error_code) {
    fault_count = 0;
    take_faults(vector);
    JMP(0x48);
    give_faults(vector);
    bool same = fault_count == 1 && fault_code == error_code && ran == 0 && faults.link == OTHER;
    same = same && type_of(OTHER) == (FREE | BUSY) && type_of(FAULTS) == FREE;
    check_true(name, same && (on_tcg() || other.eip == (uint32_t)task));
    prepare();
}

static void check_faults(void) {
    prepare();
    gdt[NEXT / 8] = FLAT_DATA & ~PRESENT;
    other.ldt = LDT | 4;
    begins_with("an LDT in the LDT", VECTOR_TS, LDT | 4);
    other.ldt = SELECTOR_DATA;
    begins_with("no LDT", VECTOR_TS, SELECTOR_DATA);
    other.ldt = 0x88;
    begins_with("an LDT beyond the GDT", VECTOR_TS, 0x88);
    other.cs = 0;
    begins_with("a null CS", VECTOR_TS, 0);
    other.cs = SELECTOR_DATA;
    begins_with("CS that is data", VECTOR_TS, SELECTOR_DATA);
    gdt[NEXT / 8] = FLAT_CODE | USER;
    other.cs = NEXT;
    begins_with("CS of another ring", VECTOR_TS, NEXT);
    gdt[NEXT / 8] = FLAT_CODE & ~PRESENT;
    other.cs = NEXT;
    begins_with("CS that is not present", VECTOR_NP, NEXT);
    other.ss = 0;
    begins_with("a null SS", VECTOR_TS, 0);
    other.ss = SELECTOR_USER_DATA;
    begins_with("SS of another ring", VECTOR_TS, SELECTOR_USER_DATA & ~3);
    gdt[NEXT / 8] = FLAT_DATA & ~PRESENT;
    other.ss = NEXT;
    begins_with("SS that is not present", on_tcg() ? VECTOR_NP : VECTOR_SS, NEXT);
    other.ds = 0x88;
    begins_with("DS beyond the GDT", VECTOR_TS, 0x88);
    other.es = MAIN;
    begins_with("ES that is a system segment", VECTOR_TS, MAIN);
    other.gs = NEXT;
    begins_with("GS that is not present", VECTOR_NP, NEXT);
    other.fs = 3;
    JMP(0x48);
    check_true("null data segments are none", ran == 1 && other.fs == 3);
    prepare();
    other.es = SELECTOR_DATA | 3;
    begins_with("ES with an RPL above its DPL", VECTOR_TS, SELECTOR_DATA);
    if (on_tcg()) return; /* which has no limits, and no T bit */
    gdt[NEXT / 8] = 0x00409b000000ffff;
    other.cs = NEXT;
    begins_with("EIP beyond CS: #GP(0)", VECTOR_GP, 0);
    faults.esp -= 4; /* there is no error code */
    other.trap = 1;
    begins_with("the T bit: #DB", VECTOR_DB, 0);
    if (read_cr0() & CR0_PG) return;                                       /* CR3 would be all ones, too */
    gdt[OTHER / 8] = describe((void *)0xfec01000, sizeof other - 1, FREE); /* nothing: all ones, nothing is kept */
    take_faults(VECTOR_TS);
    JMP(0x48);
    give_faults(VECTOR_TS);
    check_true("a TSS where nothing is", fault_count == 1 && fault_code == 0xfffc && faults.link == OTHER);
}

static void check_old_faults(void) {
    prepare();
    gdt[OTHER / 8] |= (uint64_t)BUSY << 40;
    JMP(0x48);
    check_fault("JMP to a busy TSS", VECTOR_GP, OTHER);
    CALL(0x58);
    check_fault("through a task gate", VECTOR_GP, OTHER);
    CALL(0x40);
    check_fault("CALL to ourselves", VECTOR_GP, MAIN);
    prepare();
    gdt[OTHER / 8] &= ~PRESENT;
    JMP(0x48);
    check_fault("a TSS that is not present", VECTOR_NP, OTHER);
    gdt[GATE / 8] &= ~PRESENT;
    JMP(0x58);
    check_fault("a gate that is not present", VECTOR_NP, GATE);
    prepare();
    gdt[OTHER / 8] = describe(&other, sizeof other - 2, FREE);
    JMP(0x48);
    check_fault("a TSS that is too short", VECTOR_TS, OTHER);
    TRY("ljmp $0x49, $0", CLOBBERED);
    check_fault("an RPL above its DPL", VECTOR_GP, OTHER);
    gdt[GATE / 8] = (uint64_t)(OTHER | 4) << 16 | (uint64_t)TASK_GATE << 40;
    CALL(0x58);
    check_fault("a TSS in the LDT", on_tcg() ? VECTOR_TS : VECTOR_GP, OTHER | 4);
    gdt[GATE / 8] = (uint64_t)SELECTOR_DATA << 16 | (uint64_t)TASK_GATE << 40;
    CALL(0x58);
    check_fault("a task gate to data", VECTOR_GP, SELECTOR_DATA);
    prepare();
    set_gate(VECTOR_TASK, 0, OTHER, TASK_GATE);
    gdt[OTHER / 8] |= (uint64_t)BUSY << 40;
    TRY("int $0x70", CLOBBERED);
    check_fault("INT to a busy task", VECTOR_GP, OTHER);
    main_tss.link = OTHER;
    gdt[OTHER / 8] = describe(&other, sizeof other - 1, FREE);
    TRY("pushfl; pushfl; orl $0x4000, (%%esp); popfl; movl $3f, last_start; 3: iretl; popfl", CLOBBERED);
    check_fault("IRET to a task that is not busy", VECTOR_TS, OTHER);
    asm volatile("popfl" : : : "memory", "cc"); /* which was left on the stack */
    check_true("none of them ran", ran == 0 && type_of(MAIN) == (FREE | BUSY));
}

static void check_rest(void) {
    prepare();
    ldt[0] = FLAT_DATA;
    gdt[LDT / 8] = describe(ldt, sizeof ldt - 1, 2);
    other.ldt = LDT;
    other.gs = 4;
    JMP(0x48);
    check_true("a task has its own LDT", ran == 1 && (seen_ldt & 0xffff) == LDT && other.gs == 4 && other.ldt == LDT);
    asm volatile("movl %0, %%dr0; movl %1, %%dr7" : : "r"(&watched), "r"(0x703));
    prepare();
    JMP(0x48);
    uint32_t dr7;
    asm volatile("movl %%dr7, %0; movl %1, %%dr7" : "=r"(dr7) : "r"(0x400));
    check_equal("local breakpoints end with the task, global ones do not", dr7 & 3, 2);
    prepare();
    extern const char task_v86[], task_v86_end[];
    copy_down(task_v86, task_v86_end, 0);
    other.eflags = FLAGS_FIXED | FLAG_VM | FLAG_IOPL3;
    other.cs = other.ds = other.es = other.fs = other.gs = CODE_SEGMENT;
    other.eip = 0;
    other.ss = STACK_SEGMENT;
    other.esp = STACK_TOP;
    set_gate(VECTOR_BACK, 0, MAIN, TASK_GATE_USER);
    JMP(0x48);
    asm volatile("pushfl; andl $~0x4000, (%%esp); popfl" : : : "memory", "cc"); /* we have been called */
    check_true("a virtual-8086 task",
               (other.eax & 0xffff) == CODE_SEGMENT && (other.eflags & FLAG_VM) && other.eip == 4);
    check_equal("it has called us", main_tss.link & 0xffff, OTHER);
    main_tss.link = 0;
}
CODE16(task_v86, "mov %ds, %ax; int $0x71");

static void page_on(void) {
    for (uint32_t i = 0; i < 1024; i++) directory[i] = other_directory[i] = i << 22 | 0x87;
    uint32_t first = (uint32_t)two_pages >> 22;
    for (uint32_t i = 0; i < 1024; i++) table[i] = first << 22 | i << 12 | 7;
    directory[first] = (uint32_t)table | 7;
    directory[64] = (uint32_t)&table >> 22 << 22 | 0x87; /* at 256 MiB something else in each space */
    other_directory[64] = ((uint32_t)&table >> 22 << 22) + (4 << 20) | 0x87;
    write_cr4(read_cr4() | CR4_PSE);
    write_cr3((uint32_t)directory);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

static void check_paging(void) {
    uint32_t offset = (uint32_t)&watched & 0x3fffff;
    prepare();
    other.cr3 = (uint32_t)other_directory;
    watched = 0x10000000 + offset;
    store32(((uint32_t)&watched & ~0x3fffffu) + (4 << 20) + offset, 0x5a5a);
    JMP(0x48);
    check_true("each task has its address space", ran == 1 && seen_word == 0x5a5a && load32(watched) == watched);
    check_equal("ours is what it was", read_cr3(), (uint32_t)directory);

    struct tss *across = (struct tss *)(two_pages + PAGE - 40);
    volatile uint32_t *second = &table[(uint32_t)(two_pages + PAGE) >> 12 & 1023];
    prepare();
    *across = other;
    gdt[OTHER / 8] = describe(across, sizeof other - 1, FREE);
    *second = 0;
    invlpg((uint32_t)(two_pages + PAGE));
    JMP(0x48);
    check_page_fault("a TSS across a page that is not there", 0, (uint32_t)(two_pages + PAGE));
    check_true("nothing has changed", ran == 0 && type_of(MAIN) == (FREE | BUSY) && type_of(OTHER) == FREE);
    *second = (uint32_t)(two_pages + PAGE) | 3;
    JMP(0x48);
    check_true("and when it is", ran == 1 && across->edi == other.edi + 1);
    main_tss.cr3 = (uint32_t)directory;
    prepare();
    *second = (uint32_t)(two_pages + PAGE) | 1; /* read-only */
    invlpg((uint32_t)(two_pages + PAGE));
    gdt[OTHER / 8] = describe(two_pages + PAGE, sizeof other - 1, FREE);
    if (!on_tcg()) { /* which has written to the old TSS by then */
        CALL(0x48);
        check_page_fault("a TSS that cannot be linked", 3, (uint32_t)(two_pages + PAGE));
    }
    *second |= 2;
    invlpg((uint32_t)(two_pages + PAGE));
}

static void check_all(void) {
    check_jump();
    check_call();
    check_16_bits();
    check_interrupts();
    check_old_faults();
    check_rest();
    check_faults();
}

void guest_main(void) {
    main_tss = fresh(0, trap_stack);
    gdt[MAIN / 8] = describe(&main_tss, sizeof main_tss - 1, FREE);
    asm volatile("ltr %w0" : : "r"(MAIN) : "memory");
    check_all();
    page_on();
    main_tss.cr3 = (uint32_t)directory;
    check_all();
    check_paging();
}
