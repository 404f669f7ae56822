/* Claim: far CALL and JMP go through call gates of 16 and 32 bits: to the same ring and to inner ones, whose stack comes from
 * the TSS and gets the parameters; a far return takes them off both stacks; each check faults with its error code, and a fault
 * leaves everything as it was. Without paging and with it. SDM 3A 5.8.3 to 5.8.6, 2A "CALL", 2B "RET".
 */
#include "low_memory.h"

enum { GATE16 = 4, GATE32 = 12, PARAMETERS_MAX = 31, PAGE = 4096 };
enum {
    GATE = SELECTOR_SPARE,
    CODE_1 = 0x48,
    STACK_1 = 0x50,
    CONFORMING = 0x58,
    OWN_TSS = 0x60,
    USER_16 = 0x68,
    NEXT = 0x70
};
#define FLAT_CODE 0x00cf9b000000ffff
#define FLAT_DATA 0x00cf93000000ffff
#define LEVEL(dpl) ((uint64_t)(dpl) << 45)
#define PRESENT (1ull << 47)

struct __attribute__((packed)) tss {
    uint32_t link, esp0, ss0, esp1, ss1, others[20];
    uint16_t trap, map;
};
static struct tss own_tss = {.ss0 = SELECTOR_DATA, .map = sizeof own_tss};
static uint8_t stack_0[PAGE] __attribute__((aligned(PAGE))), stack_1[PAGE] __attribute__((aligned(PAGE)));
static uint8_t user_page[PAGE] __attribute__((aligned(PAGE)));
static uint32_t directory[1024] __attribute__((aligned(PAGE))), table[1024] __attribute__((aligned(PAGE)));
static struct registers r;

/* What a gate leads to: it keeps its stack and where it runs, and returns by a far return of the size that is patched in. */
extern char inside[], inside_return[], inside_far[], leave_far[], user_lone[], user_ring1[], user_conforming[],
    user_jump[];
volatile uint32_t frame[40], seen_cs, seen_ss, seen_count;
asm(".text\n"
    "inside: cld; pushl %esi; pushl %edi; pushl %ecx; pushl %ds; pushl %es; movl %ss, %ecx; movl %ecx, %ds; movl %ecx, %es\n"
    "movl %ecx, seen_ss; movl %cs, %ecx; movl %ecx, seen_cs; incl seen_count\n"
    "leal 20(%esp), %esi; movl $frame, %edi; movl $40, %ecx; rep movsl\n"
    "popl %es; popl %ds; popl %ecx; popl %edi; popl %esi\n"
    "inside_return: lret $0\n"
    "inside_far: movl %cs, %eax; lret\n"
    "user_lone: lcall $0x43, $0; int $0x80\n"
    "user_jump: ljmp $0x43, $0\n"
    "leave_far: int $0x80\n");

static void set_call_gate(const void *target, uint32_t selector, uint32_t kind, uint32_t dpl, uint32_t count) {
    uint32_t offset = (uint32_t)target;
    gdt[GATE / 8] = (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)count << 32 | (uint64_t)kind << 40 |
                    PRESENT | LEVEL(dpl) | (uint64_t)(offset >> 16) << 48;
}

static void load_own_tss(void) {
    uint64_t base = (uint32_t)&own_tss;
    own_tss.esp0 = (uint32_t)(stack_0 + PAGE);
    own_tss.esp1 = (uint32_t)(stack_1 + PAGE);
    own_tss.ss1 = STACK_1 | 1;
    gdt[OWN_TSS / 8] = (sizeof own_tss - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24) << 56;
    gdt[CODE_1 / 8] = FLAT_CODE | LEVEL(1);
    gdt[STACK_1 / 8] = FLAT_DATA | LEVEL(1);
    gdt[CONFORMING / 8] = FLAT_CODE | 4ull << 40;
    asm volatile("ltr %w0" : : "r"(OWN_TSS) : "memory");
}

/* In ring 3: pushes n words, 0x101, 0x102 ... from the lowest address, calls, and keeps ESP in EBX. */
static const void *user_caller(uint32_t n) {
    uint8_t *to = user_page;
    for (uint32_t word = 0x100 + n; word > 0x100; word--) {
        *to++ = 0x68;
        for (int i = 0; i < 32; i += 8) *to++ = word >> i & 0xff;
    }
    static const uint8_t end[] = {0x9a, 0,    0,    0,    0,    GATE | 3, 0,
                                  0x89, 0xe3, 0x8c, 0xc9, 0xcd, 0x80}; /* mov ebx, esp; mov ecx, cs */
    for (unsigned i = 0; i < sizeof end; i++) *to++ = end[i];
    return user_page;
}

static void check_parameters(const char *name, uint32_t n) {
    set_call_gate(inside, SELECTOR_CODE | 3, GATE32, 3, n);
    *(volatile uint16_t *)(inside_return + 1) = (uint16_t)(4 * n);
    r = user_registers(user_caller(n));
    uint32_t esp = r.esp;
    run(&r);
    bool same = r.vector == VECTOR_RETURN && r.ebx == esp && r.ecx == SELECTOR_USER_CODE;
    same = same && seen_cs == SELECTOR_CODE && seen_ss == SELECTOR_DATA;
    same = same && frame[0] == (uint32_t)user_page + 5 * n + 7 && frame[1] == SELECTOR_USER_CODE;
    for (uint32_t i = 0; i < n; i++) same = same && frame[2 + i] == 0x101 + i;
    check_true(name, same && frame[2 + n] == esp - 4 * n && frame[3 + n] == SELECTOR_USER_DATA);
}

static void user_fault(const char *name, const void *code, uint32_t vector, uint32_t error_code) {
    r = user_registers(code);
    uint32_t esp = r.esp;
    run(&r);
    check_true(name, r.vector == vector && r.error_code == error_code && r.eip == (uint32_t)code && r.esp == esp &&
                         r.cs == SELECTOR_USER_CODE && r.ss == SELECTOR_USER_DATA);
}

static void check_gate(void) {
    set_call_gate(inside_far, SELECTOR_CODE, GATE32, 0, 0);
    user_fault("the gate's DPL below CPL: #GP", user_lone, VECTOR_GP, GATE);
    TRY("lcall $0x43, $0", : : : "eax", "memory", "cc");
    check_fault("and below RPL", VECTOR_GP, GATE);
    set_call_gate(inside_far, SELECTOR_CODE, GATE32, 3, 0);
    gdt[GATE / 8] &= ~PRESENT;
    user_fault("not present: #NP", user_lone, VECTOR_NP, GATE);
    set_call_gate(inside_far, 0, GATE32, 3, 0);
    user_fault("a null code segment: #GP(0)", user_lone, VECTOR_GP, 0);
    set_call_gate(inside_far, 0x80, GATE32, 3, 0);
    user_fault("code beyond the GDT", user_lone, VECTOR_GP, 0x80);
    set_call_gate(inside_far, SELECTOR_DATA, GATE32, 3, 0);
    user_fault("code that is data", user_lone, VECTOR_GP, SELECTOR_DATA);
    set_call_gate(inside_far, NEXT, GATE32, 3, 0);
    gdt[NEXT / 8] = FLAT_CODE & ~PRESENT;
    user_fault("code that is not present", user_lone, VECTOR_NP, NEXT);
    gdt[NEXT / 8] = 0x00409b000000ffff;
    if (!on_tcg())
        user_fault("beyond the limit of the code: #GP(0)", user_lone, VECTOR_GP, 0); /* TCG does not check it */
    set_call_gate(inside_far, SELECTOR_USER_CODE, GATE32, 3, 0);
    TRY("lcall $0x40, $0", : : : "eax", "memory", "cc");
    check_fault("code of an outer ring", VECTOR_GP, SELECTOR_USER_CODE & ~3);
    set_call_gate(inside_far, SELECTOR_CODE, GATE32, 3, 0);
    user_fault("a far jump to an inner ring", user_jump, VECTOR_GP, SELECTOR_CODE);
}

static void check_rings(void) {
    set_call_gate(inside_far, SELECTOR_CODE, GATE32, 0, 3);
    uint32_t eax = 0;
    TRY("lcall $0x40, $0", : "=a"(eax) : : "memory", "cc");
    check_no_fault("from ring 0");
    check_equal("which stays there", eax, SELECTOR_CODE);
    if (!on_tcg()) { /* there CS gets the DPL as its RPL */
        set_call_gate(inside_far, CONFORMING, GATE32, 3, 3);
        r = user_registers(user_lone);
        run(&r);
        check_true("conforming code runs in the ring of the caller",
                   r.vector == VECTOR_RETURN && r.eax == (CONFORMING | 3));
    }
    set_call_gate(leave_far, SELECTOR_USER_CODE, GATE32, 3, 0);
    r = user_registers(user_jump);
    run(&r);
    check_true("a far jump in ring 3", r.vector == VECTOR_RETURN && r.eip == (uint32_t)leave_far + 2);
    set_call_gate(inside_far, CODE_1, GATE32, 3, 0);
    r = user_registers(user_lone);
    run(&r);
    check_true("ring 1, and back", r.vector == VECTOR_RETURN && r.eax == (CODE_1 | 1));
    check_equal("on its own stack", ((uint32_t *)(stack_1 + PAGE))[-1], SELECTOR_USER_DATA);
}

static void check_stacks(void) {
    set_call_gate(inside_far, CODE_1, GATE32, 3, 0);
    own_tss.ss1 = 0;
    user_fault("a null stack segment: #TS(0)", user_lone, VECTOR_TS, 0);
    own_tss.ss1 = 0x81;
    user_fault("a stack segment beyond the GDT", user_lone, VECTOR_TS, 0x80);
    own_tss.ss1 = SELECTOR_DATA | 1;
    user_fault("of another ring", user_lone, VECTOR_TS, SELECTOR_DATA);
    own_tss.ss1 = STACK_1;
    user_fault("with another RPL", user_lone, VECTOR_TS, STACK_1);
    own_tss.ss1 = CODE_1 | 1;
    user_fault("that is code", user_lone, VECTOR_TS, CODE_1);
    own_tss.ss1 = NEXT | 1;
    gdt[NEXT / 8] = (FLAT_DATA | LEVEL(1)) & ~PRESENT;
    user_fault("that is not present: #SS", user_lone, on_tcg() ? VECTOR_TS : VECTOR_SS, NEXT);
    gdt[NEXT / 8] = (FLAT_DATA | LEVEL(1)) & ~(0xfull << 48 | 1ull << 55);
    if (!on_tcg()) user_fault("that ends below: #SS", user_lone, VECTOR_SS, NEXT); /* TCG knows no limits */
    own_tss.ss1 = STACK_1 | 1;
}

CODE16(user16, "push $0x22; push $0x11; lcall $0x43, $0x80; mov %sp, %bx; int $0x80");
CODE16(inside16,
       "mov %esp, %edi; mov %ss, %ecx; mov %cs, %esi; movl %ss:(%edi), %eax; movl %ss:4(%edi), %edx; lret $4");

static void check_16_bits(void) {
    gdt[NEXT / 8] = 0x00009b000000ffff | (uint64_t)LINEAR(CODE_SEGMENT) << 16;
    gdt[USER_16 / 8] = 0x0000fb000000ffff | (uint64_t)LINEAR(CODE_SEGMENT) << 16;
    copy_down(user16, user16_end, 0);
    copy_down(inside16, inside16_end, 0x80);
    set_call_gate((void *)(on_tcg() ? 0x80 : 0xffff0080), NEXT, GATE16, 3,
                  2); /* TCG takes the upper half of the offset */
    r = user_registers(0);
    r.cs = USER_16 | 3;
    uint32_t esp = r.esp;
    run(&r);
    check_equal("a 16-bit gate: back in ring 3", r.vector, VECTOR_RETURN);
    check_true("in ring 0, with 12 bytes on its stack",
               r.esi == NEXT && r.ecx == SELECTOR_DATA && r.edi == (uint32_t)(stack_0 + PAGE) - 12);
    check_equal("IP and CS of 16 bits", r.eax, (USER_16 | 3) << 16 | 9);
    check_equal("and the parameters", r.edx, 0x00220011);
    check_equal("which are gone", r.ebx & 0xffff, esp & 0xffff);
}

static void page_on(void) {
    for (uint32_t i = 0; i < 1024; i++) directory[i] = i << 22 | 0x87;
    uint32_t first = (uint32_t)stack_0 >> 22;
    for (uint32_t i = 0; i < 1024; i++) table[i] = first << 22 | i << 12 | 7;
    directory[first] = (uint32_t)table | 7;
    write_cr4(read_cr4() | CR4_PSE);
    write_cr3((uint32_t)directory);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

static volatile uint32_t *pte(const void *of) { return &table[(uint32_t)of >> 12 & 1023]; }

static void check_page_faults(void) {
    set_call_gate(inside_far, CODE_1, GATE32, 3, 0);
    *pte(stack_1) = 0;
    invlpg((uint32_t)stack_1);
    user_fault("a stack that is not mapped: #PF", user_lone, VECTOR_PF, 2);
    check_equal("its address", last_cr2, (uint32_t)(stack_1 + PAGE) - 4);
    *pte(stack_1) = (uint32_t)stack_1 | 7;
    run(&r);
    check_true("and again when it is", r.vector == VECTOR_RETURN && r.eax == (CODE_1 | 1));
    *pte(&own_tss) = 0;
    invlpg((uint32_t)&own_tss);
    *pte(&own_tss) = (uint32_t)&own_tss & ~0xfffu; /* absent, and whole again at once: nothing may be kept of it */
    *pte(&own_tss) |= 7;
    r = user_registers(user_lone);
    run(&r);
    check_equal("a TSS that was not mapped in between", r.vector, VECTOR_RETURN);
}

static void check_all(void) {
    check_parameters("no parameter", 0);
    check_parameters("one parameter", 1);
    check_parameters("two parameters", 2);
    check_parameters("31 parameters", PARAMETERS_MAX);
    check_gate();
    check_rings();
    check_stacks();
    check_16_bits();
}

void guest_main(void) {
    load_own_tss();
    check_all();
    page_on();
    check_all();
    check_page_faults();
}
