/* Events on their way to the guest: a VM exit, or delivery; and what comes of a fault on the way (SDM 3A 6.15).
 *
 *   raise_* --> does the exception bitmap ask for an exit? --no--> deliver --> deliver_once (delivery.c)
 *                                                                     ^            |
 *                                                                     +-- #DF <----+ fault: contributory rules, triple fault
 */
#include "engine.h"

/* SDM 3A table 6-5: which second exceptions make a double fault. */
static bool is_contributory(unsigned vector) { return vector < 32 && (CONTRIBUTORY_VECTORS >> vector & 1); }

bool deliver(sc_cpu *cpu, event e) {
    for (bool first = true;; first = false) {
        elapse_event(cpu, e);
        note_delivery(cpu, e);
        if (e.type == EVENT_NMI) SLOT(cpu, GUEST_INTERRUPTIBILITY_STATE) |= BLOCKING_BY_NMI;
        if (e.type == EVENT_HARDWARE_EXCEPTION && e.vector == PAGE_FAULT) cpu->s.cr2 = e.address;
        if (e.type != EVENT_EXTERNAL_INTERRUPT && e.type != EVENT_SOFTWARE_INTERRUPT && e.vector == DEBUG_EXCEPTION)
            record_debug(cpu, e.payload);
        outcome o = deliver_once(cpu, e);
        if (o.what == DONE) note_boundary(cpu);
        if (o.what == UNMAPPED) {
            set_vectoring(cpu, e);
            vm_exit_ept(cpu, o.walk, o.access, o.walk.hpa, true);
        }
        if (o.what == DONE && o.task_trap) raise_debug(cpu, DR6_BT);
        if (o.what != FAULT) return first && o.what == DONE;
        if (exception_exits(cpu, o.next)) {
            set_vectoring(cpu, e);
            vm_exit_event(cpu, o.next);
            return false;
        }
        bool exception = e.type == EVENT_HARDWARE_EXCEPTION || e.type == EVENT_SOFTWARE_EXCEPTION ||
                         e.type == EVENT_PRIVILEGED_SOFTWARE_EXCEPTION;
        if (exception && e.vector == DOUBLE_FAULT) {
            if (cpu->s.non_root) {
                vm_exit(cpu, EXIT_REASON_TRIPLE_FAULT, 0, 0);
            } else {
                cpu->s.shutdown = 1;
            }
            return false;
        }
        bool both =
            exception && ((is_contributory(e.vector) && is_contributory(o.next.vector)) ||
                          (e.vector == PAGE_FAULT && (is_contributory(o.next.vector) || o.next.vector == PAGE_FAULT)));
        if (both) {
            if (o.next.vector == PAGE_FAULT) cpu->s.cr2 = o.next.address;
            event df = {.vector = DOUBLE_FAULT, .type = EVENT_HARDWARE_EXCEPTION, .has_error = true};
            if (exception_exits(cpu, df)) {
                set_vectoring(cpu, e);
                vm_exit_event(cpu, df);
                return false;
            }
            e = df;
        } else {
            e = o.next;
        }
    }
}

bool pushes_error_code(unsigned vector) { return vector < 32 && (ERROR_CODE_VECTORS >> vector & 1); }

void raise_event(sc_cpu *cpu, event e) {
    if (exception_exits(cpu, e))
        vm_exit_event(cpu, e);
    else
        deliver(cpu, e);
}

void raise_fault(sc_cpu *cpu, unsigned vector, uint32_t error_code) {
    event e = {.vector = vector, .type = EVENT_HARDWARE_EXCEPTION, .error_code = error_code};
    e.has_error = pushes_error_code(vector);
    raise_event(cpu, e);
}

void raise_debug(sc_cpu *cpu, uint64_t payload) {
    event e = {.vector = DEBUG_EXCEPTION, .type = EVENT_HARDWARE_EXCEPTION, .payload = payload};
    raise_event(cpu, e);
}

/* May an external interrupt be delivered before the next instruction? */
bool window_open(const sc_cpu *cpu) {
    return (cpu->s.vmcs[VMCS_GUEST_RFLAGS] & RFLAGS_IF) &&
           !(cpu->s.vmcs[VMCS_GUEST_INTERRUPTIBILITY_STATE] & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS));
}
