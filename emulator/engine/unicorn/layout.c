/* Where Unicorn keeps a CPU's raw state: found and verified at start-up. */
#include <stdlib.h>
#include <string.h>
#include "state.h"

/* Find where the engine keeps an MSR: write two values, see which 8 bytes of the raw state follow both. */
static bool find_msr(sc_cpu *cpu, uint32_t index, uint64_t first, uint64_t second, size_t *ret) {
    size_t bytes = uc_context_size(cpu->port.uc) - (size_t)(cpu->port.raw - (uint8_t *)cpu->port.context);
    uint8_t *seen = malloc(bytes);
    int found = 0;
    for (int round = 0; seen && round < 2; round++) {
        uc_x86_msr msr = {.rid = index, .value = round ? second : first};
        uc_reg_write(cpu->port.uc, UC_X86_REG_MSR, &msr);
        uc_context_save(cpu->port.uc, cpu->port.context);
        found = 0;
        for (size_t at = 0; at + 8 <= bytes; at += 8) {
            bool match = R64(at) == msr.value && (!round || seen[at]);
            seen[at] = match;
            if (match) *ret = at, found++;
        }
    }
    free(seen);
    return found == 1;
}

#define CHECK(condition, what) \
    do {                       \
        if (!(condition)) {    \
            *problem = what;   \
            return false;      \
        }                      \
    } while (0)

/* Load known values by one VMRUN, and compare every raw field with them. */
bool verify_layout(sc_cpu *cpu, const char **problem) {
    static const uint8_t stub[] = {0x0f, 0x01, 0xd8}; /* VMRUN */
    uint8_t *vmcb = cpu->port.arena;
    uint64_t rax = ARENA, cr4 = 0x20;
    memcpy(vmcb + 0x000, (uint16_t[]){0x0111, 0x0119, 0x5a5a, 0xa5a5}, 8);
    memcpy(vmcb + 0x008, &(uint32_t){0xffffffff}, 4);
    memcpy(vmcb + 0x00c, &(uint64_t){0x7f0114c000}, 8);
    memcpy(vmcb + 0x040, &(uint64_t){ARENA + IO_MAP}, 8);
    memcpy(vmcb + 0x048, &(uint64_t){ARENA + MSR_MAP}, 8);
    memcpy(vmcb + 0x058, &(uint32_t){1}, 4);
    memcpy(vmcb + 0x090, &(uint64_t){1}, 8);
    memcpy(vmcb + 0x0b0, &(uint64_t){ARENA + NESTED}, 8);
    for (int i = 0; i < 4; i++) { /* ES CS SS DS */
        memcpy(vmcb + 0x400 + i * 16, (uint16_t[]){(uint16_t)(0x10 + i * 8), i == 1 ? 0xa9b : 0xc93}, 4);
        memcpy(vmcb + 0x404 + i * 16, &(uint32_t){0xfff00fff + ((uint32_t)i << 12)}, 4);
        memcpy(vmcb + 0x408 + i * 16, &(uint64_t){0x1000u * i}, 8);
    }
    memcpy(vmcb + 0x464, &(uint32_t){0x1234}, 4); /* GDTR, IDTR */
    memcpy(vmcb + 0x468, &(uint64_t){0x567000}, 8);
    memcpy(vmcb + 0x484, &(uint32_t){0x4321}, 4);
    memcpy(vmcb + 0x488, &(uint64_t){0x765000}, 8);
    uint64_t save[][2] = {{0x4d0, 0x1d00},   {0x548, 0x220},      {0x550, 0xabc000}, {0x558, 0x80000011},
                          {0x560, 0x400},    {0x568, 0xffff0ff0}, {0x570, 0x2},      {0x578, 0x123450},
                          {0x5d8, 0x543210}, {0x5f8, 0x998877}};
    for (size_t i = 0; i < sizeof save / sizeof save[0]; i++) memcpy(vmcb + save[i][0], &save[i][1], 8);
    memset(cpu->port.arena + MSR_MAP, 0xff, 0x2000);
    memcpy(cpu->port.arena + STUB, stub, sizeof stub);
    uc_context_save(cpu->port.uc, cpu->port.context);
    R32(RAW_HFLAGS) |= HF_SVME;
    uc_context_restore(cpu->port.uc, cpu->port.context);
    uc_reg_write(cpu->port.uc, UC_X86_REG_CR4, &cr4); /* PAE first: VMRUN loads CR0 before CR4 */
    uc_reg_write(cpu->port.uc, UC_X86_REG_RAX, &rax);
    uc_emu_start(cpu->port.uc, ARENA + STUB, NOWHERE, 0, 1); /* the first guest fetch fails: nothing is mapped there */
    uc_context_save(cpu->port.uc, cpu->port.context);
    CHECK(R64(RAW_VMCB) == ARENA, "vm_vmcb");
    CHECK(R64(RAW_INTERCEPT) == 0x7f0114c000, "intercept");
    CHECK(R16(RAW_CR_READ) == 0x0111 && R16(RAW_CR_WRITE) == 0x0119, "intercept_cr");
    CHECK(R16(RAW_DR_READ) == 0x5a5a && R16(RAW_DR_WRITE) == 0xa5a5, "intercept_dr");
    CHECK(R32(RAW_EXCEPTIONS) == 0xffffffff, "intercept_exceptions");
    CHECK(R64(RAW_NESTED_CR3) == ARENA + NESTED, "nested_cr3");
    CHECK((R32(RAW_HFLAGS2) & HF2_NPT) != 0, "hflags2");
    for (int i = 0; i < 4; i++) {
        size_t at = RAW_SEGS + i * SEGMENT_BYTES;
        CHECK(R32(at) == 0x10u + i * 8 && R64(at + SEGMENT_BASE) == 0x1000u * i, "segment");
        CHECK(R32(at + SEGMENT_FLAGS) == (i == 1 ? 0xa09b00u : 0xc09300u), "segment flags");
        CHECK(R32(at + SEGMENT_LIMIT) == 0xfff00fff + ((uint32_t)i << 12), "segment limit");
    }
    CHECK(R64(RAW_GDT + SEGMENT_BASE) == 0x567000 && R32(RAW_GDT + SEGMENT_LIMIT) == 0x1234, "gdt");
    CHECK(R64(RAW_IDT + SEGMENT_BASE) == 0x765000 && R32(RAW_IDT + SEGMENT_LIMIT) == 0x4321, "idt");
    CHECK(R64(RAW_CR) == 0x80000011 && R64(RAW_CR + 24) == 0xabc000 && R64(RAW_CR + 32) == 0x220, "cr");
    CHECK(R64(RAW_DR + 56) == 0x400 && R64(RAW_DR + 48) == 0xffff0ff0, "dr");
    CHECK(R64(RAW_EIP) == 0x123450 && R64(RAW_REGS + 32) == 0x543210 && R64(RAW_REGS) == 0x998877, "rip, rsp, rax");
    CHECK((R32(RAW_HFLAGS) & (HF_SVME | HF_GUEST | HF_LMA | HF_CS64 | HF_PE)) ==
              (HF_SVME | HF_GUEST | HF_LMA | HF_CS64 | HF_PE),
          "hflags");
    CHECK(R64(cpu->port.msr_at[MSR_AT_EFER]) == 0x1d00, "efer");
    return true;
}

bool find_raw_state(sc_cpu *cpu, const char **problem) {
    uint64_t rax = 0x1122334455667788, rcx = 0x99aabbccddeeff01, gsbase = 0x7a7a7a7a7000;
    size_t size = uc_context_size(cpu->port.uc);
    uc_reg_write(cpu->port.uc, UC_X86_REG_RAX, &rax);
    uc_reg_write(cpu->port.uc, UC_X86_REG_RCX, &rcx);
    uc_context_save(cpu->port.uc, cpu->port.context);
    for (size_t at = 0; at + RAW_END < size && !cpu->port.raw; at += 8)
        if (!memcmp((uint8_t *)cpu->port.context + at, (uint64_t[]){rax, rcx}, 16))
            cpu->port.raw = (uint8_t *)cpu->port.context + at;
    CHECK(cpu->port.raw, "registers");
    uc_reg_write(cpu->port.uc, UC_X86_REG_GS_BASE, &gsbase);
    uc_context_save(cpu->port.uc, cpu->port.context);
    CHECK(R64(RAW_SEGS + 5 * SEGMENT_BYTES + SEGMENT_BASE) == gsbase, "gs base");
    for (int i = 0; i < 8; i++) {
        bool efer = i == MSR_AT_EFER, narrow = i == MSR_AT_TSC_AUX || i == MSR_AT_SYSENTER_CS; /* 32 and 16 bits */
        uint64_t first = efer     ? 0x401
                         : narrow ? 0x5b01
                                  : 0x5b5b5b000000ull + i,
                 second = efer     ? 0xd01
                          : narrow ? 0x4c02
                                   : 0x4c4c4c000000ull + i;
        CHECK(find_msr(cpu, ENGINE_MSRS[i], first, second, &cpu->port.msr_at[i]), "an MSR");
    }
    return true;
}
