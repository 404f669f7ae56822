/* From what the engine intercepted to what VMX does about it: the controls of the VMCS decide (SDM 3C 26.1).
 * A trap that no control asks for is done by hardware.c, silently.
 */
#include <capstone/capstone.h>
#include <string.h>
#include "engine.h"

#define PRIMARY VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS
enum { VECTOR_DB = 1, VECTOR_UD = 6, VECTOR_SS = 12, VECTOR_GP = 13, VECTOR_PF = 14 };
enum { CR0_TS = 8 };

/* Intercept codes of the engine (AMD APM volume 2, appendix C). */
enum {
    TRAP_CR_READ = 0x00,
    TRAP_CR_WRITE = 0x10,
    TRAP_DR_READ = 0x20,
    TRAP_DR_WRITE = 0x30,
    TRAP_IDTR_READ = 0x66, /* SIDT SGDT SLDT STR LIDT LGDT LLDT LTR */
    TRAP_TR_WRITE = 0x6d,
    TRAP_RDTSC = 0x6e,
    TRAP_RDPMC = 0x6f,
    TRAP_CPUID = 0x72,
    TRAP_RSM = 0x73,
    TRAP_IRET = 0x74,
    TRAP_INT = 0x75,
    TRAP_INVD = 0x76,
    TRAP_PAUSE = 0x77,
    TRAP_HLT = 0x78,
    TRAP_INVLPG = 0x79,
    TRAP_MSR = 0x7c,
    TRAP_RDTSCP = 0x87,
    TRAP_ICEBP = 0x88,
    TRAP_WBINVD = 0x89
};

void vm_exit(sc_cpu *cpu, uint32_t reason, uint64_t qualification, uint32_t instruction_bytes) {
    SLOT(cpu, EXIT_REASON) = reason;
    SLOT(cpu, EXIT_QUALIFICATION) = qualification;
    SLOT(cpu, VM_EXIT_INSTRUCTION_LENGTH) = cpu->vectoring_bytes ? cpu->vectoring_bytes : instruction_bytes;
    SLOT(cpu, VM_ENTRY_INTERRUPTION_INFORMATION) &= 0x7fffffff;
    uint64_t *entry = &SLOT(cpu, VM_ENTRY_CONTROLS); /* SDM 3C 28.2: reports the mode the guest was in */
    *entry = long_mode(cpu) ? *entry | ENTRY_IA32E_MODE_GUEST : *entry & ~(uint64_t)ENTRY_IA32E_MODE_GUEST;
    if (!cpu->timing.has_vpid) forget_translations(cpu, false); /* SDM 3C 29.4.3.1 */
    cpu->monitor_armed = false; /* SDM 3C 28.5.6 */
    end_entry(cpu);
    sc_exit_callback(cpu->python);
    SLOT(cpu, IDT_VECTORING_INFORMATION) = 0;
    cpu->vectoring_bytes = 0;
    SLOT(cpu, VM_EXIT_INTERRUPTION_INFORMATION) = 0;
}

enum { NMI_UNBLOCKING = 1 << 12 }; /* of interruption information and of an EPT violation's qualification */

static uint64_t information(event e) {
    return e.vector | (uint64_t)e.type << 8 | (uint64_t)e.has_error << 11 | 1u << 31;
}

void set_vectoring(sc_cpu *cpu, event e) {
    SLOT(cpu, IDT_VECTORING_INFORMATION) = information(e);
    SLOT(cpu, IDT_VECTORING_ERROR_CODE) = e.error_code;
    cpu->vectoring_bytes = e.instruction_bytes; /* SDM 3C 28.2.5: the length of the INT that was being delivered */
}

bool exception_exits(const sc_cpu *cpu, event e) {
    if (!cpu->s.non_root || e.type == EVENT_EXTERNAL || e.type == EVENT_SOFT_INT || e.vector > 31) return false;
    bool exits = cpu->s.vmcs[VMCS_EXCEPTION_BITMAP] >> e.vector & 1;
    if (e.vector != VECTOR_PF) return exits;
    uint64_t mask = cpu->s.vmcs[VMCS_PAGE_FAULT_ERROR_CODE_MASK], match = cpu->s.vmcs[VMCS_PAGE_FAULT_ERROR_CODE_MATCH];
    return ((e.error_code & mask) == match) == exits; /* SDM 3C 26.2, "Exceptions" */
}

void vm_exit_event(sc_cpu *cpu, event e) {
    SLOT(cpu, VM_EXIT_INTERRUPTION_INFORMATION) = information(e) | (cpu->iret_unblocked ? NMI_UNBLOCKING : 0);
    SLOT(cpu, VM_EXIT_INTERRUPTION_ERROR_CODE) = e.error_code;
    uint64_t qualification = e.vector == VECTOR_PF ? e.address : e.vector == VECTOR_DB ? e.payload : 0;
    vm_exit(cpu, EXIT_REASON_EXCEPTION_NMI, qualification, e.instruction_bytes);
}

void vm_exit_ept(sc_cpu *cpu, walk_result w, unsigned access, uint64_t linear, bool linear_valid) {
    SLOT(cpu, GUEST_PHYSICAL_ADDRESS) = w.gpa;
    SLOT(cpu, GUEST_LINEAR_ADDRESS) = linear;
    if (w.status == WALK_EPT_MISCONFIG) {
        vm_exit(cpu, EXIT_REASON_EPT_MISCONFIG, 0, 0);
        return;
    }
    uint64_t kind = access & ACCESS_FETCH ? 4 : access & ACCESS_WRITE ? 2 : 1;
    uint64_t where = linear_valid ? 0x80 | (w.in_page_walk ? 0 : 0x100) : 0;
    where |= cpu->iret_unblocked ? NMI_UNBLOCKING : 0;
    vm_exit(cpu, EXIT_REASON_EPT_VIOLATION, kind | (w.ept_rights & 7) << 3 | where, 0);
}

/* The linear addresses an access of the instruction at RIP may have; each also as the page a long operand runs into. */
int likely_addresses(sc_cpu *cpu, unsigned access, uint64_t ret[6]) {
    int n = 0;
    if (access & ACCESS_FETCH) {
        ret[n++] = linear_rip(cpu);
        ret[n++] = (linear_rip(cpu) | 0xfff) + 1;
        return n;
    }
    instruction in = decode(cpu);
    if (in.has_memory) {
        ret[n++] = linear_of(cpu, in.segment, in.offset);
        ret[n++] = (ret[0] | 0xfff) + 1;
    }
    if (in.has_two) ret[n++] = linear_of(cpu, in.other_segment, in.other_offset);
    uint64_t pushed_bytes = code_bits(cpu) / 8;
    ret[n++] = linear_of_stack(cpu, access & ACCESS_WRITE ? pushed_bytes : 0);
    return n;
}

/* The engine tells only the guest-physical address: find the linear one among those the instruction uses. */
void trap_nested_fault(sc_cpu *cpu) {
    uint64_t gpa = engine_fault_address(cpu), likely[6];
    int code = engine_error_code(cpu);
    unsigned access = (code & 2 ? ACCESS_WRITE : 0) | (code & 16 ? ACCESS_FETCH : 0);
    bool large = false;
    walk_result w = walk_ept(cpu, gpa, access, &large);
    if (w.status == WALK_OK) {
        if (cpu->s.watched_hpa >> 21 == w.hpa >> 21) large = false;
        if (access_watched_nested(cpu, gpa, w.hpa, access)) return;
        engine_map_nested(cpu, gpa, w.hpa, w.ept_rights, large);
        return;
    }
    w.gpa = gpa;
    int count = likely_addresses(cpu, access, likely);
    for (int i = 0; i < count; i++) {
        unsigned user = cpl(cpu) == 3 ? ACCESS_USER : 0;
        walk_result found = walk(cpu, likely[i], access | user | ACCESS_PROBE);
        if (found.status != WALK_OK && found.status != WALK_FAULT && found.gpa >> 12 == gpa >> 12) {
            w.in_page_walk = found.in_page_walk;
            vm_exit_ept(cpu, w, access, likely[i], true);
            return;
        }
    }
    vm_exit_ept(cpu, w, access, 0, false);
}

static void trap_software_interrupt(sc_cpu *cpu, const instruction *in, unsigned code) {
    event e = {.instruction_bytes = in->length_bytes, .type = EVENT_SOFT_INT};
    if (code == TRAP_ICEBP || in->id == X86_INS_INT1) {
        e.vector = VECTOR_DB;
        e.type = EVENT_PRIV_SOFT;
    } else if (in->id == X86_INS_INT3 || in->id == X86_INS_INTO) {
        e.vector = in->id == X86_INS_INT3 ? 3 : 4;
        e.type = EVENT_SOFT_EXC;
    } else {
        e.vector = in->last_byte;
    }
    if (exception_exits(cpu, e))
        vm_exit_event(cpu, e);
    else
        cpu->s.instructions += deliver(cpu, e); /* it takes the time of a delivery */
}

/* Instructions that are unknown to the engine arrive as #UD: INT1 (ICEBP), MONITOR, MWAIT, and VMX instructions, which all exit in
 * non-root operation (SDM 3C 26.1.2; GETSEC is #UD without CR4.SMXE). */
static bool trap_unknown_instruction(sc_cpu *cpu) {
    static const struct {
        unsigned id, reason;
    } table[] = {
        {X86_INS_VMCALL, EXIT_REASON_VMCALL},     {X86_INS_VMCLEAR, EXIT_REASON_VMCLEAR},
        {X86_INS_VMLAUNCH, EXIT_REASON_VMLAUNCH}, {X86_INS_VMPTRLD, EXIT_REASON_VMPTRLD},
        {X86_INS_VMPTRST, EXIT_REASON_VMPTRST},   {X86_INS_VMREAD, EXIT_REASON_VMREAD},
        {X86_INS_VMRESUME, EXIT_REASON_VMRESUME}, {X86_INS_VMWRITE, EXIT_REASON_VMWRITE},
        {X86_INS_VMXOFF, EXIT_REASON_VMXOFF},     {X86_INS_VMXON, EXIT_REASON_VMXON},
        {X86_INS_INVEPT, EXIT_REASON_INVEPT},     {X86_INS_INVVPID, EXIT_REASON_INVVPID},
    };
    instruction in = decode(cpu);
    if (in.id == X86_INS_INT1) {
        trap_software_interrupt(cpu, &in, TRAP_ICEBP);
        return true;
    }
    if (in.id == X86_INS_MONITOR || in.id == X86_INS_MWAIT) {
        trap_monitor(cpu, &in);
        return true;
    }
    if (!cpu->s.non_root) return false;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (in.id == table[i].id) {
            vm_exit(cpu, table[i].reason, 0, in.length_bytes);
            return true;
        }
    return false;
}

/* The I/O permission check of the TSS (SDM 1 19.5.2), which the engine leaves out. */
static bool io_allowed(sc_cpu *cpu, uint16_t port, unsigned size) {
    unsigned iopl = SLOT(cpu, GUEST_RFLAGS) >> 12 & 3;
    if (!(SLOT(cpu, GUEST_CR0) & 1)) return true;
    if (cpl(cpu) <= iopl && !(SLOT(cpu, GUEST_RFLAGS) & 0x20000)) return true;
    uint64_t base = SLOT(cpu, GUEST_TR_BASE), limit = SLOT(cpu, GUEST_TR_LIMIT);
    uint16_t map = 0, bits = 0;
    if (!(SLOT(cpu, GUEST_TR_ACCESS_RIGHTS) & 8) || limit < 0x67)
        return false; /* only a 32-bit or 64-bit TSS has a map */
    if (linear_read(cpu, base + 0x66, &map, 2, ACCESS_SYSTEM).status != WALK_OK) return false;
    uint64_t at = (uint64_t)map + port / 8;
    if (at + 1 > limit) return false;
    if (linear_read(cpu, base + at, &bits, 2, ACCESS_SYSTEM).status != WALK_OK) return false;
    return !(bits >> (port & 7) & ((1u << size) - 1));
}

/* The engine does not wrap the addresses of code at 4 GiB. */
static uint64_t fault_address(sc_cpu *cpu) {
    uint64_t address = engine_fault_address(cpu);
    bool wraps = !long_mode(cpu) || (code_bits(cpu) != 64 && (uint32_t)(address - linear_rip(cpu)) <= 0x1000);
    return wraps ? (uint32_t)address : address;
}

/* The engine touches the memory of INS and OUTS before it asks for the port; the processor checks the port first. */
static bool io_denied(sc_cpu *cpu) {
    bool fetch = (engine_error_code(cpu) & 16) || fault_address(cpu) - linear_rip(cpu) < INSTRUCTION_BYTES_MAX;
    if (cpl(cpu) == 0 || fetch) return false;
    instruction in = decode(cpu);
    if (in.opcode[0] < 0x6c || in.opcode[0] > 0x6f || in.opcode[1]) return false;
    return !io_allowed(cpu, (uint16_t)gpr_read(cpu, 2), in.opcode[0] & 1 ? in.operand_bytes : 1);
}

void trap_exception(sc_cpu *cpu, unsigned vector) {
    if (vector == VECTOR_UD && trap_unknown_instruction(cpu)) return;
    if (vector == VECTOR_PF && io_denied(cpu)) return raise_fault(cpu, VECTOR_GP, 0);
    if (vector == VECTOR_PF && cpu->s.watched_hpa) {
        unsigned code = (unsigned)engine_error_code(cpu);
        unsigned access = (code & 2 ? ACCESS_WRITE : 0) | (code & 4 ? ACCESS_USER : 0) | (code & 16 ? ACCESS_FETCH : 0);
        if (access_watched(cpu, engine_fault_address(cpu), access)) return;
    }
    if (vector == VECTOR_GP && code_bits(cpu) == 64 &&
        !engine_error_code(cpu)) { /* the engine does not tell them apart */
        instruction in = decode(cpu);
        if (in.has_memory && in.segment == SS && !canonical(in.offset)) vector = VECTOR_SS;
    }
    bool has_error = pushes_error_code(vector);
    event e = {.vector = vector, .type = EVENT_HARDWARE, .has_error = has_error};
    if (has_error) e.error_code = (uint32_t)engine_error_code(cpu);
    if (vector == VECTOR_PF) e.address = fault_address(cpu);
    if (vector == VECTOR_DB) e.payload = engine_debug_status(cpu) | cpu->data_hits;
    cpu->data_hits = 0; /* an access of an instruction that faults is none */
    raise_event(cpu, e);
}

static uint64_t masked(const sc_cpu *cpu, uint64_t value, unsigned mask_slot, unsigned shadow_slot) {
    uint64_t mask = cpu->s.non_root ? cpu->s.vmcs[mask_slot] : 0;
    return (value & ~mask) | (cpu->s.vmcs[shadow_slot] & mask);
}

/* The task priority in the virtual-APIC page, which CR8 stands for with the TPR shadow (SDM 3C 30.3); else NULL. */
static uint8_t *virtual_tpr(sc_cpu *cpu) {
    uint64_t at = cpu->s.vmcs[VMCS_VIRTUAL_APIC_ADDRESS] + 0x80;
    return control(cpu, PRIMARY, PROC_USE_TPR_SHADOW) && at < cpu->memory_bytes ? cpu->memory + at : NULL;
}

static void write_virtual_tpr(sc_cpu *cpu, const instruction *in, uint64_t value) {
    *virtual_tpr(cpu) = (uint8_t)(value << 4);
    skip(cpu, in->length_bytes);
    if (value < (SLOT(cpu, TPR_THRESHOLD) & 15)) vm_exit(cpu, EXIT_REASON_TPR_BELOW_THRESHOLD, 0, 0);
}

static void trap_cr_read(sc_cpu *cpu, const instruction *in) {
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

static void trap_cr_write(sc_cpu *cpu, const instruction *in) {
    uint64_t value, operand = 0, qualification, cr0 = SLOT(cpu, GUEST_CR0);
    if (in->id == X86_INS_CLTS) {
        value = cr0 & ~(uint64_t)CR0_TS;
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
    if (!done) return raise_fault(cpu, VECTOR_GP, 0);
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
    return at >= cpu->memory_bytes || (cpu->memory[at] >> (index & 7) & 1);
}

static void trap_msr(sc_cpu *cpu, const instruction *in) {
    uint32_t index = gpr_read(cpu, 1);
    bool write = in->id == X86_INS_WRMSR;
    uint64_t value = 0;
    if (msr_exits(cpu, index, write))
        return vm_exit(cpu, write ? EXIT_REASON_MSR_WRITE : EXIT_REASON_MSR_READ, 0, in->length_bytes);
    if (write) {
        value = (uint32_t)gpr_read(cpu, 0) | gpr_read(cpu, 2) << 32;
        if (!write_msr(cpu, index, value)) return raise_fault(cpu, VECTOR_GP, 0);
    } else {
        if (!read_msr(cpu, index, &value)) return raise_fault(cpu, VECTOR_GP, 0);
        gpr_write(cpu, 0, value, 4);
        gpr_write(cpu, 2, value >> 32, 4);
    }
    skip(cpu, in->length_bytes);
}

static void trap_rdtsc(sc_cpu *cpu, const instruction *in, bool with_aux) {
    if (cpu->s.clock_cycles > cpu->s.horizon_cycles) { /* it orders cores: again when none is behind */
        cpu->s.stop_request = 1;
        return;
    }
    if (with_aux && cpu->s.non_root && !secondary_control(cpu, PROC2_ENABLE_RDTSCP))
        return raise_fault(cpu, VECTOR_UD, 0);
    if (control(cpu, PRIMARY, PROC_RDTSC_EXITING))
        return vm_exit(cpu, with_aux ? EXIT_REASON_RDTSCP : EXIT_REASON_RDTSC, 0, in->length_bytes);
    uint64_t tsc = read_tsc(cpu), aux = 0;
    gpr_write(cpu, 0, tsc, 4);
    gpr_write(cpu, 2, tsc >> 32, 4);
    if (with_aux && read_msr(cpu, 0xc0000103, &aux)) gpr_write(cpu, 1, aux, 4);
    skip(cpu, in->length_bytes);
}

/* Instructions that exit when one bit of a control word is set, and otherwise do nothing we model but pass. */
static void trap_simple(sc_cpu *cpu, const instruction *in, bool exits, uint32_t reason, uint64_t qualification) {
    if (exits)
        vm_exit(cpu, reason, qualification, in->length_bytes);
    else
        skip(cpu, in->length_bytes);
}

static void trap_dr(sc_cpu *cpu, const instruction *in) {
    uint64_t qualification = (uint64_t)(in->control_reg & 7) | (in->to_control ? 0 : 1 << 4) | (uint64_t)in->reg << 8;
    if (control(cpu, PRIMARY, PROC_MOV_DR_EXITING))
        vm_exit(cpu, EXIT_REASON_DR_ACCESS, qualification, in->length_bytes);
    else
        move_debug_register(cpu, in);
}

/* The VM-exit instruction information of an instruction with one operand (SDM 3C tables 28-10 and 28-11):
 *
 *   29 28   27 26..23   22 21..18   17..15   11        10   9..7      6..3   1..0
 *   which   -- base     -- index    segment  32 bits   reg  address   reg 1  scale      (--: there is none) */
static uint64_t operand_information(const sc_cpu *cpu, const instruction *in, unsigned which) {
    uint64_t information = (uint64_t)which << 28;
    if (!in->has_memory) return information | 1 << 10 | (uint64_t)(in->reg & 15) << 3;
    information |= in->index < 0 ? 1ull << 22 : (uint64_t)in->index << 18;
    information |= in->base < 0 ? 1ull << 27 : (uint64_t)in->base << 23;
    information |= (uint64_t)in->segment << 15 | (code_bits(cpu) != 16 ? 1 << 11 : 0);
    unsigned scale = in->scale == 8 ? 3 : in->scale == 4 ? 2 : in->scale == 2 ? 1 : 0;
    return information | (in->address_bytes == 8 ? 2 : in->address_bytes == 4 ? 1 : 0) << 7 | scale;
}

/* Only with descriptor-table exiting. */
static void trap_descriptor_table(sc_cpu *cpu, const instruction *in, unsigned code) {
    static const struct {
        uint8_t reason, which;
    } table[8] = {{EXIT_REASON_GDTR_IDTR, 1}, {EXIT_REASON_GDTR_IDTR, 0}, {EXIT_REASON_LDTR_TR, 0},
                  {EXIT_REASON_LDTR_TR, 1},   {EXIT_REASON_GDTR_IDTR, 3}, {EXIT_REASON_GDTR_IDTR, 2},
                  {EXIT_REASON_LDTR_TR, 2},   {EXIT_REASON_LDTR_TR, 3}};
    unsigned row = code - TRAP_IDTR_READ;
    SLOT(cpu, VM_EXIT_INSTRUCTION_INFORMATION) = operand_information(cpu, in, table[row].which);
    vm_exit(cpu, table[row].reason, (uint64_t)in->displacement, in->length_bytes);
}

void trap_instruction(sc_cpu *cpu, unsigned code) {
    instruction in = decode(cpu);
    if (!in.id) return raise_fault(cpu, VECTOR_UD, 0); /* such as with LOCK, which the engine lets pass */
    if (code < TRAP_CR_WRITE) return trap_cr_read(cpu, &in);
    if (code < TRAP_DR_READ) return trap_cr_write(cpu, &in);
    if (code < 0x40) return trap_dr(cpu, &in);
    if (code >= TRAP_IDTR_READ && code <= TRAP_TR_WRITE) return trap_descriptor_table(cpu, &in, code);
    switch (code) {
    case TRAP_CPUID:
        if (cpu->s.non_root) return vm_exit(cpu, EXIT_REASON_CPUID, 0, in.length_bytes);
        do_cpuid(cpu);
        return skip(cpu, in.length_bytes);
    case TRAP_IRET: /* intercepted while NMIs are blocked, which it ends when it has run (SDM 3A 6.7.1): run it now */
        cpu->iret = IRET_ARMED;
        return;
    case TRAP_INT:
    case TRAP_ICEBP: return trap_software_interrupt(cpu, &in, code);
    case TRAP_MSR: return trap_msr(cpu, &in);
    case TRAP_RDTSC: /* RDTSCP comes here too: the engine begins it as an RDTSC */
    case TRAP_RDTSCP: return trap_rdtsc(cpu, &in, in.id == X86_INS_RDTSCP);
    case TRAP_RDPMC:
        if (control(cpu, PRIMARY, PROC_RDPMC_EXITING)) return vm_exit(cpu, EXIT_REASON_RDPMC, 0, in.length_bytes);
        return raise_fault(cpu, VECTOR_GP, 0); /* MODEL: no performance counters */
    case TRAP_HLT:
        if (control(cpu, PRIMARY, PROC_HLT_EXITING)) return vm_exit(cpu, EXIT_REASON_HLT, 0, in.length_bytes);
        SLOT(cpu, GUEST_ACTIVITY_STATE) = 1;
        return skip(cpu, in.length_bytes);
    case TRAP_INVLPG:
        if (!control(cpu, PRIMARY, PROC_INVLPG_EXITING)) {
            cpu->s.flush_tlb = FLUSH_ENGINE; /* the engine's TLB is flushed whole */
            forget_page(cpu, linear_of(cpu, in.segment, in.offset));
        }
        return trap_simple(cpu, &in, control(cpu, PRIMARY, PROC_INVLPG_EXITING), EXIT_REASON_INVLPG,
                           linear_of(cpu, in.segment, in.offset));
    case TRAP_PAUSE: return trap_simple(cpu, &in, pause_exits(cpu), EXIT_REASON_PAUSE_INSTRUCTION, 0);
    case TRAP_WBINVD:
    case TRAP_INVD:
        if (in.id == X86_INS_INVD) return trap_simple(cpu, &in, cpu->s.non_root, EXIT_REASON_INVD, 0);
        return trap_simple(cpu, &in, secondary_control(cpu, PROC2_WBINVD_EXITING), EXIT_REASON_WBINVD, 0);
    default: return raise_fault(cpu, VECTOR_UD, 0); /* SVM and SMM instructions this CPU does not have */
    }
}

static bool io_exits(const sc_cpu *cpu, uint16_t port, unsigned size) {
    if (!control(cpu, PRIMARY, PROC_USE_IO_BITMAPS)) return control(cpu, PRIMARY, PROC_UNCONDITIONAL_IO_EXITING);
    if (port + size > 0x10000) return true;
    for (unsigned p = port; p < port + size; p++) {
        uint64_t at = cpu->s.vmcs[p < 0x8000 ? VMCS_IO_BITMAP_A_ADDRESS : VMCS_IO_BITMAP_B_ADDRESS] + (p & 0x7fff) / 8;
        if (at >= cpu->memory_bytes || (cpu->memory[at] >> (p & 7) & 1)) return true;
    }
    return false;
}

/* May `bytes` bytes at the memory operand be used as far as its segment goes (SDM 3A 5.3)? */
static bool is_in_segment(const sc_cpu *cpu, const instruction *in, unsigned bytes) {
    uint64_t last = in->offset + bytes - 1, rights = cpu->s.vmcs[VMCS_GUEST_ES_ACCESS_RIGHTS + in->segment];
    if (code_bits(cpu) == 64) {
        uint64_t linear = linear_of(cpu, in->segment, in->offset);
        return canonical(linear) && canonical(linear + bytes - 1);
    }
    uint64_t limit = cpu->s.vmcs[VMCS_GUEST_ES_LIMIT + in->segment];
    if ((rights & 0xc) == 4) return in->offset > limit && last <= (rights & 0x4000 ? 0xffffffff : 0xffff);
    return last <= limit;
}

/* MODEL: the engine has written zeros to the operand of an INS before it asks for the port; so it stays when #GP or a
 * VM exit keeps the INS from being done. */
void trap_io(sc_cpu *cpu) {
    uint16_t port = cpu->io.port;
    instruction in = decode(cpu);
    if (!in.id) return raise_fault(cpu, VECTOR_UD, 0);
    if (!io_allowed(cpu, port, cpu->io.size)) return raise_fault(cpu, VECTOR_GP, 0);
    uint64_t count_mask = in.address_bytes == 8 ? ~0ull : (1ull << 8 * in.address_bytes) - 1;
    bool moves = in.has_memory && (!in.rep || (gpr_read(cpu, 1) & count_mask));
    if (moves && !is_in_segment(cpu, &in, cpu->io.size))
        return raise_fault(cpu, in.segment == SS ? VECTOR_SS : VECTOR_GP, 0);
    if (!io_exits(cpu, port, cpu->io.size)) return do_io(cpu, &in);
    bool immediate = in.opcode[0] >= 0xe4 && in.opcode[0] <= 0xe7;
    uint64_t qualification = (cpu->io.size - 1u) | cpu->io.in << 3 | in.has_memory << 4 |
                             (in.has_memory && in.rep) << 5 | immediate << 6 | (uint64_t)port << 16;
    if (in.has_memory) {
        unsigned size = in.address_bytes == 8 ? 2 : in.address_bytes == 4 ? 1 : 0;
        SLOT(cpu, GUEST_LINEAR_ADDRESS) = linear_of(cpu, in.segment, in.offset);
        SLOT(cpu, VM_EXIT_INSTRUCTION_INFORMATION) = size << 7 | (uint64_t)in.segment << 15;
    }
    vm_exit(cpu, EXIT_REASON_IO_INSTRUCTION, qualification, in.length_bytes);
}
