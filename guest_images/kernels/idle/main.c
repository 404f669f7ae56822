/* Claim: none; a domain that is there and does nothing, as the management domain of a host whose guests need none. It halts
 * with interrupts on, so it stays for ever, and its core is free.
 */
#include "guest.h"

void guest_main(void) {
    print("~ idle\n");
    for (;;) asm volatile("sti; hlt");
}
