/* What the CPU does by itself where no VMCS control asks for an exit, and the engine does not do it.
 *
 * Control registers, MSRs and TSC: SDM 3A 2.5, 3A 10.8.5 (mode changes), volume 4. Ports, CPUID leaves and MSRs that are
 * not the core's own belong to the platform: a callback into Python answers (`sc_platform_callback`).
 */
#include <string.h>
#include "engine.h"

#define CR4_DEFINED (0x7fcull | CR4_VMXE | CR4_SMEP) /* TSD to OSXMMEXCPT; the engine has no VME and PVI */

uint64_t gpr_read(const sc_cpu *cpu, int index) {
    return index == RSP ? cpu->s.vmcs[VMCS_GUEST_RSP] : cpu->s.gpr[index & 15];
}

void gpr_write(sc_cpu *cpu, int index, uint64_t value, unsigned bytes) {
    uint64_t *reg = index == RSP ? &SLOT(cpu, GUEST_RSP) : &cpu->s.gpr[index & 15];
    uint64_t mask = bytes >= 4 ? ~0ull : (1ull << 8 * bytes) - 1; /* a 32-bit result clears the upper half */
    *reg = (*reg & ~mask) | (bytes == 4 ? (uint32_t)value : value & mask);
}

/* MOV to a control register loads the PDPTEs of PAE paging; a malformed one makes it fail. */
static bool loads_pdptes(sc_cpu *cpu, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer) {
    bool pae = (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
    return !pae || pdptes_valid(cpu, cr3);
}

bool write_cr0(sc_cpu *cpu, uint64_t value) {
    uint64_t *cr0 = &SLOT(cpu, GUEST_CR0), *efer = &SLOT(cpu, GUEST_IA32_EFER);
    bool code64 = long_mode(cpu) && (SLOT(cpu, GUEST_CS_ACCESS_RIGHTS) & AR_L);
    if (value >> 32) return false;
    if ((value & CR0_PG) && !(value & CR0_PE)) return false;
    if ((value & CR0_NW) && !(value & CR0_CD)) return false;
    if (cpu->s.non_root && !(value & CR0_NE)) return false; /* SDM 3D A.7 */
    bool fixed = cpu->s.non_root && !secondary_control(cpu, PROC2_UNRESTRICTED_GUEST);
    if (fixed && (value & (CR0_PG | CR0_PE)) != (CR0_PG | CR0_PE)) return false;
    uint64_t new_efer = *efer;
    if (!(*cr0 & CR0_PG) && (value & CR0_PG) && (*efer & EFER_LME)) {
        if (!(SLOT(cpu, GUEST_CR4) & CR4_PAE) || (SLOT(cpu, GUEST_CS_ACCESS_RIGHTS) & AR_L)) return false;
        new_efer |= EFER_LMA;
    } else if ((*cr0 & CR0_PG) && !(value & CR0_PG)) {
        if (code64) return false;
        new_efer &= ~EFER_LMA;
    }
    bool reloads = (value ^ *cr0) & (CR0_PG | CR0_CD | CR0_NW);
    if (reloads && !loads_pdptes(cpu, value, SLOT(cpu, GUEST_CR3), SLOT(cpu, GUEST_CR4), new_efer)) return false;
    *efer = new_efer;
    *cr0 = (value & CR0_DEFINED) | CR0_ET;
    return true;
}

bool write_cr3(sc_cpu *cpu, uint64_t value) {
    if (long_mode(cpu) && value >> 40) return false;
    if (!loads_pdptes(cpu, SLOT(cpu, GUEST_CR0), value, SLOT(cpu, GUEST_CR4), SLOT(cpu, GUEST_IA32_EFER))) return false;
    SLOT(cpu, GUEST_CR3) = long_mode(cpu) ? value : (uint32_t)value;
    forget_translations(cpu, SLOT(cpu, GUEST_CR4) & CR4_PGE);
    cpu->s.flush_tlb = FLUSH_ENGINE;
    return true;
}

bool write_cr4(sc_cpu *cpu, uint64_t value) {
    if (value & ~CR4_DEFINED) return false;
    if (cpu->s.non_root != !!(value & CR4_VMXE)) return false; /* SDM 3D A.8; without VMX no CPUID offers it */
    if (long_mode(cpu) && !(value & CR4_PAE)) return false;
    bool reloads = (value ^ SLOT(cpu, GUEST_CR4)) & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP);
    if (reloads && !loads_pdptes(cpu, SLOT(cpu, GUEST_CR0), SLOT(cpu, GUEST_CR3), value, SLOT(cpu, GUEST_IA32_EFER)))
        return false;
    if ((value ^ SLOT(cpu, GUEST_CR4)) & (CR4_PSE | CR4_PAE | CR4_PGE)) cpu->s.flush_tlb = FLUSH_ALL;
    SLOT(cpu, GUEST_CR4) = value;
    return true;
}

uint64_t read_tsc(const sc_cpu *cpu) {
    uint64_t tsc = cpu->s.clock_cycles + cpu->s.tsc_base;
    if (control(cpu, VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS, PROC_USE_TSC_OFFSETTING))
        tsc += cpu->s.vmcs[VMCS_TSC_OFFSET];
    return tsc;
}

/* The slot or engine field where the core keeps an MSR, or NULL when the platform has it. */
static uint64_t *msr_place(sc_cpu *cpu, uint32_t index) {
    switch (index) {
    case IA32_FS_BASE: return &SLOT(cpu, GUEST_FS_BASE);
    case IA32_GS_BASE: return &SLOT(cpu, GUEST_GS_BASE);
    case IA32_SYSENTER_CS: return &SLOT(cpu, GUEST_IA32_SYSENTER_CS);
    case IA32_SYSENTER_ESP: return &SLOT(cpu, GUEST_IA32_SYSENTER_ESP);
    case IA32_SYSENTER_EIP: return &SLOT(cpu, GUEST_IA32_SYSENTER_EIP);
    case IA32_PAT: return &SLOT(cpu, GUEST_IA32_PAT);
    case IA32_EFER: return &SLOT(cpu, GUEST_IA32_EFER);
    default: return engine_msr(cpu, index);
    }
}

bool read_msr(sc_cpu *cpu, uint32_t index, uint64_t *ret) {
    uint64_t *place = msr_place(cpu, index);
    if (place) {
        *ret = *place;
        return true;
    }
    if (index == IA32_TIME_STAMP_COUNTER) {
        *ret = read_tsc(cpu);
        return true;
    }
    return sc_platform_callback(cpu->python, PLATFORM_MSR_READ, index, 0, ret);
}

static bool pat_valid(uint64_t value) {
    for (int i = 0; i < 64; i += 8) {
        unsigned type = value >> i & 0xff;
        if (type > 7 || type == 2 || type == 3) return false;
    }
    return true;
}

bool write_msr(sc_cpu *cpu, uint32_t index, uint64_t value) {
    uint64_t *place = msr_place(cpu, index);
    switch (index) {
    case IA32_FS_BASE:
    case IA32_GS_BASE:
    case IA32_KERNEL_GS_BASE:
    case IA32_LSTAR:
    case IA32_CSTAR:
    case IA32_SYSENTER_ESP:
    case IA32_SYSENTER_EIP:
        if (!canonical(value)) return false;
        break;
    case IA32_PAT:
        if (!pat_valid(value)) return false;
        break;
    case IA32_SYSENTER_CS: value = (uint32_t)value; break; /* 32 bits in a VMCS, too (SDM 3C 24.4.1) */
    case IA32_FMASK:
    case IA32_TSC_AUX:
        if (value >> 32) return false;
        break;
    case IA32_EFER:
        if (value & ~EFER_DEFINED) return false;
        if (((value ^ *place) & EFER_LME) && (SLOT(cpu, GUEST_CR0) & CR0_PG)) return false;
        value = (value & ~EFER_LMA) | (*place & EFER_LMA);
        break;
    case IA32_TIME_STAMP_COUNTER: cpu->s.tsc_base = value - cpu->s.clock_cycles; return true;
    }
    if (place) {
        *place = value;
        return true;
    }
    return sc_platform_callback(cpu->python, PLATFORM_MSR_WRITE, index, value, NULL);
}

void do_cpuid(sc_cpu *cpu) {
    uint64_t values[4] = {0};
    sc_platform_callback(cpu->python, PLATFORM_CPUID, (uint32_t)gpr_read(cpu, RAX), (uint32_t)gpr_read(cpu, RCX),
                         values);
    for (int i = 0; i < 4; i++) gpr_write(cpu, (const int[]){RAX, RBX, RCX, RDX}[i], values[i], 4);
}

/* Add `delta` to a register used as an address or count of `bytes` bytes. */
static void advance(sc_cpu *cpu, int index, int64_t delta, unsigned bytes) {
    gpr_write(cpu, index, gpr_read(cpu, index) + (uint64_t)delta, bytes);
}

/* Raise what a failed access of the current instruction raises; false when it did not fail. */
bool memory_fault(sc_cpu *cpu, walk_result w, unsigned access) {
    if (w.status == WALK_OK) return false;
    if (w.status == WALK_FAULT) {
        event e = {.vector = PAGE_FAULT,
                   .type = EVENT_HARDWARE_EXCEPTION,
                   .has_error = true,
                   .error_code = w.error_code,
                   .address = w.hpa};
        raise_event(cpu, e);
    } else {
        vm_exit_ept(cpu, w, access, w.hpa, true);
    }
    return true;
}

/* IN, OUT and one iteration of INS, OUTS on the platform's ports. */
void do_io(sc_cpu *cpu, const instruction *in) {
    uint16_t port = cpu->port.io.port;
    unsigned bytes = cpu->port.io.size, user = cpl(cpu) == 3 ? ACCESS_USER : 0;
    uint64_t value = 0;
    if (!in->has_memory) {
        if (cpu->port.io.in) {
            sc_platform_callback(cpu->python, PLATFORM_PORT_READ, port, bytes, &value);
            gpr_write(cpu, RAX, value, bytes);
        } else {
            value = gpr_read(cpu, RAX) & ((1ull << 8 * bytes) - 1);
            sc_platform_callback(cpu->python, PLATFORM_PORT_WRITE, port, bytes, &value);
        }
        skip(cpu, in->length_bytes);
        return;
    }
    uint64_t count_mask = in->address_bytes == 8 ? ~0ull : (1ull << 8 * in->address_bytes) - 1;
    int64_t step = SLOT(cpu, GUEST_RFLAGS) & RFLAGS_DF ? -(int64_t)bytes : (int64_t)bytes;
    uint64_t linear = linear_of(cpu, in->segment, in->offset);
    if (!in->rep || (gpr_read(cpu, RCX) & count_mask)) {
        walk_result w = {.status = WALK_OK};
        if (cpu->port.io.in) {
            w = linear_check(cpu, linear, bytes, user | ACCESS_WRITE);
            if (memory_fault(cpu, w, ACCESS_WRITE)) return;
            sc_platform_callback(cpu->python, PLATFORM_PORT_READ, port, bytes, &value);
            linear_write(cpu, linear, &value, bytes, user);
        } else {
            w = linear_read(cpu, linear, &value, bytes, user);
            if (memory_fault(cpu, w, 0)) return;
            sc_platform_callback(cpu->python, PLATFORM_PORT_WRITE, port, bytes, &value);
        }
        advance(cpu, cpu->port.io.in ? RDI : RSI, step, in->address_bytes);
        if (in->rep) {
            advance(cpu, RCX, -1, in->address_bytes);
            retire(cpu);
        }
    }
    if (!in->rep || !(gpr_read(cpu, RCX) & count_mask)) skip(cpu, in->length_bytes);
}

static void flat(sc_cpu *cpu, int index, uint16_t selector, uint32_t rights) {
    cpu->s.vmcs[VMCS_GUEST_ES_SELECTOR + index] = selector;
    cpu->s.vmcs[VMCS_GUEST_ES_BASE + index] = 0;
    cpu->s.vmcs[VMCS_GUEST_ES_LIMIT + index] = 0xffffffff;
    cpu->s.vmcs[VMCS_GUEST_ES_ACCESS_RIGHTS + index] = rights;
}

enum { CODE64 = 0xa09b, CODE32 = 0xc09b, DATA = 0xc093 };

/* SYSCALL and SYSENTER are done. With TF as they leave it, the trap comes before the first instruction of the kernel. */
static void end_system_call(sc_cpu *cpu) {
    if (SLOT(cpu, GUEST_RFLAGS) & RFLAGS_TF) raise_debug(cpu, DR6_BS);
}

/* SYSCALL, 64-bit mode (SDM 2B): RCX, R11, STAR, LSTAR, FMASK. */
void do_syscall(sc_cpu *cpu, uint32_t instruction_bytes) {
    bool code64 = long_mode(cpu) && (SLOT(cpu, GUEST_CS_ACCESS_RIGHTS) & AR_L);
    if (!(SLOT(cpu, GUEST_IA32_EFER) & EFER_SCE) || !code64) {
        raise_fault(cpu, INVALID_OPCODE, 0);
        return;
    }
    retire(cpu);
    uint64_t flags = SLOT(cpu, GUEST_RFLAGS);
    uint16_t selector = *engine_msr(cpu, IA32_STAR) >> 32 & 0xfffc;
    gpr_write(cpu, RCX, SLOT(cpu, GUEST_RIP) + instruction_bytes, 8);
    gpr_write(cpu, R11, flags & ~RFLAGS_RF, 8);
    SLOT(cpu, GUEST_RFLAGS) = (flags & ~*engine_msr(cpu, IA32_FMASK) & ~RFLAGS_RF) | RFLAGS_RESERVED_1;
    SLOT(cpu, GUEST_RIP) = *engine_msr(cpu, IA32_LSTAR);
    flat(cpu, CS, selector, CODE64);
    flat(cpu, SS, selector + 8, DATA);
    end_system_call(cpu);
}

/* SYSENTER (SDM 2B). */
void do_sysenter(sc_cpu *cpu) {
    uint16_t selector = SLOT(cpu, GUEST_IA32_SYSENTER_CS) & 0xfffc;
    if (!selector) {
        raise_fault(cpu, GENERAL_PROTECTION, 0);
        return;
    }
    retire(cpu);
    bool wide = long_mode(cpu);
    SLOT(cpu, GUEST_RFLAGS) &= ~(RFLAGS_VM | RFLAGS_IF);
    SLOT(cpu, GUEST_RSP) = wide ? SLOT(cpu, GUEST_IA32_SYSENTER_ESP) : (uint32_t)SLOT(cpu, GUEST_IA32_SYSENTER_ESP);
    SLOT(cpu, GUEST_RIP) = wide ? SLOT(cpu, GUEST_IA32_SYSENTER_EIP) : (uint32_t)SLOT(cpu, GUEST_IA32_SYSENTER_EIP);
    flat(cpu, CS, selector, wide ? CODE64 : CODE32);
    flat(cpu, SS, selector + 8, DATA);
    end_system_call(cpu);
}
