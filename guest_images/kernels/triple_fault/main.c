/* Claim: an exception that cannot be delivered, whose #DF cannot be delivered either, shuts the processor down: the run
 * ends there, without a debug exit. So the verdict is printed before; a line after it is the failure. SDM 3A 6.15,
 * "Interrupt 8".
 */
#include "guest.h"

void guest_main(void) {
    struct table_pointer empty = {0, 0};
    TRY("ud2", :);
    check_fault("with an IDT, #UD is delivered", VECTOR_UD, 0);
    idt_set_present(VECTOR_UD, false);
    idt_set_present(VECTOR_NP, false);
    TRY("ud2", :);
    check_fault("#UD, then #NP, then #DF is still delivered", VECTOR_DF, 0);
    print_verdict();
    asm volatile("lidt %0; ud2" : : "m"(empty));
    print("FAILURE the processor goes on after a triple fault\n");
}
