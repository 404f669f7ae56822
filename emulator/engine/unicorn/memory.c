/* Memory as Unicorn sees it: what every access tells, while that is wanted, and what lies where there is no RAM. */
#include "state.h"

bool wants_accesses(const sc_cpu *cpu) {
    return cpu->time.parameters.is_detailed || has_data_breakpoints(cpu) || cpu->port.places.tells_accesses;
}

/* A load or store is about to take place; `linear` may run into the next page, `hpa` not. */
void sc_access(void *owner, uint64_t hpa, uint64_t linear, uint64_t bytes, bool is_write) {
    sc_cpu *cpu = owner;
    access_memory(cpu, hpa, linear, (unsigned)bytes, is_write);
    if (cpu->port.places.tells_accesses) note_access(cpu, hpa, (unsigned)bytes, is_write);
    if (has_data_breakpoints(cpu)) note_data_access(cpu, linear, (unsigned)bytes, is_write);
}

/* Loads and stores that tell are calls, so they do it only while it is wanted. */
void engine_watch_memory(sc_cpu *cpu, bool watch) {
    if (watch == cpu->port.tells_accesses) return;
    cpu->port.tells_accesses = watch;
    sc_tell_accesses(cpu->port.uc, watch);
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
