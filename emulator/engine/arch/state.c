/* The processor's own state, beside the slots: after a reset, and from a snapshot. */
#include "engine.h"

void arch_reset(sc_cpu *cpu) {
    cpu->s.horizon_cycles = cpu->arch.state.timer_end_cycles = ~0ull;
    SLOT(cpu, GUEST_IA32_PAT) = 0x0007040600070406;
    SLOT(cpu, GUEST_RFLAGS) = RFLAGS_RESERVED_1;
    SLOT(cpu, GUEST_DR7) = 0x400;
    cpu->s.dr6 = 0xffff0ff0;
    cpu->s.flush_tlb = FLUSH_ALL;
}

bool arch_can_restore(const arch_state *from) { return from->iret <= IRET_RUNS && from->decoded_class < CLASS_COUNT; }

void arch_restore(sc_cpu *cpu, const arch_state *from) {
    cpu->arch.state = *from;
    cpu->arch.state.data_hits &= 15;
}
