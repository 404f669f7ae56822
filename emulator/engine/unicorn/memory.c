/* Memory as Unicorn sees it: the hook on every access, while one is wanted, and what lies where there is no RAM. */
#include "state.h"

bool wants_memory_hook(const sc_cpu *cpu) { return cpu->time.parameters.is_detailed || has_data_breakpoints(cpu); }

/* Before an access that has a hook the engine stores RIP, so that the hook can ask for it. A far return in real or
 * virtual-8086 mode has stored the offset it popped there by the time it pops the selector: it would return to itself. So
 * its RIP is stored once more. */
static void redo_far_return(sc_cpu *cpu) {
    const block *b = cpu->time.current;
    uint32_t offset = 0;
    engine_peek(cpu);
    bool is_protected = (SLOT(cpu, GUEST_CR0) & CR0_PE) && !(SLOT(cpu, GUEST_RFLAGS) & RFLAGS_VM);
    if (is_protected || offset_in(cpu, b, linear_rip(cpu)) != b->far_return_at) return;
    linear_read(cpu, linear_of_stack(cpu, 0), &offset, b->far_return_bytes, ACCESS_PROBE);
    R64(RAW_EIP) = offset;
    uc_context_restore(cpu->port.uc, cpu->port.context);
}

static void on_memory(uc_engine *uc, uc_mem_type type, uint64_t hpa, int size, int64_t value, void *data) {
    (void)uc, (void)value;
    sc_cpu *cpu = data;
    access_memory(cpu, hpa, (unsigned)size, type == UC_MEM_WRITE);
    if (has_data_breakpoints(cpu)) note_data_access(cpu, hpa, (unsigned)size, type == UC_MEM_WRITE);
    if (cpu->time.current && cpu->time.current->far_return_bytes) redo_far_return(cpu);
}

/* Any memory hook makes the engine leave its fast path for every access, so it is there only while it is wanted. */
void engine_watch_memory(sc_cpu *cpu, bool watch) {
    if (watch == (cpu->port.memory_hook != 0)) return;
    if (watch)
        uc_hook_add(cpu->port.uc, &cpu->port.memory_hook, UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE, (void *)on_memory, cpu,
                    1, 0);
    else
        uc_hook_del(cpu->port.uc, cpu->port.memory_hook), cpu->port.memory_hook = 0;
    engine_forget_code(cpu); /* translated code does not see the change */
}

/* Unicorn walks page tables: where the RAM at `hpa`, or its own memory, lies here; NULL: it is neither. */
void *sc_ram(void *owner, uint64_t hpa) {
    sc_cpu *cpu = owner;
    if (!cpu) return NULL;   /* its layout is being verified */
    uint64_t last = hpa | 7; /* entries are aligned */
    if (last < cpu->low_end || (hpa >= cpu->high_start && last < cpu->high_end)) return cpu->memory + hpa;
    return hpa - ARENA < ARENA_BYTES ? cpu->port.arena + (hpa - ARENA) : NULL;
}

/* Where there is no RAM the platform answers. The hook cannot leave the block it was called from: what the access set off
 * (an interrupt, the end of the run) comes at the end of the block. */
static void mmio(sc_cpu *cpu, int operation, uint64_t hpa, unsigned size, uint64_t *value) {
    void *guard = lift_guard();
    sc_platform_callback(cpu->python, operation, hpa, size, value);
    watch(cpu);
    restore_guard(guard);
}

static uint64_t hole_read(sc_cpu *cpu, uint64_t hpa, unsigned size) {
    uint64_t value = ~0ull;
    mmio(cpu, PLATFORM_MMIO_READ, hpa, size, &value);
    return value;
}

static uint64_t on_hole_read(uc_engine *uc, uint64_t offset, unsigned size, void *data) {
    (void)uc;
    return hole_read(data, ((sc_cpu *)data)->low_end + offset, size);
}

static void on_hole_write(uc_engine *uc, uint64_t offset, unsigned size, uint64_t value, void *data) {
    (void)uc;
    mmio(data, PLATFORM_MMIO_WRITE, ((sc_cpu *)data)->low_end + offset, size, &value);
}

static uint64_t on_upper_hole_read(uc_engine *uc, uint64_t offset, unsigned size, void *data) {
    (void)uc;
    return hole_read(data, ((sc_cpu *)data)->high_end + offset, size);
}

static void on_upper_hole_write(uc_engine *uc, uint64_t offset, unsigned size, uint64_t value, void *data) {
    (void)uc;
    mmio(data, PLATFORM_MMIO_WRITE, ((sc_cpu *)data)->high_end + offset, size, &value);
}

/* Above the engine's own memory nobody answers. */
static uint64_t on_far_read(uc_engine *uc, uint64_t offset, unsigned size, void *data) {
    (void)uc, (void)offset, (void)size, (void)data;
    return ~0ull;
}

static void on_far_write(uc_engine *uc, uint64_t offset, unsigned size, uint64_t value, void *data) {
    (void)uc, (void)offset, (void)size, (void)value, (void)data;
}

static bool map_high(sc_cpu *cpu) {
    uint64_t start = cpu->high_start, end = cpu->high_end;
    return !uc_mem_map_ptr(cpu->port.uc, start, end - start, UC_PROT_ALL, cpu->memory + start) &&
           !uc_mmio_map(cpu->port.uc, end, ARENA - end, on_upper_hole_read, cpu, on_upper_hole_write, cpu);
}

bool map_memory(sc_cpu *cpu) {
    uint64_t low = cpu->low_end, behind = ARENA + ARENA_BYTES;
    bool has_high = cpu->high_end > cpu->high_start;
    uint64_t hole_end = has_high ? cpu->high_start : ARENA;
    return !uc_mem_map_ptr(cpu->port.uc, 0, low, UC_PROT_ALL, cpu->memory) &&
           !uc_mmio_map(cpu->port.uc, low, hole_end - low, on_hole_read, cpu, on_hole_write, cpu) &&
           (!has_high || map_high(cpu)) &&
           !uc_mmio_map(cpu->port.uc, behind, (1ull << 52) - behind, on_far_read, NULL, on_far_write, NULL);
}
