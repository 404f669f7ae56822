/* Running the engine where it may end the process.
 *
 * It calls abort() when it translates LOCK BT, BTS, BTR or BTC with a register operand: it misses that they are no
 * instructions. Its state is that of the last block that ran, so leaving it by longjmp is safe; but it counts a nested run
 * that never returns, of which it allows 64, so it is opened anew before that (ABORTS_MAX).
 */
#include <setjmp.h>
#include <signal.h>
#include "state.h"

static _Thread_local sigjmp_buf *abort_target;
static struct sigaction abort_before;

static void on_abort(int number) {
    if (abort_target) siglongjmp(*abort_target, 1);
    sigaction(number, &abort_before, NULL); /* not ours: whoever was there before, when this returns */
    raise(number);
}

void catch_aborts(void) {
    struct sigaction ours = {.sa_handler = on_abort, .sa_flags = SA_NODEFER}, now;
    sigaction(SIGABRT, NULL, &now);
    if (now.sa_handler == on_abort) return;
    abort_before = now;
    sigaction(SIGABRT, &ours, NULL);
}

/* Run the engine; false: it cannot translate the block at RIP. */
bool start_guarded(sc_cpu *cpu, uc_err *ret) {
    sigjmp_buf here;
    if (sigsetjmp(here, 0)) {
        abort_target = NULL;
        return false;
    }
    abort_target = &here;
    *ret = uc_emu_start(cpu->port.uc, SLOT(cpu, GUEST_RIP), NOWHERE, 0, 0);
    abort_target = NULL;
    return true;
}

/* While a hook runs, an abort is not the engine's. Returns what restore_guard() takes. */
void *lift_guard(void) {
    sigjmp_buf *before = abort_target;
    abort_target = NULL;
    return before;
}

void restore_guard(void *before) { abort_target = before; }
