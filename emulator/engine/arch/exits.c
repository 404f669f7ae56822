/* From what the engine intercepted to what VMX does about it: the controls of the VMCS decide (SDM 3C 26.1).
 * A trap that no control asks for is done by hardware.c, silently.
 *
 *   exits_events.c      exceptions, software interrupts, EPT violations
 *   exits_registers.c   control registers, debug registers, MSRs
 *   exits_io.c          ports
 */
#include <capstone/capstone.h>
#include <string.h>
#include "engine.h"

#define PRIMARY VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS

void vm_exit(sc_cpu *cpu, uint32_t reason, uint64_t qualification, uint32_t instruction_bytes) {
    note_exit(cpu, reason, qualification);
    SLOT(cpu, EXIT_REASON) = reason;
    SLOT(cpu, EXIT_QUALIFICATION) = qualification;
    SLOT(cpu, VM_EXIT_INTERRUPTION_INFORMATION) = cpu->arch.exiting.interruption;
    SLOT(cpu, VM_EXIT_INTERRUPTION_ERROR_CODE) = cpu->arch.exiting.interruption_error_code;
    SLOT(cpu, IDT_VECTORING_INFORMATION) = cpu->arch.exiting.vectoring;
    SLOT(cpu, IDT_VECTORING_ERROR_CODE) = cpu->arch.exiting.vectoring_error_code;
    uint32_t vectored_bytes = cpu->arch.exiting.vectored_bytes;
    SLOT(cpu, VM_EXIT_INSTRUCTION_LENGTH) = vectored_bytes ? vectored_bytes : instruction_bytes;
    memset(&cpu->arch.exiting, 0, sizeof cpu->arch.exiting);
    SLOT(cpu, VM_ENTRY_INTERRUPTION_INFORMATION) &= ~EVENT_VALID;
    uint64_t *entry = &SLOT(cpu, VM_ENTRY_CONTROLS); /* SDM 3C 28.2: reports the mode the guest was in */
    *entry = long_mode(cpu) ? *entry | ENTRY_IA32E_MODE_GUEST : *entry & ~(uint64_t)ENTRY_IA32E_MODE_GUEST;
    if (!cpu->time.parameters.has_vpid) forget_translations(cpu, false); /* SDM 3C 29.4.3.1 */
    cpu->arch.state.monitor_armed = false;                               /* SDM 3C 28.5.6 */
    end_entry(cpu);
    if (sc_exit_callback(cpu->python) == NEXT_LEAVE) cpu->s.stop_request = 1;
}

static void trap_rdtsc(sc_cpu *cpu, const instruction *in, bool with_aux) {
    if (cpu->s.clock_cycles > cpu->s.horizon_cycles) { /* it orders cores: again when none is behind */
        cpu->s.stop_request = 1;
        return;
    }
    if (with_aux && cpu->s.non_root && !secondary_control(cpu, PROC2_ENABLE_RDTSCP))
        return raise_fault(cpu, INVALID_OPCODE, 0);
    if (control(cpu, PRIMARY, PROC_RDTSC_EXITING))
        return vm_exit(cpu, with_aux ? EXIT_REASON_RDTSCP : EXIT_REASON_RDTSC, 0, in->length_bytes);
    uint64_t tsc = read_tsc(cpu), aux = 0;
    gpr_write(cpu, RAX, tsc, 4);
    gpr_write(cpu, RDX, tsc >> 32, 4);
    if (with_aux && read_msr(cpu, IA32_TSC_AUX, &aux)) gpr_write(cpu, RCX, aux, 4);
    skip(cpu, in->length_bytes);
}

/* Instructions that exit when one bit of a control word is set, and otherwise do nothing we model but pass. */
static void trap_simple(sc_cpu *cpu, const instruction *in, bool exits, uint32_t reason, uint64_t qualification) {
    if (exits)
        vm_exit(cpu, reason, qualification, in->length_bytes);
    else
        skip(cpu, in->length_bytes);
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
    if (!in.id) return raise_fault(cpu, INVALID_OPCODE, 0); /* such as with LOCK, which the engine lets pass */
    if (code < TRAP_CR_WRITE) return trap_cr_read(cpu, &in);
    if (code < TRAP_DR_READ) return trap_cr_write(cpu, &in);
    if (code < TRAP_EXCEPTION) return trap_dr(cpu, &in);
    if (code >= TRAP_IDTR_READ && code <= TRAP_TR_WRITE) return trap_descriptor_table(cpu, &in, code);
    switch (code) {
    case TRAP_CPUID:
        if (cpu->s.non_root) return vm_exit(cpu, EXIT_REASON_CPUID, 0, in.length_bytes);
        do_cpuid(cpu);
        return skip(cpu, in.length_bytes);
    case TRAP_IRET: /* intercepted while NMIs are blocked, which it ends when it has run (SDM 3A 6.7.1): run it now */
        cpu->arch.state.iret = IRET_ARMED;
        return;
    case TRAP_FAR_TRANSFER: return trap_far_transfer(cpu, &in);
    case TRAP_INT:
    case TRAP_ICEBP: return trap_software_interrupt(cpu, &in);
    case TRAP_MSR: return trap_msr(cpu, &in);
    case TRAP_RDTSC: /* RDTSCP comes here too: the engine begins it as an RDTSC */
    case TRAP_RDTSCP: return trap_rdtsc(cpu, &in, in.id == X86_INS_RDTSCP);
    case TRAP_RDPMC:
        if (control(cpu, PRIMARY, PROC_RDPMC_EXITING)) return vm_exit(cpu, EXIT_REASON_RDPMC, 0, in.length_bytes);
        return raise_fault(cpu, GENERAL_PROTECTION, 0); /* MODEL: no performance counters */
    case TRAP_HLT:
        if (control(cpu, PRIMARY, PROC_HLT_EXITING)) return vm_exit(cpu, EXIT_REASON_HLT, 0, in.length_bytes);
        SLOT(cpu, GUEST_ACTIVITY_STATE) = ACTIVITY_HLT;
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
    default: return raise_fault(cpu, INVALID_OPCODE, 0); /* SVM and SMM instructions this CPU does not have */
    }
}
