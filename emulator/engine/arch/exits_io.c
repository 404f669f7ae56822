/* IN, OUT, INS and OUTS: may the guest (SDM 1 19.5), does it exit (SDM 3C 26.1.3)? The engine checks nothing. */
#include "engine.h"

#define PRIMARY VMCS_PRIMARY_PROCESSOR_BASED_CONTROLS

/* The I/O permission check of the TSS (SDM 1 19.5.2), which the engine leaves out. */
static bool io_allowed(sc_cpu *cpu, uint16_t port, unsigned size) {
    unsigned iopl = SLOT(cpu, GUEST_RFLAGS) >> 12 & 3;
    if (!(SLOT(cpu, GUEST_CR0) & CR0_PE)) return true;
    if (cpl(cpu) <= iopl && !(SLOT(cpu, GUEST_RFLAGS) & RFLAGS_VM)) return true;
    uint64_t base = SLOT(cpu, GUEST_TR_BASE), limit = SLOT(cpu, GUEST_TR_LIMIT);
    uint16_t map = 0, bits = 0;
    if (!(SLOT(cpu, GUEST_TR_ACCESS_RIGHTS) & 8) || limit < 0x67)
        return false; /* only a 32-bit or 64-bit TSS has a map */
    if (linear_read(cpu, base + 0x66, &map, 2, ACCESS_SYSTEM).status != WALK_OK) return false;
    uint64_t at = (uint64_t)map + port / 8;
    if (at + 1 > limit) return false;
    if (linear_read(cpu, base + at, &bits, 2, ACCESS_SYSTEM).status != WALK_OK) return false;
    return !(bits >> (port & 7) & ((1u << size) - 1));
}

/* The engine touches the memory of INS and OUTS before it asks for the port; the processor checks the port first. */
bool io_denied(sc_cpu *cpu) {
    bool fetch = (engine_error_code(cpu) & 16) || fault_address(cpu) - linear_rip(cpu) < INSTRUCTION_BYTES_MAX;
    if (cpl(cpu) == 0 || fetch) return false;
    instruction in = decode(cpu);
    if (in.opcode[0] < 0x6c || in.opcode[0] > 0x6f || in.opcode[1]) return false;
    return !io_allowed(cpu, (uint16_t)gpr_read(cpu, RDX), in.opcode[0] & 1 ? in.operand_bytes : 1);
}

static bool io_exits(const sc_cpu *cpu, uint16_t port, unsigned size) {
    if (!control(cpu, PRIMARY, PROC_USE_IO_BITMAPS)) return control(cpu, PRIMARY, PROC_UNCONDITIONAL_IO_EXITING);
    if (port + size > 0x10000) return true;
    for (unsigned p = port; p < port + size; p++) {
        uint64_t at = cpu->s.vmcs[p < 0x8000 ? VMCS_IO_BITMAP_A_ADDRESS : VMCS_IO_BITMAP_B_ADDRESS] + (p & 0x7fff) / 8;
        if (!is_ram(cpu, at, 1) || (cpu->memory[at] >> (p & 7) & 1)) return true;
    }
    return false;
}

/* May `bytes` bytes at the memory operand be used as far as its segment goes (SDM 3A 5.3)? */
static bool is_in_segment(const sc_cpu *cpu, const instruction *in, unsigned bytes) {
    uint64_t last = in->offset + bytes - 1, rights = cpu->s.vmcs[VMCS_GUEST_ES_ACCESS_RIGHTS + in->segment];
    if (code_bits(cpu) == 64) {
        uint64_t linear = linear_of(cpu, in->segment, in->offset);
        return canonical(linear) && canonical(linear + bytes - 1);
    }
    uint64_t limit = cpu->s.vmcs[VMCS_GUEST_ES_LIMIT + in->segment];
    if ((rights & 0xc) == 4) return in->offset > limit && last <= (rights & AR_D ? 0xffffffff : 0xffff);
    return last <= limit;
}

/* MODEL: the engine has written zeros to the operand of an INS before it asks for the port; so it stays when #GP or a
 * VM exit keeps the INS from being done. */
void trap_io(sc_cpu *cpu) {
    uint16_t port = cpu->port.io.port;
    instruction in = decode(cpu);
    if (!in.id) return raise_fault(cpu, INVALID_OPCODE, 0);
    if (!io_allowed(cpu, port, cpu->port.io.size)) return raise_fault(cpu, GENERAL_PROTECTION, 0);
    uint64_t count_mask = in.address_bytes == 8 ? ~0ull : (1ull << 8 * in.address_bytes) - 1;
    bool moves = in.has_memory && (!in.rep || (gpr_read(cpu, RCX) & count_mask));
    if (moves && !is_in_segment(cpu, &in, cpu->port.io.size))
        return raise_fault(cpu, in.segment == SS ? STACK_FAULT : GENERAL_PROTECTION, 0);
    if (!io_exits(cpu, port, cpu->port.io.size)) return do_io(cpu, &in);
    bool immediate = in.opcode[0] >= 0xe4 && in.opcode[0] <= 0xe7;
    uint64_t qualification = (cpu->port.io.size - 1u) | cpu->port.io.in << 3 | in.has_memory << 4 |
                             (in.has_memory && in.rep) << 5 | immediate << 6 | (uint64_t)port << 16;
    if (in.has_memory) {
        unsigned size = in.address_bytes == 8 ? 2 : in.address_bytes == 4 ? 1 : 0;
        SLOT(cpu, GUEST_LINEAR_ADDRESS) = linear_of(cpu, in.segment, in.offset);
        SLOT(cpu, VM_EXIT_INSTRUCTION_INFORMATION) = size << 7 | (uint64_t)in.segment << 15;
    }
    vm_exit(cpu, EXIT_REASON_IO_INSTRUCTION, qualification, in.length_bytes);
}
