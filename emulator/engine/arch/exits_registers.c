/* VM exits by control registers, debug registers and MSRs (SDM 3C 26.1.3): what the masks, shadows and bitmaps let pass is
 * done at once. */
#include <capstone/capstone.h>
#include "engine.h"

#define PRIMARY VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS

static uint64_t masked(const sc_cpu *cpu, uint64_t value, unsigned mask_slot, unsigned shadow_slot) {
    uint64_t mask = cpu->s.non_root ? cpu->s.vmcs[mask_slot] : 0;
    return (value & ~mask) | (cpu->s.vmcs[shadow_slot] & mask);
}

/* The task priority in the virtual-APIC page, which CR8 stands for with the TPR shadow (SDM 3C 30.3); else NULL. */
static uint8_t *virtual_tpr(sc_cpu *cpu) {
    uint64_t at = cpu->s.vmcs[VMCS_VIRTUAL_APIC_ADDRESS] + 0x80;
    return control(cpu, PRIMARY, PROC_USE_TPR_SHADOW) && is_ram(cpu, at, 1) ? cpu->memory + at : NULL;
}

static void write_virtual_tpr(sc_cpu *cpu, const instruction *in, uint64_t value) {
    *virtual_tpr(cpu) = (uint8_t)(value << 4);
    engine_note_store(cpu, cpu->s.vmcs[VMCS_VIRTUAL_APIC_ADDRESS] + 0x80, 1);
    skip(cpu, in->length_bytes);
    if (value < (SLOT(cpu, TPR_THRESHOLD) & 15)) vm_exit(cpu, EXIT_REASON_TPR_BELOW_THRESHOLD, 0, 0);
}

void trap_cr_read(sc_cpu *cpu, const instruction *in) {
    uint64_t value = 0, qualification = (uint64_t)in->control_reg | 1 << 4 | (uint64_t)in->reg << 8;
    unsigned bytes = code_bits(cpu) == 64 ? 8 : 4;
    if (in->id == X86_INS_SMSW || in->control_reg == 0) {
        value = masked(cpu, SLOT(cpu, GUEST_CR0), VMCS_CR0_GUEST_HOST_MASK, VMCS_CR0_READ_SHADOW);
    } else if (in->control_reg == 3) {
        if (control(cpu, PRIMARY, PROC_CR3_STORE_EXITING))
            return vm_exit(cpu, EXIT_REASON_CR_ACCESS, qualification, in->length_bytes);
        value = SLOT(cpu, GUEST_CR3);
    } else if (in->control_reg == 4) {
        value = masked(cpu, SLOT(cpu, GUEST_CR4), VMCS_CR4_GUEST_HOST_MASK, VMCS_CR4_READ_SHADOW);
    } else if (in->control_reg == 8) {
        if (control(cpu, PRIMARY, PROC_CR8_STORE_EXITING))
            return vm_exit(cpu, EXIT_REASON_CR_ACCESS, qualification, in->length_bytes);
        uint8_t *vtpr = virtual_tpr(cpu);
        if (vtpr)
            value = *vtpr >> 4;
        else
            sc_platform_callback(cpu->python, PLATFORM_CR8_READ, 0, 0, &value);
    }
    if (in->id == X86_INS_SMSW && in->has_memory) {
        uint64_t linear = linear_of(cpu, in->segment, in->offset);
        walk_result w = linear_write(cpu, linear, &value, 2, cpl(cpu) == 3 ? ACCESS_USER : 0);
        if (memory_fault(cpu, w, ACCESS_WRITE)) return;
    } else {
        gpr_write(cpu, in->reg, value, in->id == X86_INS_SMSW ? in->operand_bytes : bytes);
    }
    skip(cpu, in->length_bytes);
}

/* Does a write of `value` change a bit that the host owns? Then it exits. */
static bool owned_bits_change(const sc_cpu *cpu, uint64_t value, unsigned mask_slot, unsigned shadow_slot) {
    return cpu->s.non_root && ((value ^ cpu->s.vmcs[shadow_slot]) & cpu->s.vmcs[mask_slot]);
}

static bool is_cr3_target(const sc_cpu *cpu, uint64_t value) {
    uint64_t count = cpu->s.vmcs[VMCS_CR3_TARGET_COUNT];
    for (unsigned i = 0; i < 4 && i < count; i++)
        if (cpu->s.vmcs[VMCS_CR3_TARGET_VALUE_0 + i] == value) return true;
    return false;
}

static bool cr_write_exits(const sc_cpu *cpu, const instruction *in, uint64_t value) {
    switch (in->id == X86_INS_CLTS || in->id == X86_INS_LMSW ? 0 : in->control_reg) {
    case 0: {
        uint64_t mask = cpu->s.vmcs[VMCS_CR0_GUEST_HOST_MASK], shadow = cpu->s.vmcs[VMCS_CR0_READ_SHADOW];
        if (in->id == X86_INS_CLTS) return cpu->s.non_root && (mask & shadow & CR0_TS);
        if (in->id != X86_INS_LMSW)
            return owned_bits_change(cpu, value, VMCS_CR0_GUEST_HOST_MASK, VMCS_CR0_READ_SHADOW);
        uint64_t changed = (value ^ shadow) & mask & 0xe;
        return cpu->s.non_root && (changed || (value & mask & ~shadow & 1)); /* LMSW cannot clear PE */
    }
    case 3: return control(cpu, PRIMARY, PROC_CR3_LOAD_EXITING) && !is_cr3_target(cpu, value);
    case 4: return owned_bits_change(cpu, value, VMCS_CR4_GUEST_HOST_MASK, VMCS_CR4_READ_SHADOW);
    default: return control(cpu, PRIMARY, PROC_CR8_LOAD_EXITING);
    }
}

void trap_cr_write(sc_cpu *cpu, const instruction *in) {
    uint64_t value, operand = 0, qualification, cr0 = SLOT(cpu, GUEST_CR0);
    if (in->id == X86_INS_CLTS) {
        value = cr0 & ~CR0_TS;
        qualification = 2 << 4;
    } else if (in->id == X86_INS_LMSW) {
        uint64_t linear = linear_of(cpu, in->segment, in->offset);
        if (in->has_memory) {
            walk_result w = linear_read(cpu, linear, &operand, 2, 0);
            if (memory_fault(cpu, w, 0)) return;
        } else {
            operand = gpr_read(cpu, in->reg) & 0xffff;
        }
        value = (cr0 & ~0xeull) | (operand & 0xf);
        qualification = 3 << 4 | (in->has_memory ? 1 << 6 : 0) | operand << 16;
        if (in->has_memory) SLOT(cpu, GUEST_LINEAR_ADDRESS) = linear;
    } else {
        value = operand = gpr_read(cpu, in->reg);
        if (code_bits(cpu) != 64) value = operand = (uint32_t)value;
        qualification = (uint64_t)in->control_reg | (uint64_t)in->reg << 8;
    }
    if (cr_write_exits(cpu, in, in->id == X86_INS_LMSW ? operand : value))
        return vm_exit(cpu, EXIT_REASON_CR_ACCESS, qualification, in->length_bytes);
    uint64_t mask0 = cpu->s.non_root ? SLOT(cpu, CR0_GUEST_HOST_MASK) : 0;
    uint64_t mask4 = cpu->s.non_root ? SLOT(cpu, CR4_GUEST_HOST_MASK) : 0;
    bool done;
    switch (in->id == X86_INS_MOV ? in->control_reg : 0) {
    case 0: done = write_cr0(cpu, (value & ~mask0) | (cr0 & mask0)); break;
    case 3: done = write_cr3(cpu, value); break;
    case 4: done = write_cr4(cpu, (value & ~mask4) | (SLOT(cpu, GUEST_CR4) & mask4)); break;
    default:
        done = value < 16;
        if (done && virtual_tpr(cpu)) return write_virtual_tpr(cpu, in, value);
        if (done) sc_platform_callback(cpu->python, PLATFORM_CR8_WRITE, 0, value, NULL);
    }
    if (!done) return raise_fault(cpu, GENERAL_PROTECTION, 0);
    skip(cpu, in->length_bytes);
}

static bool msr_exits(const sc_cpu *cpu, uint32_t index, bool write) {
    if (!cpu->s.non_root) return false;
    if (!control(cpu, PRIMARY, PROC_USE_MSR_BITMAPS)) return true;
    uint64_t at = cpu->s.vmcs[VMCS_MSR_BITMAP_ADDRESS] + (write ? 0x800 : 0); /* SDM 3C 25.6.9 */
    if (index >= 0xc0000000 && index < 0xc0002000)
        at += 0x400;
    else if (index >= 0x2000)
        return true;
    at += (index & 0x1fff) / 8;
    return !is_ram(cpu, at, 1) || (cpu->memory[at] >> (index & 7) & 1);
}

void trap_msr(sc_cpu *cpu, const instruction *in) {
    uint32_t index = gpr_read(cpu, RCX);
    bool write = in->id == X86_INS_WRMSR;
    uint64_t value = 0;
    if (msr_exits(cpu, index, write))
        return vm_exit(cpu, write ? EXIT_REASON_MSR_WRITE : EXIT_REASON_MSR_READ, 0, in->length_bytes);
    if (write) {
        value = (uint32_t)gpr_read(cpu, RAX) | gpr_read(cpu, RDX) << 32;
        if (!write_msr(cpu, index, value)) return raise_fault(cpu, GENERAL_PROTECTION, 0);
    } else {
        if (!read_msr(cpu, index, &value)) return raise_fault(cpu, GENERAL_PROTECTION, 0);
        gpr_write(cpu, RAX, value, 4);
        gpr_write(cpu, RDX, value >> 32, 4);
    }
    skip(cpu, in->length_bytes);
}

void trap_dr(sc_cpu *cpu, const instruction *in) {
    uint64_t qualification = (uint64_t)(in->control_reg & 7) | (in->to_control ? 0 : 1 << 4) | (uint64_t)in->reg << 8;
    if (control(cpu, PRIMARY, PROC_MOV_DR_EXITING))
        vm_exit(cpu, EXIT_REASON_DR_ACCESS, qualification, in->length_bytes);
    else
        move_debug_register(cpu, in);
}
