/* Claim: what CPUID does not offer is no instruction: #UD in ring 0 and in ring 3, whatever its operand. So is what a bit of
 * CR4, or VMX operation, must enable first. SDM 2A 3.1.1.16; 3C 26.1.2, 31.3.
 */
#include "guest.h"

/* CPUID's registers: leaf, register (0-3: EAX to EDX), bit; leaf NEVER: a bit of CR4 is clear, or VMX is off. */
#define NEVER 2

/* name, its bytes, where CPUID offers it; RBX is no place */
#define INSTRUCTIONS(X)                                              \
    X(aesenc, "0x66, 0x0f, 0x38, 0xdc, 0xc1", 1, 2, 25)              \
    X(pclmulqdq, "0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x00", 1, 2, 1)      \
    X(movbe, "0x0f, 0x38, 0xf0, 0x03", 1, 2, 22)                     \
    X(rdrand, "0x0f, 0xc7, 0xf0", 1, 2, 30)                          \
    X(adcx, "0x66, 0x0f, 0x38, 0xf6, 0xc1", 7, 1, 19)                \
    X(extrq, "0x66, 0x0f, 0x78, 0xc1, 0x01, 0x02", 0x80000001, 2, 6) \
    X(andn, "0xc4, 0xe2, 0x70, 0xf2, 0xc2", 7, 1, 3)                 \
    X(vaddps, "0xc5, 0xf0, 0x58, 0xc2", NEVER, 0, 0)                 \
    X(xgetbv, "0x0f, 0x01, 0xd0", NEVER, 0, 0)                       \
    X(rdfsbase, "0xf3, 0x48, 0x0f, 0xae, 0xc0", NEVER, 0, 0)         \
    X(invept, "0x66, 0x0f, 0x38, 0x80, 0x03", NEVER, 0, 0)           \
    X(invvpid, "0x66, 0x0f, 0x38, 0x81, 0x03", NEVER, 0, 0)          \
    X(vmread, "0x0f, 0x78, 0xc3", NEVER, 0, 0)                       \
    X(vmxoff, "0x0f, 0x01, 0xc4", NEVER, 0, 0)

#define AS_USER_CODE(name, bytes, leaf, reg, bit) USER_CODE(user_##name, ".byte " bytes "; nop");
INSTRUCTIONS(AS_USER_CODE)

static bool offers(uint32_t leaf, unsigned reg, unsigned bit) {
    struct cpuid_result r = cpuid(leaf & 0x80000000, 0);
    if (leaf == NEVER || r.eax < leaf) return false;
    r = cpuid(leaf, 0);
    uint32_t values[4] = {r.eax, r.ebx, r.ecx, r.edx};
    return values[reg] >> bit & 1;
}

void guest_main(void) {
#define CHECK(name, bytes, leaf, reg, bit)                                                \
    if (!offers(leaf, reg, bit)) {                                                        \
        TRY(".byte " bytes, : : "b"(1ul << 63), "c"(0ul) : "rax", "rdx", "memory", "cc"); \
        check_fault(#name " in ring 0", VECTOR_UD, 0);                                    \
        user_call((void *)user_##name, 0);                                                \
        check_fault(#name " in ring 3", VECTOR_UD, 0);                                    \
    }
    INSTRUCTIONS(CHECK)
}
