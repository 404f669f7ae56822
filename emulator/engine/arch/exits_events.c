/* VM exits by events and by accesses to memory: exceptions, software interrupts, EPT violations (SDM 3C 26.2, 28.2). */
#include <capstone/capstone.h>
#include "engine.h"

static uint64_t information(event e) {
    return e.vector | (uint64_t)e.type << EVENT_TYPE_SHIFT | (e.has_error ? EVENT_ERROR_CODE_VALID : 0) | EVENT_VALID;
}

void set_vectoring(sc_cpu *cpu, event e) {
    cpu->arch.exiting.vectoring = information(e);
    cpu->arch.exiting.vectoring_error_code = e.error_code;
    cpu->arch.exiting.vectored_bytes = e.instruction_bytes;
}

bool exception_exits(const sc_cpu *cpu, event e) {
    if (!cpu->s.non_root || e.type == EVENT_EXTERNAL_INTERRUPT || e.type == EVENT_SOFTWARE_INTERRUPT || e.vector > 31)
        return false;
    bool exits = cpu->s.vmcs[VMCS_EXCEPTION_BITMAP] >> e.vector & 1;
    if (e.vector != PAGE_FAULT) return exits;
    uint64_t mask = cpu->s.vmcs[VMCS_PAGE_FAULT_ERROR_CODE_MASK], match = cpu->s.vmcs[VMCS_PAGE_FAULT_ERROR_CODE_MATCH];
    return ((e.error_code & mask) == match) == exits; /* SDM 3C 26.2, "Exceptions" */
}

void vm_exit_event(sc_cpu *cpu, event e) {
    cpu->arch.exiting.interruption = information(e) | (cpu->arch.state.iret_unblocked ? EVENT_NMI_UNBLOCKING : 0);
    cpu->arch.exiting.interruption_error_code = e.error_code;
    uint64_t qualification = e.vector == PAGE_FAULT ? e.address : e.vector == DEBUG_EXCEPTION ? e.payload : 0;
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
    where |= cpu->arch.state.iret_unblocked ? EVENT_NMI_UNBLOCKING : 0; /* the same bit of the qualification */
    vm_exit(cpu, EXIT_REASON_EPT_VIOLATION, kind | (w.ept_rights & 7) << 3 | where, 0);
}

/* The linear addresses an access of the instruction at RIP may have; each also as the page a long operand runs into. */
static int likely_addresses(sc_cpu *cpu, unsigned access, uint64_t ret[6]) {
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
        large = large && !has_watched(cpu, w.hpa, 21);
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

void trap_software_interrupt(sc_cpu *cpu, const instruction *in) {
    event e = {.instruction_bytes = in->length_bytes, .type = EVENT_SOFTWARE_INTERRUPT};
    if (in->id == X86_INS_INT1) {
        e.vector = DEBUG_EXCEPTION;
        e.type = EVENT_PRIVILEGED_SOFTWARE_EXCEPTION;
    } else if (in->id == X86_INS_INT3 || in->id == X86_INS_INTO) {
        e.vector = in->id == X86_INS_INT3 ? 3 : 4;
        e.type = EVENT_SOFTWARE_EXCEPTION;
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
        trap_software_interrupt(cpu, &in);
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

/* The engine does not wrap the addresses of code at 4 GiB. */
uint64_t fault_address(sc_cpu *cpu) {
    uint64_t address = engine_fault_address(cpu);
    bool wraps = !long_mode(cpu) || (code_bits(cpu) != 64 && (uint32_t)(address - linear_rip(cpu)) <= 0x1000);
    return wraps ? (uint32_t)address : address;
}

void trap_exception(sc_cpu *cpu, unsigned vector) {
    if (vector == INVALID_OPCODE && trap_unknown_instruction(cpu)) return;
    if (vector == PAGE_FAULT && io_denied(cpu)) return raise_fault(cpu, GENERAL_PROTECTION, 0);
    if (vector == PAGE_FAULT && cpu->s.watched_hpas[0]) {
        unsigned code = (unsigned)engine_error_code(cpu);
        unsigned access = (code & 2 ? ACCESS_WRITE : 0) | (code & 4 ? ACCESS_USER : 0) | (code & 16 ? ACCESS_FETCH : 0);
        if (access_watched(cpu, engine_fault_address(cpu), access)) return;
    }
    if (vector == GENERAL_PROTECTION && code_bits(cpu) == 64 &&
        !engine_error_code(cpu)) { /* the engine does not tell them apart */
        instruction in = decode(cpu);
        if (in.has_memory && in.segment == SS && !canonical(in.offset)) vector = STACK_FAULT;
    }
    bool has_error = pushes_error_code(vector);
    event e = {.vector = vector, .type = EVENT_HARDWARE_EXCEPTION, .has_error = has_error};
    if (has_error) e.error_code = (uint32_t)engine_error_code(cpu);
    if (vector == PAGE_FAULT) e.address = fault_address(cpu);
    if (vector == DEBUG_EXCEPTION) e.payload = engine_debug_status(cpu) | cpu->arch.state.data_hits;
    cpu->arch.state.data_hits = 0; /* an access of an instruction that faults is none */
    raise_event(cpu, e);
}
