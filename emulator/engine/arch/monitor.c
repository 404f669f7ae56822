/* MONITOR and MWAIT (SDM 2B; 3C 26.1.3, 28.2.1 table 28-3, 28.5.6). The engine does not know them: they arrive as #UD.
 *
 *   CPL > 0 --> #UD    its exiting control --> VM exit    else ECX != 0 --> #GP(0): CPUID leaf 5 offers no extensions
 *
 * MODEL: MWAIT does not wait, as the processor may, but goes on at once. Segment prefixes of MONITOR do not count.
 */
#include <capstone/capstone.h>
#include "engine.h"

static void monitor(sc_cpu *cpu, const instruction *in) {
    uint64_t mask = in->address_bytes == 8 ? ~0ull : (1ull << 8 * in->address_bytes) - 1;
    uint64_t linear = linear_of(cpu, DS, gpr_read(cpu, RAX) & mask);
    uint8_t byte;
    if (code_bits(cpu) == 64 && !canonical(linear)) return raise_fault(cpu, GENERAL_PROTECTION, 0);
    if (memory_fault(cpu, linear_read(cpu, linear, &byte, 1, 0), 0)) return; /* checked as a load of one byte */
    cpu->arch.state.monitor_armed = true;
    skip(cpu, in->length_bytes);
}

void trap_monitor(sc_cpu *cpu, const instruction *in) {
    bool is_mwait = in->id == X86_INS_MWAIT;
    if (cpl(cpu)) return raise_fault(cpu, INVALID_OPCODE, 0);
    if (control(cpu, VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS, is_mwait ? PROC_MWAIT_EXITING : PROC_MONITOR_EXITING)) {
        uint32_t reason = is_mwait ? EXIT_REASON_MWAIT_INSTRUCTION : EXIT_REASON_MONITOR_INSTRUCTION;
        return vm_exit(cpu, reason, is_mwait && cpu->arch.state.monitor_armed, in->length_bytes);
    }
    if ((uint32_t)gpr_read(cpu, RCX)) return raise_fault(cpu, GENERAL_PROTECTION, 0);
    if (!is_mwait) return monitor(cpu, in);
    cpu->arch.state.monitor_armed = false;
    skip(cpu, in->length_bytes);
}
