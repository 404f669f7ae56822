/* Unicorn, and nothing else knows it. The guest runs for ever in the engine's SVM guest mode, so that sensitive
 * instructions and all exceptions come to `on_intercept` with RIP at the instruction.
 *
 * Engine memory beside host-physical memory, at ARENA. MODEL: a native guest that maps this address sees it; a VMM never
 * gives it to a guest. Elsewhere up to 2^40 nobody answers: ones are read, writes dropped, a fetch is #UD.
 *   0x0000 VMCB | 0x1000 host save | 0x4000 I/O map | 0x8000 MSR permission map | 0x10000 stub | 0x20000.. nested tables
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unicorn/unicorn.h>
#include "engine.h"

/* An Intel model: SYSENTER and SYSCALL then behave as Intel's. It has no SVM, but the engine asks only the SVME bit.
 * The last without RDRAND and RDSEED: those read the workstation's entropy, and nothing can intercept them. */
#define CPU_MODEL UC_CPU_X86_SANDYBRIDGE
#define ARENA 0x4000000000ull
enum { ARENA_BYTES = 8 << 20, HOST_SAVE = 0x1000, IO_MAP = 0x4000, MSR_MAP = 0x8000, STUB = 0x10000, NESTED = 0x20000 };
#define NOWHERE 0xfffffffffffffff1ull /* an address no guest fetches from: uc_emu_start wants an end */

/* CPUX86State of the unicorn 2.1.4 wheel; verify_layout() compares every one with what VMRUN loads. */
enum {
    RAW_REGS = 0, RAW_EIP = 128, RAW_EFLAGS = 136, RAW_HFLAGS = 176, RAW_HFLAGS2 = 180, RAW_SEGS = 184, RAW_LDT = 328, RAW_TR = 352,
    RAW_GDT = 376, RAW_IDT = 400, RAW_CR = 424, RAW_ERROR_CODE = 5384, RAW_DR = 5400, RAW_OLD_EXCEPTION = 5496, RAW_VMCB = 5504,
    RAW_INTERCEPT = 5520, RAW_CR_READ = 5528, RAW_CR_WRITE = 5530, RAW_DR_READ = 5532, RAW_DR_WRITE = 5534,
    RAW_EXCEPTIONS = 5536, RAW_NESTED_CR3 = 5544, RAW_NESTED_MODE = 5552, RAW_END = 5560
};
enum { SEGMENT_BYTES = 24, SEGMENT_BASE = 8, SEGMENT_LIMIT = 16, SEGMENT_FLAGS = 20 };
enum {
    HF_INHIBIT_IRQ = 1 << 3, HF_CS32 = 1 << 4, HF_SS32 = 1 << 5, HF_ADDSEG = 1 << 6, HF_PE = 1 << 7, HF_MP = 1 << 9, HF_EM = 1 << 10,
    HF_TS = 1 << 11, HF_LMA = 1 << 14, HF_CS64 = 1 << 15, HF_SVME = 1 << 20, HF_GUEST = 1 << 21, HF_OSFXSR = 1 << 22
};
enum { HF2_NPT = 1 << 6, NESTED_MODE_LONG_NX = 0xb };
/* CR0, CR4 and EFER bits that change how addresses translate */
#define CR0_PAGING 0x80010001ull
#define CR4_PAGING 0x1000b0ull
#define EFER_PAGING 0xd00ull

#define R16(at) (*(uint16_t *)(cpu->raw + (at)))
#define R32(at) (*(uint32_t *)(cpu->raw + (at)))
#define R64(at) (*(uint64_t *)(cpu->raw + (at)))
#define A64(at) (*(uint64_t *)(cpu->arena + (at)))

static const uint32_t ENGINE_MSRS[8] = {0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102, 0xc0000103, 0xc0000080, 0x174};
enum { OWN_MSRS = 6, MSR_AT_TSC_AUX = 5, MSR_AT_EFER = 6, MSR_AT_SYSENTER_CS = 7 }; /* EFER, SYSENTER_CS: VMCS fields too */

uint64_t *engine_msr(sc_cpu *cpu, uint32_t index) {
    for (int i = 0; i < OWN_MSRS; i++)
        if (ENGINE_MSRS[i] == index) return &R64(cpu->msr_at[i]);
    return NULL;
}

int engine_error_code(sc_cpu *cpu) { return (int)R32(RAW_ERROR_CODE); }
uint64_t engine_fault_address(sc_cpu *cpu) { return A64(0x80); }
void engine_stop(sc_cpu *cpu) { uc_emu_stop(cpu->uc); }

static void save_segment(sc_cpu *cpu, int index, size_t raw) {
    uint32_t flags = R32(raw + SEGMENT_FLAGS), rights = flags >> 8 & 0xf0ff;
    cpu->s.vmcs[VMCS_GUEST_ES_SELECTOR + index] = R32(raw) & 0xffff;
    cpu->s.vmcs[VMCS_GUEST_ES_BASE + index] = R64(raw + SEGMENT_BASE);
    cpu->s.vmcs[VMCS_GUEST_ES_LIMIT + index] = R32(raw + SEGMENT_LIMIT);
    cpu->s.vmcs[VMCS_GUEST_ES_ACCESS_RIGHTS + index] = rights & 0x80 ? rights : rights | 0x10000;
}

static void load_segment(sc_cpu *cpu, int index, size_t raw) {
    uint64_t rights = cpu->s.vmcs[VMCS_GUEST_ES_ACCESS_RIGHTS + index];
    R32(raw) = cpu->s.vmcs[VMCS_GUEST_ES_SELECTOR + index] & 0xffff;
    R64(raw + SEGMENT_BASE) = cpu->s.vmcs[VMCS_GUEST_ES_BASE + index];
    R32(raw + SEGMENT_LIMIT) = (uint32_t)cpu->s.vmcs[VMCS_GUEST_ES_LIMIT + index];
    R32(raw + SEGMENT_FLAGS) = (rights & 0x10000 ? rights & 0xf07f : rights & 0xf0ff) << 8;
}

void engine_window(sc_cpu *cpu) {
    uint64_t rflags = 0;
    uc_context_save(cpu->uc, cpu->context);
    uc_reg_read(cpu->uc, UC_X86_REG_RFLAGS, &rflags);
    SLOT(cpu, GUEST_RFLAGS) = rflags;
    /* The engine does not tell STI from MOV SS; with IF clear it cannot be STI, and with IF set both mean the same. */
    SLOT(cpu, GUEST_INTERRUPTIBILITY_STATE) = !(R32(RAW_HFLAGS) & HF_INHIBIT_IRQ) ? 0 : rflags & 0x200 ? 1 : 2;
}

void engine_save(sc_cpu *cpu) {
    engine_window(cpu);
    for (int i = 0; i < 16; i++) cpu->s.gpr[i] = R64(RAW_REGS + i * 8);
    SLOT(cpu, GUEST_RSP) = cpu->s.gpr[4];
    SLOT(cpu, GUEST_RIP) = R64(RAW_EIP);
    for (int i = 0; i < 8; i++) save_segment(cpu, i, i < 6 ? RAW_SEGS + i * SEGMENT_BYTES : i == 6 ? RAW_LDT : RAW_TR);
    SLOT(cpu, GUEST_TR_ACCESS_RIGHTS) |= 2; /* a loaded TSS is busy; the engine marks it only in memory */
    uint64_t *ss = &SLOT(cpu, GUEST_SS_ACCESS_RIGHTS); /* VMX has the CPL in SS.DPL */
    *ss = (*ss & ~0x60ull) | (R32(RAW_HFLAGS) & 3) << 5;
    SLOT(cpu, GUEST_GDTR_BASE) = R64(RAW_GDT + SEGMENT_BASE);
    SLOT(cpu, GUEST_GDTR_LIMIT) = R32(RAW_GDT + SEGMENT_LIMIT);
    SLOT(cpu, GUEST_IDTR_BASE) = R64(RAW_IDT + SEGMENT_BASE);
    SLOT(cpu, GUEST_IDTR_LIMIT) = R32(RAW_IDT + SEGMENT_LIMIT);
    cpu->s.cr2 = R64(RAW_CR + 2 * 8);
    for (int i = 0; i < 4; i++) cpu->s.dr[i] = R64(RAW_DR + i * 8);
    cpu->s.dr6 = R64(RAW_DR + 6 * 8);
    SLOT(cpu, GUEST_DR7) = R64(RAW_DR + 7 * 8);
    cpu->saved = true;
}

/* The engine's derived mode bits from the architectural state. */
static uint32_t mode_bits(const sc_cpu *cpu, uint32_t was) {
    const uint64_t *v = cpu->s.vmcs;
    uint64_t cr0 = v[VMCS_GUEST_CR0], cs = v[VMCS_GUEST_CS_ACCESS_RIGHTS], ss = v[VMCS_GUEST_SS_ACCESS_RIGHTS];
    uint32_t keep = ~(uint32_t)(3 | HF_INHIBIT_IRQ | HF_CS32 | HF_SS32 | HF_ADDSEG | HF_PE | HF_MP | HF_EM | HF_TS | HF_LMA |
                                HF_CS64 | HF_OSFXSR);
    uint32_t h = (was & keep) | HF_SVME | HF_GUEST | (ss >> 5 & 3);
    bool lma = v[VMCS_GUEST_IA32_EFER] & 0x400, protected = cr0 & 1, v86 = v[VMCS_GUEST_RFLAGS] & 0x20000;
    bool wide = lma && (cs & 0x2000);
    if (v[VMCS_GUEST_INTERRUPTIBILITY_STATE] & 3) h |= HF_INHIBIT_IRQ;
    if (protected) h |= HF_PE;
    h |= (cr0 & 0xe) << 8; /* MP EM TS */
    if (lma) h |= HF_LMA;
    if (wide) {
        h |= HF_CS64 | HF_CS32 | HF_SS32;
    } else {
        if (cs & 0x4000) h |= HF_CS32;
        if (ss & 0x4000) h |= HF_SS32;
        bool based = v[VMCS_GUEST_DS_BASE] | v[VMCS_GUEST_ES_BASE] | v[VMCS_GUEST_SS_BASE];
        if (!protected || v86 || !(cs & 0x4000) || based) h |= HF_ADDSEG;
    }
    if (v[VMCS_GUEST_CR4] & 0x200) h |= HF_OSFXSR;
    return h;
}

/* Intercept only what a control asks for, or what the engine cannot do itself. */
static void load_intercepts(sc_cpu *cpu) {
    const uint64_t *v = cpu->s.vmcs;
    uint64_t primary = cpu->s.non_root ? v[VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS] : 0;
    uint64_t always = 1ull << 0x0e | 1ull << 0x0f | 1ull << 0x12 | 1ull << 0x13 | 1ull << 0x15 | 1ull << 0x16 | 1ull << 0x18 |
                      1ull << 0x19 | 1ull << 0x1a | 1ull << 0x1c | 0x7full << 0x20 | 1ull << 0x27 | 1ull << 0x28 | 7ull << 0x2a | 1ull << 0x1f;
    R64(RAW_INTERCEPT) = always | (primary & PROC_PAUSE_EXITING ? 1ull << 0x17 : 0) |
                         (cpu->s.non_root ? 1ull << 0x29 : 0); /* WBINVD, and INVD, for which the engine has no code of its own */
    uint16_t reads = 1 << 8;
    if (cpu->s.non_root && v[VMCS_CR0_GUEST_HOST_MASK]) reads |= 1 << 0;
    if (primary & PROC_CR3_STORE_EXITING) reads |= 1 << 3;
    if (cpu->s.non_root && v[VMCS_CR4_GUEST_HOST_MASK]) reads |= 1 << 4;
    R16(RAW_CR_READ) = reads;
    R16(RAW_CR_WRITE) = 1 << 0 | 1 << 3 | 1 << 4 | 1 << 8;
    R16(RAW_DR_READ) = R16(RAW_DR_WRITE) = primary & PROC_MOV_DR_EXITING ? 0xffff : 0;
    R32(RAW_EXCEPTIONS) = 0xffffffff;
}

static void forget_nested(sc_cpu *cpu) {
    memset(cpu->arena + NESTED, 0, 0x1000);
    cpu->arena_used_bytes = NESTED + 0x1000;
}

void engine_load(sc_cpu *cpu) {
    const uint64_t *v = cpu->s.vmcs;
    for (int i = 0; i < 16; i++) R64(RAW_REGS + i * 8) = i == 4 ? v[VMCS_GUEST_RSP] : cpu->s.gpr[i];
    R64(RAW_EIP) = v[VMCS_GUEST_RIP];
    for (int i = 0; i < 8; i++) load_segment(cpu, i, i < 6 ? RAW_SEGS + i * SEGMENT_BYTES : i == 6 ? RAW_LDT : RAW_TR);
    R64(RAW_GDT + SEGMENT_BASE) = v[VMCS_GUEST_GDTR_BASE];
    R32(RAW_GDT + SEGMENT_LIMIT) = (uint32_t)v[VMCS_GUEST_GDTR_LIMIT];
    R64(RAW_IDT + SEGMENT_BASE) = v[VMCS_GUEST_IDTR_BASE];
    R32(RAW_IDT + SEGMENT_LIMIT) = (uint32_t)v[VMCS_GUEST_IDTR_LIMIT];
    R32(RAW_HFLAGS) = mode_bits(cpu, R32(RAW_HFLAGS));
    bool ept = secondary_control(cpu, PROC2_ENABLE_EPT);
    uint64_t now[5] = {v[VMCS_GUEST_CR0], v[VMCS_GUEST_CR3], v[VMCS_GUEST_CR4], v[VMCS_GUEST_IA32_EFER], ept ? v[VMCS_EPT_POINTER] | 1 : 0};
    bool moved = now[1] != cpu->loaded[1] || now[4] != cpu->loaded[4] || ((now[0] ^ cpu->loaded[0]) & CR0_PAGING) ||
                 ((now[2] ^ cpu->loaded[2]) & CR4_PAGING) || ((now[3] ^ cpu->loaded[3]) & EFER_PAGING);
    R64(RAW_CR) = now[0];
    R64(RAW_CR + 16) = cpu->s.cr2;
    R64(RAW_CR + 24) = now[1];
    R64(RAW_CR + 32) = now[2];
    R64(cpu->msr_at[MSR_AT_EFER]) = now[3] | 0x1000; /* SVME keeps the engine in guest mode */
    R32(cpu->msr_at[MSR_AT_SYSENTER_CS]) = (uint32_t)v[VMCS_GUEST_IA32_SYSENTER_CS]; /* SYSEXIT looks at it */
    for (int i = 0; i < 4; i++) R64(RAW_DR + i * 8) = cpu->s.dr[i];
    R64(RAW_DR + 48) = cpu->s.dr6;
    R32(RAW_HFLAGS2) = ept ? R32(RAW_HFLAGS2) | HF2_NPT : R32(RAW_HFLAGS2) & ~(uint32_t)HF2_NPT;
    R64(RAW_NESTED_CR3) = ARENA + NESTED;
    R32(RAW_NESTED_MODE) = NESTED_MODE_LONG_NX;
    R32(RAW_OLD_EXCEPTION) = (uint32_t)-1;
    if (ept && now[4] != cpu->loaded[4]) forget_nested(cpu);
    memcpy(cpu->loaded, now, sizeof now);
    load_intercepts(cpu);
    uc_context_restore(cpu->uc, cpu->context);
    uc_reg_write(cpu->uc, UC_X86_REG_RFLAGS, &v[VMCS_GUEST_RFLAGS]);
    if (R64(RAW_DR + 56) != v[VMCS_GUEST_DR7]) uc_reg_write(cpu->uc, UC_X86_REG_DR7, &v[VMCS_GUEST_DR7]);
    if (moved || cpu->s.flush_tlb) engine_flush_tlb(cpu);
    cpu->saved = false;
}

void engine_flush_tlb(sc_cpu *cpu) {
    cpu->s.flush_tlb = 0;
    cpu->tlb_generation++;
    uc_ctl_flush_tlb(cpu->uc);
}

/* Enter gpa -> hpa in the nested page tables that the engine walks (AMD APM volume 2, 15.25). They only repeat what the
 * EPT says, filled on demand; when the arena is full they begin anew. */
bool engine_map_nested(sc_cpu *cpu, uint64_t gpa, uint64_t hpa, uint64_t rights, bool large) {
    int last = large ? 21 : 12;
    if (cpu->arena_used_bytes + 3 * 0x1000 > ARENA_BYTES) {
        forget_nested(cpu);
        cpu->s.flush_tlb = 1;
    }
    uint64_t table = NESTED;
    for (int shift = 39; shift > last; shift -= 9) {
        uint64_t *entry = &A64(table + (gpa >> shift & 511) * 8);
        if (*entry & 0x80) *entry = 0; /* was a large page */
        if (!(*entry & 1)) {
            memset(cpu->arena + cpu->arena_used_bytes, 0, 0x1000);
            *entry = (ARENA + cpu->arena_used_bytes) | 7;
            cpu->arena_used_bytes += 0x1000;
        }
        table = (*entry & 0xffffffffff000ull) - ARENA;
    }
    uint64_t page = hpa & ~((1ull << last) - 1);
    A64(table + (gpa >> last & 511) * 8) = page | 4 | (rights & 1) | (rights & 2) | (large ? 0x80 : 0) | (rights & 4 ? 0 : 1ull << 63);
    return true;
}

/* After the nested tables' source changed (INVEPT). */
void sc_invept(sc_cpu *cpu) {
    forget_nested(cpu);
    cpu->s.flush_tlb = 1;
}

static uint64_t linear_rip(sc_cpu *cpu) {
    uint64_t rip = SLOT(cpu, GUEST_RIP);
    return code_bits(cpu) == 64 ? rip : (uint32_t)(rip + SLOT(cpu, GUEST_CS_BASE));
}

static void on_intercept(uc_engine *uc, uint32_t number, void *data) {
    sc_cpu *cpu = data;
    unsigned code = number - 0x100;
    if (number < 0x100 || number > 0x100 + 0x400) {
        cpu->engine_error = (int)number;
        uc_emu_stop(uc);
        return;
    }
    if (cpu->escape != ESCAPE_NONE) { /* the escape clobbered nothing that the context saved in on_port has not */
        int kind = cpu->escape;
        cpu->escape = ESCAPE_NONE;
        uc_context_restore(cpu->uc, cpu->context);
        engine_save(cpu);
        refund(cpu, linear_rip(cpu));
        if (kind == ESCAPE_IO) {
            trap_io(cpu);
        } else {
            instruction in = decode(cpu);
            kind == ESCAPE_SYSCALL ? do_syscall(cpu, in.length_bytes) : do_sysenter(cpu);
        }
    } else {
        engine_save(cpu);
        refund(cpu, linear_rip(cpu));
        if (code >= 0x40 && code < 0x60)
            trap_exception(cpu, code - 0x40);
        else if (code == 0x400)
            trap_nested_fault(cpu);
        else
            trap_instruction(cpu, code);
    }
    settle(cpu);
    if (must_stop(cpu))
        uc_emu_stop(uc);
    else
        engine_load(cpu);
}

/* Leave the middle of a block: reading an MSR that is intercepted makes the engine exit to on_intercept at once, with
 * RIP at the instruction. Port hooks and SYSCALL cannot be left otherwise: they run on to the end of the block. */
static void escape(sc_cpu *cpu, int kind) {
    uc_x86_msr msr = {.rid = 0, .value = 0};
    cpu->escape = kind;
    uc_context_save(cpu->uc, cpu->context);
    uc_reg_read(cpu->uc, UC_X86_REG_MSR, &msr);
}

static uint32_t on_in(uc_engine *uc, uint32_t port, int size, void *data) {
    sc_cpu *cpu = data;
    (void)uc;
    cpu->io.port = (uint16_t)port, cpu->io.size = (uint8_t)size, cpu->io.in = true;
    escape(cpu, ESCAPE_IO);
    return 0;
}

static void on_out(uc_engine *uc, uint32_t port, int size, uint32_t value, void *data) {
    sc_cpu *cpu = data;
    (void)uc, (void)value;
    cpu->io.port = (uint16_t)port, cpu->io.size = (uint8_t)size, cpu->io.in = false;
    escape(cpu, ESCAPE_IO);
}

static void on_syscall(uc_engine *uc, void *data) {
    (void)uc;
    escape(data, ESCAPE_SYSCALL);
}

static void on_sysenter(uc_engine *uc, void *data) {
    (void)uc;
    escape(data, ESCAPE_SYSENTER);
}

static void on_block(uc_engine *uc, uint64_t pc, uint32_t size, void *data) {
    sc_cpu *cpu = data;
    bool changed = false, restart;
    block *b = find_block(cpu, pc, size, &changed);
    if (changed) {
        cpu->retranslate = true;
        cpu->empty_cache = !b;
        cpu->retranslate_pc = pc;
        cpu->retranslate_bytes = size;
        uc_emu_stop(uc);
        return;
    }
    restart = b && is_restart(cpu, b);
    if (restart) refund(cpu, pc);
    if (cpu->s.clock_cycles >= cpu->check_at_cycles && !restart && /* stopped here, the store would only restart again */
        (cpu->s.clock_cycles >= cpu->s.deadline_cycles || must_settle(cpu))) {
        uc_emu_stop(uc);
        return;
    }
    uint32_t count = b ? b->instructions : 1;
    uint64_t cycles = (uint64_t)count * cpu->s.cycles_per_instruction;
    cpu->current = b;
    cpu->s.instructions += count;
    cpu->s.guest_cycles += cycles;
    cpu->s.clock_cycles += cycles;
}

static uint64_t on_hole_read(uc_engine *uc, uint64_t offset, unsigned size, void *data) {
    (void)uc, (void)offset, (void)size, (void)data;
    return ~0ull; /* nobody answers on the bus */
}

static void on_hole_write(uc_engine *uc, uint64_t offset, unsigned size, uint64_t value, void *data) {
    (void)uc, (void)offset, (void)size, (void)value, (void)data;
}

bool engine_run(sc_cpu *cpu) {
    cpu->retranslate = false;
    engine_load(cpu);
    uc_err error = uc_emu_start(cpu->uc, SLOT(cpu, GUEST_RIP), NOWHERE, 0, 0);
    if (cpu->retranslate && !error) {
        if (cpu->empty_cache)
            uc_ctl_flush_tb(cpu->uc);
        else
            uc_ctl_remove_cache(cpu->uc, cpu->retranslate_pc, cpu->retranslate_pc + cpu->retranslate_bytes);
    }
    if (!cpu->saved) engine_save(cpu);
    if (error == UC_ERR_FETCH_PROT && !cpu->engine_error) { /* a fetch where nobody answers: all ones are no instruction */
        cpu->trapped = cpu->current = NULL;
        raise_fault(cpu, 6, 0);
        return true;
    }
    if (error && !cpu->engine_error) cpu->engine_error = (int)error;
    return !cpu->engine_error;
}

/* Find where the engine keeps an MSR: write two values, see which 8 bytes of the raw state follow both. */
static bool find_msr(sc_cpu *cpu, uint32_t index, uint64_t first, uint64_t second, size_t *ret) {
    size_t bytes = uc_context_size(cpu->uc) - (size_t)(cpu->raw - (uint8_t *)cpu->context);
    uint8_t *seen = malloc(bytes);
    int found = 0;
    for (int round = 0; seen && round < 2; round++) {
        uc_x86_msr msr = {.rid = index, .value = round ? second : first};
        uc_reg_write(cpu->uc, UC_X86_REG_MSR, &msr);
        uc_context_save(cpu->uc, cpu->context);
        found = 0;
        for (size_t at = 0; at + 8 <= bytes; at += 8) {
            bool match = R64(at) == msr.value && (!round || seen[at]);
            seen[at] = match;
            if (match) *ret = at, found++;
        }
    }
    free(seen);
    return found == 1;
}

#define CHECK(condition, what)                 \
    do {                                       \
        if (!(condition)) {                    \
            *problem = what;                   \
            return false;                      \
        }                                      \
    } while (0)

/* Load known values by one VMRUN, and compare every raw field with them. */
static bool verify_layout(sc_cpu *cpu, const char **problem) {
    static const uint8_t stub[] = {0x0f, 0x01, 0xd8}; /* VMRUN */
    uint8_t *vmcb = cpu->arena;
    uint64_t rax = ARENA, cr4 = 0x20;
    memcpy(vmcb + 0x000, (uint16_t[]){0x0111, 0x0119, 0x5a5a, 0xa5a5}, 8);
    memcpy(vmcb + 0x008, &(uint32_t){0xffffffff}, 4);
    memcpy(vmcb + 0x00c, &(uint64_t){0x7f0114c000}, 8);
    memcpy(vmcb + 0x040, &(uint64_t){ARENA + IO_MAP}, 8);
    memcpy(vmcb + 0x048, &(uint64_t){ARENA + MSR_MAP}, 8);
    memcpy(vmcb + 0x058, &(uint32_t){1}, 4);
    memcpy(vmcb + 0x090, &(uint64_t){1}, 8);
    memcpy(vmcb + 0x0b0, &(uint64_t){ARENA + NESTED}, 8);
    for (int i = 0; i < 4; i++) { /* ES CS SS DS */
        memcpy(vmcb + 0x400 + i * 16, (uint16_t[]){(uint16_t)(0x10 + i * 8), i == 1 ? 0xa9b : 0xc93}, 4);
        memcpy(vmcb + 0x404 + i * 16, &(uint32_t){0xfff00fff + ((uint32_t)i << 12)}, 4);
        memcpy(vmcb + 0x408 + i * 16, &(uint64_t){0x1000u * i}, 8);
    }
    memcpy(vmcb + 0x464, &(uint32_t){0x1234}, 4); /* GDTR, IDTR */
    memcpy(vmcb + 0x468, &(uint64_t){0x567000}, 8);
    memcpy(vmcb + 0x484, &(uint32_t){0x4321}, 4);
    memcpy(vmcb + 0x488, &(uint64_t){0x765000}, 8);
    uint64_t save[][2] = {{0x4d0, 0x1d00}, {0x548, 0x220}, {0x550, 0xabc000}, {0x558, 0x80000011}, {0x560, 0x400}, {0x568, 0xffff0ff0},
                          {0x570, 0x2}, {0x578, 0x123450}, {0x5d8, 0x543210}, {0x5f8, 0x998877}};
    for (size_t i = 0; i < sizeof save / sizeof save[0]; i++) memcpy(vmcb + save[i][0], &save[i][1], 8);
    memset(cpu->arena + MSR_MAP, 0xff, 0x2000);
    memcpy(cpu->arena + STUB, stub, sizeof stub);
    uc_context_save(cpu->uc, cpu->context);
    R32(RAW_HFLAGS) |= HF_SVME;
    uc_context_restore(cpu->uc, cpu->context);
    uc_reg_write(cpu->uc, UC_X86_REG_CR4, &cr4); /* PAE first: VMRUN loads CR0 before CR4 */
    uc_reg_write(cpu->uc, UC_X86_REG_RAX, &rax);
    uc_emu_start(cpu->uc, ARENA + STUB, NOWHERE, 0, 1); /* the first guest fetch fails: nothing is mapped there */
    uc_context_save(cpu->uc, cpu->context);
    CHECK(R64(RAW_VMCB) == ARENA, "vm_vmcb");
    CHECK(R64(RAW_INTERCEPT) == 0x7f0114c000, "intercept");
    CHECK(R16(RAW_CR_READ) == 0x0111 && R16(RAW_CR_WRITE) == 0x0119, "intercept_cr");
    CHECK(R16(RAW_DR_READ) == 0x5a5a && R16(RAW_DR_WRITE) == 0xa5a5, "intercept_dr");
    CHECK(R32(RAW_EXCEPTIONS) == 0xffffffff, "intercept_exceptions");
    CHECK(R64(RAW_NESTED_CR3) == ARENA + NESTED, "nested_cr3");
    CHECK((R32(RAW_HFLAGS2) & HF2_NPT) != 0, "hflags2");
    for (int i = 0; i < 4; i++) {
        size_t at = RAW_SEGS + i * SEGMENT_BYTES;
        CHECK(R32(at) == 0x10u + i * 8 && R64(at + SEGMENT_BASE) == 0x1000u * i, "segment");
        CHECK(R32(at + SEGMENT_FLAGS) == (i == 1 ? 0xa09b00u : 0xc09300u), "segment flags");
        CHECK(R32(at + SEGMENT_LIMIT) == 0xfff00fff + ((uint32_t)i << 12), "segment limit");
    }
    CHECK(R64(RAW_GDT + SEGMENT_BASE) == 0x567000 && R32(RAW_GDT + SEGMENT_LIMIT) == 0x1234, "gdt");
    CHECK(R64(RAW_IDT + SEGMENT_BASE) == 0x765000 && R32(RAW_IDT + SEGMENT_LIMIT) == 0x4321, "idt");
    CHECK(R64(RAW_CR) == 0x80000011 && R64(RAW_CR + 24) == 0xabc000 && R64(RAW_CR + 32) == 0x220, "cr");
    CHECK(R64(RAW_DR + 56) == 0x400 && R64(RAW_DR + 48) == 0xffff0ff0, "dr");
    CHECK(R64(RAW_EIP) == 0x123450 && R64(RAW_REGS + 32) == 0x543210 && R64(RAW_REGS) == 0x998877, "rip, rsp, rax");
    CHECK((R32(RAW_HFLAGS) & (HF_SVME | HF_GUEST | HF_LMA | HF_CS64 | HF_PE)) == (HF_SVME | HF_GUEST | HF_LMA | HF_CS64 | HF_PE),
          "hflags");
    CHECK(R64(cpu->msr_at[MSR_AT_EFER]) == 0x1d00, "efer");
    return true;
}

static bool find_raw_state(sc_cpu *cpu, const char **problem) {
    uint64_t rax = 0x1122334455667788, rcx = 0x99aabbccddeeff01, gsbase = 0x7a7a7a7a7000;
    size_t size = uc_context_size(cpu->uc);
    uc_reg_write(cpu->uc, UC_X86_REG_RAX, &rax);
    uc_reg_write(cpu->uc, UC_X86_REG_RCX, &rcx);
    uc_context_save(cpu->uc, cpu->context);
    for (size_t at = 0; at + RAW_END < size && !cpu->raw; at += 8)
        if (!memcmp((uint8_t *)cpu->context + at, (uint64_t[]){rax, rcx}, 16)) cpu->raw = (uint8_t *)cpu->context + at;
    CHECK(cpu->raw, "registers");
    uc_reg_write(cpu->uc, UC_X86_REG_GS_BASE, &gsbase);
    uc_context_save(cpu->uc, cpu->context);
    CHECK(R64(RAW_SEGS + 5 * SEGMENT_BYTES + SEGMENT_BASE) == gsbase, "gs base");
    for (int i = 0; i < 8; i++) {
        bool efer = i == MSR_AT_EFER, narrow = i == MSR_AT_TSC_AUX || i == MSR_AT_SYSENTER_CS; /* 32 and 16 bits */
        uint64_t first = efer ? 0x401 : narrow ? 0x5b01 : 0x5b5b5b000000ull + i, second = efer ? 0xd01 : narrow ? 0x4c02 : 0x4c4c4c000000ull + i;
        CHECK(find_msr(cpu, ENGINE_MSRS[i], first, second, &cpu->msr_at[i]), "an MSR");
    }
    return true;
}

static bool add_hooks(sc_cpu *cpu) {
    uc_hook h;
    uc_engine *uc = cpu->uc;
    return !uc_hook_add(uc, &h, UC_HOOK_INTR, (void *)on_intercept, cpu, 1, 0) &&
           !uc_hook_add(uc, &h, UC_HOOK_BLOCK, (void *)on_block, cpu, 1, 0) &&
           !uc_hook_add(uc, &h, UC_HOOK_INSN, (void *)on_in, cpu, 1, 0, UC_X86_INS_IN) &&
           !uc_hook_add(uc, &h, UC_HOOK_INSN, (void *)on_out, cpu, 1, 0, UC_X86_INS_OUT) &&
           !uc_hook_add(uc, &h, UC_HOOK_INSN, (void *)on_syscall, cpu, 1, 0, UC_X86_INS_SYSCALL) &&
           !uc_hook_add(uc, &h, UC_HOOK_INSN, (void *)on_sysenter, cpu, 1, 0, UC_X86_INS_SYSENTER);
}

void sc_close(sc_cpu *cpu) {
    if (!cpu) return;
    if (cpu->context) uc_context_free(cpu->context);
    if (cpu->uc) uc_close(cpu->uc);
    if (cpu->arena) munmap(cpu->arena, ARENA_BYTES);
    decode_close(cpu);
    free(cpu);
}

/* A CPU over `memory`, in reset-like state. NULL on failure, with `*problem` naming what is not as expected. */
sc_cpu *sc_open(uint8_t *memory, uint64_t memory_bytes, void *python, const char **problem) {
    sc_cpu *cpu = calloc(1, sizeof *cpu);
    *problem = "out of memory";
    if (!cpu) return NULL;
    cpu->python = python;
    cpu->memory = memory;
    cpu->memory_bytes = memory_bytes;
    cpu->tlb_generation = 1;
    cpu->arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (cpu->arena == MAP_FAILED) cpu->arena = NULL;
    uc_x86_msr hsave = {.rid = 0xc0010117, .value = ARENA + HOST_SAVE};
    bool ready = cpu->arena && decode_open(cpu);
    if (ready) {
        *problem = "cannot open the engine";
        ready = !uc_open(UC_ARCH_X86, UC_MODE_64, (uc_engine **)&cpu->uc) && !uc_ctl_set_cpu_model(cpu->uc, CPU_MODEL) &&
                !uc_ctl_set_tcg_buffer_size(cpu->uc, 64 << 20) && !uc_context_alloc(cpu->uc, (uc_context **)&cpu->context) &&
                !uc_mem_map_ptr(cpu->uc, 0, memory_bytes, UC_PROT_ALL, memory) &&
                !uc_mem_map_ptr(cpu->uc, ARENA, ARENA_BYTES, UC_PROT_ALL, cpu->arena) &&
                !uc_mmio_map(cpu->uc, memory_bytes, ARENA - memory_bytes, on_hole_read, NULL, on_hole_write, NULL) &&
                !uc_mmio_map(cpu->uc, ARENA + ARENA_BYTES, (1ull << 40) - ARENA - ARENA_BYTES, on_hole_read, NULL, on_hole_write, NULL);
    }
    ready = ready && find_raw_state(cpu, problem) && !uc_reg_write(cpu->uc, UC_X86_REG_MSR, &hsave) && verify_layout(cpu, problem);
    if (ready) {
        *problem = "hooks";
        ready = add_hooks(cpu);
    }
    if (!ready) {
        sc_close(cpu);
        return NULL;
    }
    forget_nested(cpu);
    for (int i = 0; i < OWN_MSRS; i++) *engine_msr(cpu, ENGINE_MSRS[i]) = 0;
    R64(RAW_SEGS + 5 * SEGMENT_BYTES + SEGMENT_BASE) = 0;
    memset(cpu->raw + RAW_REGS, 0, 128);
    SLOT(cpu, GUEST_IA32_PAT) = 0x0007040600070406;
    SLOT(cpu, GUEST_RFLAGS) = 2;
    SLOT(cpu, GUEST_DR7) = 0x400;
    cpu->s.dr6 = 0xffff0ff0;
    cpu->s.cycles_per_instruction = 1;
    cpu->s.flush_tlb = 1;
    cpu->saved = true;
    *problem = NULL;
    return cpu;
}
