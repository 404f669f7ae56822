/* Claim: a null sidecall is answered, many times over, and so is a null hypercall in its place when there is no sidecore
 * or it is switched off.
 */
#include "guest.h"
#include "sidecore.h"

#define COUNT 20

void guest_main(void) {
    bool has = sidecore_init(1);
    uint64_t first = read_tsc();
    for (unsigned i = 0; i < COUNT; i++) sidecore_null();
    uint64_t second = read_tsc();
    print("~ %s: %lu cycles each\n", has ? "sidecall" : "hypercall", (second - first) / COUNT);
    check_true("the null calls end", true);
}
