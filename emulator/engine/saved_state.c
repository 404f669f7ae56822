/* What of a CPU goes into a snapshot: all that its next instruction, or its time, depends on. One struct and the used part
 * of the engine's own memory, as bytes; they mean something only to the same version of this folder.
 *
 * Not in it: what is derived and comes back by itself (translated blocks, decoded instructions). MODEL: the engine's TLB
 * neither: a translation that the guest changed without flushing it is gone after a restore, as it may be on hardware.
 * No address of the workstation is in it, and nothing in it is used as an index unchecked.
 */
#include <string.h>
#include "engine.h"

typedef struct {
    sc_cpu_shared s;
    arch_state arch;
    saved_time time;
    saved_port port;
} saved_cpu;

uint64_t sc_saved_bytes(const sc_cpu *cpu) { return sizeof(saved_cpu) + cpu->port.arena_used_bytes; }

/* Not while the CPU runs. */
void sc_save(const sc_cpu *cpu, uint8_t *ret) {
    saved_cpu *to = (saved_cpu *)ret;
    memset(to, 0, sizeof *to);
    to->s = cpu->s;
    to->s.deadline_cycles = 0; /* each run has its own */
    to->arch = cpu->arch.state;
    time_keep(cpu, &to->time);
    engine_keep(cpu, &to->port, ret + sizeof *to);
}

/* Into a CPU that has not run, and has its timing. False: these are not the bytes of a CPU. */
bool sc_restore(sc_cpu *cpu, const uint8_t *bytes, uint64_t count) {
    const saved_cpu *from = (const saved_cpu *)bytes;
    if (count < sizeof *from) return false;
    bool is_possible = arch_can_restore(&from->arch) && time_can_restore(&from->time) &&
                       engine_can_restore(cpu, &from->port, count - sizeof *from);
    if (!is_possible) return false;
    cpu->s = from->s;
    arch_restore(cpu, &from->arch);
    time_restore(cpu, &from->time);
    engine_restore(cpu, &from->port, bytes + sizeof *from);
    return true;
}
