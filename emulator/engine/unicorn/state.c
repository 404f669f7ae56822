/* Unicorn's raw CPU state: found and verified at start-up, copied to the VMCS slots and back. */
#include <stdlib.h>
#include <string.h>
#include "state.h"

uint64_t *engine_msr(sc_cpu *cpu, uint32_t index) {
    for (int i = 0; i < OWN_MSRS; i++)
        if (ENGINE_MSRS[i] == index) return &R64(cpu->msr_at[i]);
    return NULL;
}

int engine_error_code(sc_cpu *cpu) { return (int)R32(RAW_ERROR_CODE); }
uint64_t engine_fault_address(sc_cpu *cpu) { return A64(0x80); }
uint64_t engine_debug_status(sc_cpu *cpu) { return R64(RAW_DR + 48) & 0x600f; }

static void save_segment(sc_cpu *cpu, int index, size_t raw) {
    uint32_t flags = R32(raw + SEGMENT_FLAGS), rights = flags >> 8 & 0xf0ff;
    cpu->s.vmcs[VMCS_GUEST_ES_SELECTOR + index] = R32(raw) & 0xffff;
    cpu->s.vmcs[VMCS_GUEST_ES_BASE + index] = R64(raw + SEGMENT_BASE);
    cpu->s.vmcs[VMCS_GUEST_ES_LIMIT + index] = R32(raw + SEGMENT_LIMIT);
    cpu->s.vmcs[VMCS_GUEST_ES_ACCESS_RIGHTS + index] = rights & AR_P ? rights : rights | AR_UNUSABLE;
}

static void load_segment(sc_cpu *cpu, int index, size_t raw) {
    uint64_t rights = cpu->s.vmcs[VMCS_GUEST_ES_ACCESS_RIGHTS + index];
    R32(raw) = cpu->s.vmcs[VMCS_GUEST_ES_SELECTOR + index] & 0xffff;
    R64(raw + SEGMENT_BASE) = cpu->s.vmcs[VMCS_GUEST_ES_BASE + index];
    R32(raw + SEGMENT_LIMIT) = (uint32_t)cpu->s.vmcs[VMCS_GUEST_ES_LIMIT + index];
    R32(raw + SEGMENT_FLAGS) = (rights & AR_UNUSABLE ? rights & 0xf07f : rights & 0xf0ff) << 8;
}

enum { COMPUTED_FLAGS = 0xcd5 }; /* OF DF SF ZF AF PF CF: the engine has them elsewhere */

uint64_t engine_flags(sc_cpu *cpu) {
    uint64_t rflags = 0;
    uc_reg_read(cpu->uc, UC_X86_REG_RFLAGS, &rflags);
    return rflags;
}

void engine_window(sc_cpu *cpu) {
    uint64_t rflags = engine_flags(cpu);
    uc_context_save(cpu->uc, cpu->context);
    /* After LOOPE and LOOPNE with a count of 1 it takes a whole operand for the arithmetic flags: no other bit is let in. */
    rflags = (rflags & COMPUTED_FLAGS) | (R64(RAW_EFLAGS) & ~(uint64_t)COMPUTED_FLAGS);
    SLOT(cpu, GUEST_RFLAGS) = rflags;
    /* The engine does not tell STI from MOV SS; with IF clear it cannot be STI, and with IF set both mean the same. */
    bool blocked = (R32(RAW_HFLAGS) & HF_INHIBIT_IRQ) && cpu->step == STEP_NONE;
    uint64_t *state = &SLOT(cpu, GUEST_INTERRUPTIBILITY_STATE);
    *state = (*state & BLOCKING_BY_NMI) | (!blocked ? 0 : rflags & RFLAGS_IF ? BLOCKING_BY_STI : BLOCKING_BY_MOV_SS);
}

/* The mode of the code that is about to run, between blocks: the slots do not know it before the next trap. */
unsigned engine_code_bits(sc_cpu *cpu) {
    uc_context_save(cpu->uc, cpu->context);
    return R32(RAW_HFLAGS) & HF_CS64 ? 64 : R32(RAW_HFLAGS) & HF_CS32 ? 32 : 16;
}

void engine_save(sc_cpu *cpu) {
    engine_window(cpu);
    for (int i = 0; i < 16; i++) cpu->s.gpr[i] = R64(RAW_REGS + i * 8);
    SLOT(cpu, GUEST_RSP) = cpu->s.gpr[4];
    SLOT(cpu, GUEST_RIP) = R32(RAW_HFLAGS) & HF_CS64 ? R64(RAW_EIP) : (uint32_t)R64(RAW_EIP); /* Jcc may wrap */
    for (int i = 0; i < 8; i++) save_segment(cpu, i, i < 6 ? RAW_SEGS + i * SEGMENT_BYTES : i == 6 ? RAW_LDT : RAW_TR);
    SLOT(cpu, GUEST_TR_ACCESS_RIGHTS) |= 2;            /* a loaded TSS is busy; the engine marks it only in memory */
    uint64_t *ss = &SLOT(cpu, GUEST_SS_ACCESS_RIGHTS); /* VMX has the CPL in SS.DPL */
    *ss = (*ss & ~0x60ull) | (R32(RAW_HFLAGS) & 3) << 5;
    SLOT(cpu, GUEST_GDTR_BASE) = R64(RAW_GDT + SEGMENT_BASE);
    SLOT(cpu, GUEST_GDTR_LIMIT) = R32(RAW_GDT + SEGMENT_LIMIT);
    SLOT(cpu, GUEST_IDTR_BASE) = R64(RAW_IDT + SEGMENT_BASE);
    SLOT(cpu, GUEST_IDTR_LIMIT) = R32(RAW_IDT + SEGMENT_LIMIT);
    cpu->s.cr2 = R64(RAW_CR + 2 * 8);
    cpu->saved = true;
}

/* The engine's derived mode bits from the architectural state. */
static uint32_t mode_bits(const sc_cpu *cpu, uint32_t was) {
    const uint64_t *v = cpu->s.vmcs;
    uint64_t cr0 = v[VMCS_GUEST_CR0], cs = v[VMCS_GUEST_CS_ACCESS_RIGHTS], ss = v[VMCS_GUEST_SS_ACCESS_RIGHTS];
    uint32_t keep = ~(uint32_t)(3 | HF_INHIBIT_IRQ | HF_CS32 | HF_SS32 | HF_ADDSEG | HF_PE | HF_MP | HF_EM | HF_TS |
                                HF_LMA | HF_CS64 | HF_OSFXSR);
    uint32_t h = (was & keep) | HF_SVME | HF_GUEST | (ss >> 5 & 3);
    bool lma = v[VMCS_GUEST_IA32_EFER] & EFER_LMA, protected = cr0 & CR0_PE, v86 = v[VMCS_GUEST_RFLAGS] & RFLAGS_VM;
    bool wide = lma && (cs & AR_L);
    if ((v[VMCS_GUEST_INTERRUPTIBILITY_STATE] & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) || cpu->step == STEP_ARMED)
        h |= HF_INHIBIT_IRQ;
    if (protected) h |= HF_PE;
    h |= (cr0 & 0xe) << 8; /* MP EM TS */
    if (lma) h |= HF_LMA;
    if (wide) {
        h |= HF_CS64 | HF_CS32 | HF_SS32;
    } else {
        if (cs & AR_D) h |= HF_CS32;
        if (ss & AR_D) h |= HF_SS32;
        bool based = v[VMCS_GUEST_DS_BASE] | v[VMCS_GUEST_ES_BASE] | v[VMCS_GUEST_SS_BASE];
        if (!protected || v86 || !(cs & AR_D) || based) h |= HF_ADDSEG;
    }
    if (v[VMCS_GUEST_CR4] & 0x200) h |= HF_OSFXSR;
    return h;
}

/* Intercept only what a control asks for, or what the engine cannot do itself. */
static void load_intercepts(sc_cpu *cpu) {
    const uint64_t *v = cpu->s.vmcs;
    uint64_t primary = cpu->s.non_root ? v[VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS] : 0;
    uint64_t always = 1ull << 0x0e | 1ull << 0x0f | 1ull << 0x12 | 1ull << 0x13 | 1ull << 0x15 | 1ull << 0x16 |
                      1ull << 0x18 | 1ull << 0x19 | 1ull << 0x1a | 1ull << 0x1c | 0x7full << 0x20 | 1ull << 0x27 |
                      1ull << 0x28 | 7ull << 0x2a | 1ull << 0x1f;
    bool iret = (v[VMCS_GUEST_INTERRUPTIBILITY_STATE] & BLOCKING_BY_NMI) && !cpu->iret && iret_unblocks_nmis(cpu);
    bool watches_pause = (primary & PROC_PAUSE_EXITING) || secondary_control(cpu, PROC2_PAUSE_LOOP_EXITING);
    R64(RAW_INTERCEPT) =
        always | (secondary_control(cpu, PROC2_DESCRIPTOR_TABLE_EXITING) ? 0xffull << 6 : 0) |
        (iret ? 1ull << 0x14 : 0) | (watches_pause ? 1ull << 0x17 : 0) |
        (cpu->s.non_root ? 1ull << 0x29 : 0); /* WBINVD, and INVD, for which the engine has no code of its own */
    uint16_t reads = 1 << 8;
    if (cpu->s.non_root && v[VMCS_CR0_GUEST_HOST_MASK]) reads |= 1 << 0;
    if (primary & PROC_CR3_STORE_EXITING) reads |= 1 << 3;
    if (cpu->s.non_root && v[VMCS_CR4_GUEST_HOST_MASK]) reads |= 1 << 4;
    R16(RAW_CR_READ) = reads;
    R16(RAW_CR_WRITE) = 1 << 0 | 1 << 3 | 1 << 4 | 1 << 8;
    R16(RAW_DR_READ) = R16(RAW_DR_WRITE) = 0xffff; /* see arch/debug.c */
    R32(RAW_EXCEPTIONS) = 0xffffffff;
}

static void forget_nested(sc_cpu *cpu) {
    memset(cpu->arena + NESTED, 0, 0x1000);
    cpu->arena_used_bytes = NESTED + 0x1000;
}

static void engine_flush_tlb(sc_cpu *cpu) {
    cpu->s.flush_tlb = FLUSH_NOTHING;
    cpu->tlb_generation++;
    uc_ctl_flush_tlb(cpu->uc);
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
    uint64_t now[5] = {v[VMCS_GUEST_CR0], v[VMCS_GUEST_CR3], v[VMCS_GUEST_CR4], v[VMCS_GUEST_IA32_EFER],
                       ept ? v[VMCS_EPT_POINTER] | 1 : 0};
    bool moved = now[1] != cpu->loaded[1] || now[4] != cpu->loaded[4] || ((now[0] ^ cpu->loaded[0]) & CR0_PAGING) ||
                 ((now[2] ^ cpu->loaded[2]) & CR4_PAGING) || ((now[3] ^ cpu->loaded[3]) & EFER_PAGING);
    R64(RAW_CR) = now[0];
    R64(RAW_CR + 16) = cpu->s.cr2;
    R64(RAW_CR + 24) = now[1];
    R64(RAW_CR + 32) = now[2];
    R64(cpu->msr_at[MSR_AT_EFER]) = now[3] | 0x1000; /* SVME keeps the engine in guest mode */
    R32(cpu->msr_at[MSR_AT_SYSENTER_CS]) = (uint32_t)v[VMCS_GUEST_IA32_SYSENTER_CS]; /* SYSEXIT looks at it */
    R64(RAW_DR + 48) = DR6_NOTHING;
    R32(RAW_HFLAGS2) = ept ? R32(RAW_HFLAGS2) | HF2_NPT : R32(RAW_HFLAGS2) & ~(uint32_t)HF2_NPT;
    R64(RAW_NESTED_CR3) = ARENA + NESTED;
    R32(RAW_NESTED_MODE) = NESTED_MODE_LONG_NX;
    R32(RAW_OLD_EXCEPTION) = (uint32_t)-1;
    if (ept && now[4] != cpu->loaded[4]) forget_nested(cpu);
    memcpy(cpu->loaded, now, sizeof now);
    load_intercepts(cpu);
    uc_context_restore(cpu->uc, cpu->context);
    uc_reg_write(cpu->uc, UC_X86_REG_RFLAGS, &v[VMCS_GUEST_RFLAGS]);
    if (cpu->s.flush_tlb == FLUSH_ALL || (moved && !cpu->s.flush_tlb)) forget_translations(cpu, false);
    if (moved || cpu->s.flush_tlb) engine_flush_tlb(cpu);
    cpu->saved = false;
}

void engine_forget_data(sc_cpu *cpu) { uc_ctl_flush_tlb(cpu->uc); }

/* Enter gpa -> hpa in the nested page tables that the engine walks (AMD APM volume 2, 15.25). They only repeat what the
 * EPT says, filled on demand; when the arena is full they begin anew. */
bool engine_map_nested(sc_cpu *cpu, uint64_t gpa, uint64_t hpa, uint64_t rights, bool large) {
    int last = large ? 21 : 12;
    if (cpu->arena_used_bytes + 3 * 0x1000 > ARENA_BYTES) {
        forget_nested(cpu);
        cpu->s.flush_tlb = FLUSH_ENGINE;
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
        if (table >= ARENA_BYTES) return false; /* of a snapshot that somebody made up */
    }
    uint64_t page = hpa & ~((1ull << last) - 1);
    A64(table + (gpa >> last & 511) * 8) =
        page | 4 | (rights & 1) | (rights & 2) | (large ? 0x80 : 0) | (rights & 4 ? 0 : 1ull << 63);
    return true;
}

void engine_unmap_nested(sc_cpu *cpu, uint64_t gpa) {
    uint64_t table = NESTED;
    for (int shift = 39; shift > 12; shift -= 9) {
        uint64_t entry = A64(table + (gpa >> shift & 511) * 8);
        if (!(entry & 1) || (entry & 0x80)) return;
        table = (entry & 0xffffffffff000ull) - ARENA;
        if (table >= ARENA_BYTES) return;
    }
    A64(table + (gpa >> 12 & 511) * 8) = 0;
}

/* After the nested tables' source changed (INVEPT). */
void sc_invept(sc_cpu *cpu) {
    forget_nested(cpu);
    cpu->s.flush_tlb = FLUSH_ALL;
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

#define CHECK(condition, what) \
    do {                       \
        if (!(condition)) {    \
            *problem = what;   \
            return false;      \
        }                      \
    } while (0)

/* Load known values by one VMRUN, and compare every raw field with them. */
bool verify_layout(sc_cpu *cpu, const char **problem) {
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
    uint64_t save[][2] = {{0x4d0, 0x1d00},   {0x548, 0x220},      {0x550, 0xabc000}, {0x558, 0x80000011},
                          {0x560, 0x400},    {0x568, 0xffff0ff0}, {0x570, 0x2},      {0x578, 0x123450},
                          {0x5d8, 0x543210}, {0x5f8, 0x998877}};
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
    CHECK((R32(RAW_HFLAGS) & (HF_SVME | HF_GUEST | HF_LMA | HF_CS64 | HF_PE)) ==
              (HF_SVME | HF_GUEST | HF_LMA | HF_CS64 | HF_PE),
          "hflags");
    CHECK(R64(cpu->msr_at[MSR_AT_EFER]) == 0x1d00, "efer");
    return true;
}

bool find_raw_state(sc_cpu *cpu, const char **problem) {
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
        uint64_t first = efer     ? 0x401
                         : narrow ? 0x5b01
                                  : 0x5b5b5b000000ull + i,
                 second = efer     ? 0xd01
                          : narrow ? 0x4c02
                                   : 0x4c4c4c000000ull + i;
        CHECK(find_msr(cpu, ENGINE_MSRS[i], first, second, &cpu->msr_at[i]), "an MSR");
    }
    return true;
}

/* After verify_layout() left its test values behind: the state a CPU begins with. */
void reset_state(sc_cpu *cpu) {
    cpu->s.horizon_cycles = cpu->timer_end_cycles = ~0ull;
    forget_nested(cpu);
    for (int i = 0; i < OWN_MSRS; i++) *engine_msr(cpu, ENGINE_MSRS[i]) = 0;
    R64(RAW_SEGS + 5 * SEGMENT_BYTES + SEGMENT_BASE) = 0;
    memset(cpu->raw + RAW_REGS, 0, 128);
    SLOT(cpu, GUEST_IA32_PAT) = 0x0007040600070406;
    SLOT(cpu, GUEST_RFLAGS) = RFLAGS_RESERVED_1;
    SLOT(cpu, GUEST_DR7) = 0x400;
    cpu->s.dr6 = DR6_NOTHING;
    cpu->s.flush_tlb = FLUSH_ALL;
    cpu->saved = true;
}
