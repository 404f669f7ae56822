/* Debug registers (SDM 3B 18.2): MOV to and from them, and breakpoints. The engine itself has only single-stepping; its DR6
 * says that a #DB is one, the guest's own is in the shared struct.
 *
 *   DR7  31 30 | 29 28 | ... | 17 16 | 13 | 10 | 7 6 | ... | 1 0        kind: 0 instruction, 1 write, 2 port, 3 access
 *        length  kind   of 3    of 0   GD    1   enabled 3   of 0       length: bytes - 1, but 2 means 8
 *
 * A block that has a breakpoint on an instruction inside is run one instruction at a time, up to it.
 * While a breakpoint on data is enabled the memory hook is there and each instruction runs in a block of its own, so that
 * the trap comes right behind it: a guest is about a hundred times slower then.
 * MODEL: another linear address of the same memory hits it too; an access that crosses a page is seen in its first page
 * only; one that this project makes for the guest (event delivery, INS, OUTS) is not seen. No breakpoints on ports.
 */
#include "engine.h"

enum { DR7_GD = 1 << 13, DR7_ENABLES = 0xff, CR4_DE = 8 };
enum { ON_EXECUTE = 0, ON_WRITE = 1, ON_ACCESS = 3 };
static const uint8_t LENGTHS[4] = {1, 2, 8, 4};

bool has_breakpoints(const sc_cpu *cpu) { return SLOT(cpu, GUEST_DR7) & DR7_ENABLES; }

static bool is_on_data(uint64_t dr7, unsigned n) {
    unsigned kind = dr7 >> (16 + 4 * n) & 3;
    return (dr7 >> 2 * n & 3) && (kind == ON_WRITE || kind == ON_ACCESS);
}

bool has_data_breakpoints(const sc_cpu *cpu) {
    uint64_t dr7 = SLOT(cpu, GUEST_DR7);
    if (!(dr7 & DR7_ENABLES)) return false;
    return is_on_data(dr7, 0) || is_on_data(dr7, 1) || is_on_data(dr7, 2) || is_on_data(dr7, 3);
}

/* Breakpoints on instructions in the block that is about to run: at its start they are hit (the result), and `*inside`
 * tells whether there are others. */
unsigned code_breakpoints(const sc_cpu *cpu, uint64_t pc, uint32_t size, bool *inside) {
    uint64_t dr7 = SLOT(cpu, GUEST_DR7);
    unsigned hits = 0;
    for (unsigned n = 0; n < 4; n++) {
        if (!(dr7 >> 2 * n & 3) || (dr7 >> (16 + 4 * n) & 3) != ON_EXECUTE) continue;
        if (cpu->s.dr[n] == pc)
            hits |= 1u << n;
        else
            *inside |= cpu->s.dr[n] - pc < size;
    }
    return hits;
}

/* The guest accesses [linear, linear + bytes): note which breakpoints that hits. */
void note_data_access(sc_cpu *cpu, uint64_t linear, unsigned bytes, bool is_write) {
    uint64_t dr7 = SLOT(cpu, GUEST_DR7);
    for (unsigned n = 0; n < 4; n++) {
        if (!is_on_data(dr7, n) || (!is_write && (dr7 >> (16 + 4 * n) & 3) == ON_WRITE)) continue;
        unsigned length = LENGTHS[dr7 >> (18 + 4 * n) & 3];
        uint64_t watched = cpu->s.dr[n] & ~(uint64_t)(length - 1);
        if (watched - linear < bytes || linear - watched < length) cpu->arch.state.data_hits |= 1u << n;
    }
}

/* DR6 after a #DB: which breakpoints it was is not added to what earlier ones have left. */
void record_debug(sc_cpu *cpu, uint64_t payload) {
    if (payload & 15) cpu->s.dr6 &= ~15ull;
    cpu->s.dr6 |= payload;
    SLOT(cpu, GUEST_DR7) &= ~(uint64_t)DR7_GD;
}

static void write_debug_register(sc_cpu *cpu, unsigned number, uint64_t value) {
    if (number < 4)
        cpu->s.dr[number] = value;
    else if (number == 6)
        cpu->s.dr6 = (value & 0xe00f) | 0xffff0ff0;
    else
        SLOT(cpu, GUEST_DR7) = (value & 0xffff2bff) | 0x400;
}

/* MOV DR where no control makes it exit. */
void move_debug_register(sc_cpu *cpu, const instruction *in) {
    unsigned number = in->control_reg & 7, bytes = code_bits(cpu) == 64 ? 8 : 4;
    if (number == 4 || number == 5) {
        if (SLOT(cpu, GUEST_CR4) & CR4_DE) return raise_fault(cpu, INVALID_OPCODE, 0);
        number += 2;
    }
    if (SLOT(cpu, GUEST_DR7) & DR7_GD) return raise_debug(cpu, DR6_BD);
    if (in->to_control) {
        uint64_t value = gpr_read(cpu, in->reg);
        if (bytes == 4) value = (uint32_t)value;
        if (number >= 6 && value >> 32) return raise_fault(cpu, GENERAL_PROTECTION, 0);
        write_debug_register(cpu, number, value);
    } else {
        uint64_t value = number < 4 ? cpu->s.dr[number] : number == 6 ? cpu->s.dr6 : SLOT(cpu, GUEST_DR7);
        gpr_write(cpu, in->reg, value, bytes);
    }
    skip(cpu, in->length_bytes);
}
