/* From entry.S to guest_main(), and the zero page for a PVH loader, which brings none. */
#include "guest.h"

/* Xen public/arch-x86/hvm/start_info.h, version 1. */
struct hvm_start_info {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, command_line, rsdp, memory_map;
    uint32_t memory_map_count, reserved;
};
struct hvm_memory {
    uint64_t address, size_bytes;
    uint32_t type, reserved;
};
#define HVM_START_MAGIC 0x336ec578

static struct boot_params pvh_params;
const struct boot_params *boot_params;
struct entry_state entry_state;

const struct boot_params *pvh_boot_params(const struct hvm_start_info *info);
const struct boot_params *pvh_boot_params(const struct hvm_start_info *info) {
    const struct hvm_memory *memory = (const void *)info->memory_map;
    if (info->magic != HVM_START_MAGIC || !info->version) return &pvh_params;
    for (; pvh_params.e820_count < info->memory_map_count && pvh_params.e820_count < 128; pvh_params.e820_count++)
        pvh_params.e820[pvh_params.e820_count] = (struct e820_entry){
            memory[pvh_params.e820_count].address,
            memory[pvh_params.e820_count].size_bytes,
            memory[pvh_params.e820_count].type,
        };
    pvh_params.command_line = (uint32_t)info->command_line;
    return &pvh_params;
}

bool on_tcg(void) {
    struct cpuid_result leaf = cpuid(0x40000000, 0);
    return leaf.ebx == 0x54474354 && leaf.ecx == 0x43544743 && leaf.edx == 0x47435447; /* TCGTCGTCGTCG */
}

static void note_entry_state(void) {
    asm volatile("movl %%cs, %k0; movl %%ds, %k1; movl %%es, %k2; movl %%ss, %k3"
                 : "=r"(entry_state.cs), "=r"(entry_state.ds), "=r"(entry_state.es), "=r"(entry_state.ss));
    entry_state.rflags = read_rflags();
    entry_state.cr0 = read_cr0();
    entry_state.cr3 = read_cr3();
    entry_state.cr4 = read_cr4();
    entry_state.efer = read_msr(MSR_EFER);
}

_Noreturn void guest_start(const struct boot_params *params);
_Noreturn void guest_start(const struct boot_params *params) {
    note_entry_state();
    boot_params = params;
    console_init();
    segments_init();
    traps_init();
    paging_init();
    pic_init();
    guest_main();
    finish();
}
