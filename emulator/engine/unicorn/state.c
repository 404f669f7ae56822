/* Unicorn's raw CPU state, copied to the VMCS slots and back. */
#include <string.h>
#include "state.h"

uint64_t *engine_msr(sc_cpu *cpu, uint32_t index) {
    for (int i = 0; i < OWN_MSRS; i++)
        if (ENGINE_MSRS[i] == index) return &R64(cpu->port.msr_at[i]);
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
    uc_reg_read(cpu->port.uc, UC_X86_REG_RFLAGS, &rflags);
    return rflags;
}

void engine_window(sc_cpu *cpu) {
    uint64_t rflags = engine_flags(cpu);
    uc_context_save(cpu->port.uc, cpu->port.context);
    /* After LOOPE and LOOPNE with a count of 1 it takes a whole operand for the arithmetic flags: no other bit is let in. */
    rflags = (rflags & COMPUTED_FLAGS) | (R64(RAW_EFLAGS) & ~(uint64_t)COMPUTED_FLAGS);
    SLOT(cpu, GUEST_RFLAGS) = rflags;
    /* The engine does not tell STI from MOV SS; with IF clear it cannot be STI, and with IF set both mean the same. */
    bool blocked = (R32(RAW_HFLAGS) & HF_INHIBIT_IRQ) && cpu->port.step == STEP_NONE;
    uint64_t *state = &SLOT(cpu, GUEST_INTERRUPTIBILITY_STATE);
    *state = (*state & BLOCKING_BY_NMI) | (!blocked ? 0 : rflags & RFLAGS_IF ? BLOCKING_BY_STI : BLOCKING_BY_MOV_SS);
}

/* The mode of the code that is about to run, between blocks: the slots do not know it before the next trap. */
unsigned engine_code_bits(sc_cpu *cpu) {
    uc_context_save(cpu->port.uc, cpu->port.context);
    return R32(RAW_HFLAGS) & HF_CS64 ? 64 : R32(RAW_HFLAGS) & HF_CS32 ? 32 : 16;
}

void engine_save(sc_cpu *cpu) {
    engine_window(cpu);
    for (int i = 0; i < 16; i++) cpu->s.gpr[i] = R64(RAW_REGS + i * 8);
    SLOT(cpu, GUEST_RSP) = cpu->s.gpr[RSP];
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
    cpu->port.saved = true;
}

void engine_peek(sc_cpu *cpu) {
    bool saved = cpu->port.saved;
    engine_save(cpu);
    cpu->port.saved = saved;
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
    if ((v[VMCS_GUEST_INTERRUPTIBILITY_STATE] & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) || cpu->port.step == STEP_ARMED)
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
                      1ull << 0x18 | 1ull << 0x19 | 1ull << 0x1a | 1ull << 0x1c | 1ull << 0x1d | 0x7full << 0x20 |
                      1ull << 0x27 | 1ull << 0x28 | 7ull << 0x2a | 1ull << 0x1f;
    bool iret =
        (v[VMCS_GUEST_INTERRUPTIBILITY_STATE] & BLOCKING_BY_NMI) && !cpu->arch.state.iret && iret_unblocks_nmis(cpu);
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

static void engine_flush_tlb(sc_cpu *cpu) {
    cpu->s.flush_tlb = FLUSH_NOTHING;
    cpu->port.tlb_generation++;
    uc_ctl_flush_tlb(cpu->port.uc);
}

void engine_load(sc_cpu *cpu) {
    const uint64_t *v = cpu->s.vmcs;
    for (int i = 0; i < 16; i++) R64(RAW_REGS + i * 8) = i == RSP ? v[VMCS_GUEST_RSP] : cpu->s.gpr[i];
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
    bool moved = now[1] != cpu->port.loaded[1] || now[4] != cpu->port.loaded[4] ||
                 ((now[0] ^ cpu->port.loaded[0]) & CR0_PAGING) || ((now[2] ^ cpu->port.loaded[2]) & CR4_PAGING) ||
                 ((now[3] ^ cpu->port.loaded[3]) & EFER_PAGING);
    R64(RAW_CR) = now[0];
    R64(RAW_CR + 16) = cpu->s.cr2;
    R64(RAW_CR + 24) = now[1];
    R64(RAW_CR + 32) = now[2];
    R64(cpu->port.msr_at[MSR_AT_EFER]) = now[3] | 0x1000; /* SVME keeps the engine in guest mode */
    R32(cpu->port.msr_at[MSR_AT_SYSENTER_CS]) = (uint32_t)v[VMCS_GUEST_IA32_SYSENTER_CS]; /* SYSEXIT looks at it */
    R64(RAW_DR + 48) = DR6_NOTHING;
    R32(RAW_HFLAGS2) = ept ? R32(RAW_HFLAGS2) | HF2_NPT : R32(RAW_HFLAGS2) & ~(uint32_t)HF2_NPT;
    R64(RAW_NESTED_CR3) = ARENA + NESTED;
    R32(RAW_NESTED_MODE) = NESTED_MODE_LONG_NX;
    R32(RAW_OLD_EXCEPTION) = (uint32_t)-1;
    if (ept && now[4] != cpu->port.loaded[4]) forget_nested(cpu);
    memcpy(cpu->port.loaded, now, sizeof now);
    load_intercepts(cpu);
    uc_context_restore(cpu->port.uc, cpu->port.context);
    uc_reg_write(cpu->port.uc, UC_X86_REG_RFLAGS, &v[VMCS_GUEST_RFLAGS]);
    if (cpu->s.flush_tlb == FLUSH_ALL || (moved && !cpu->s.flush_tlb)) forget_translations(cpu, false);
    if (moved || cpu->s.flush_tlb) engine_flush_tlb(cpu);
    cpu->port.saved = false;
}

void engine_forget_data(sc_cpu *cpu) { uc_ctl_flush_tlb(cpu->port.uc); }

/* After verify_layout() left its test values behind: the state a CPU begins with. */
void reset_state(sc_cpu *cpu) {
    forget_nested(cpu);
    for (int i = 0; i < OWN_MSRS; i++) *engine_msr(cpu, ENGINE_MSRS[i]) = 0;
    R64(RAW_SEGS + 5 * SEGMENT_BYTES + SEGMENT_BASE) = 0;
    memset(cpu->port.raw + RAW_REGS, 0, 128);
    cpu->port.saved = true;
}
